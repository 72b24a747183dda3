"""Fixtures every room may use: a local store, the shared data (or a stated skip)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from infra.storage import Folder, open_folder
from tests.infra.s3_server import S3Server

# The same examples at every run, so that what passed here passes there; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("cloze", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "cloze"))


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    """An empty local store."""
    return open_folder(tmp_path / "store")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared corpora; tests that need them skip where they are absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CLOZE_SHARED_DATA", default))
    if not (path / "MANIFEST.tsv").exists():
        pytest.skip(f"shared data not found at {path}; set CLOZE_SHARED_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server process on loopback."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.stop()
