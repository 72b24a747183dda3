"""`store` here is every kind of store in turn: the same test functions run over a local folder and over S3."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import s3
from infra.storage import Folder, open_folder
from tests.infra.s3_server import KEYS, FaultProxy, S3Server


@pytest.fixture
def s3_settings(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The environment points at the server; the download cache is this test's own."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("CLOZE_CACHE", str(tmp_path / "cache"))
    return s3_server


@pytest.fixture
def s3_store(s3_settings: S3Server) -> Folder:
    """An empty S3 folder below a prefix, in a bucket of its own."""
    bucket = f"test-{secrets.token_hex(6)}"
    s3.client().create_bucket(Bucket=bucket)
    return open_folder(f"s3://{bucket}/some/prefix")


@pytest.fixture
def proxy(s3_store: Folder, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """From here on, requests pass a proxy that can be told to break them."""
    proxy = FaultProxy(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(s3, "FIRST_WAIT_SECONDS", 0.01)
    yield proxy
    proxy.stop()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "s3":
        return request.getfixturevalue("s3_store")
    return open_folder(tmp_path / "store")
