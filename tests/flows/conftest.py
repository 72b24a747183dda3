"""One Prefect server for the whole session, as a run would start it; costs about ten seconds once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import api


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with api.prefect_api(home):
        yield home
