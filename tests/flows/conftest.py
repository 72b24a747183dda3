"""One Prefect server for each file that needs one, as a run would start it; costs about ten seconds. (One for a whole session was
gone by the time the last file asked for it, once, on a busy machine.)
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import api


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with api.prefect_api(home):
        yield home
