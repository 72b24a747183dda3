"""Fixtures every room may use: a local store, the shared data (or a stated skip)."""

import os
from pathlib import Path

import pytest

from infra.storage import Folder, open_folder


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
