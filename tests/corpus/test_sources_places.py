"""Folders, files, globs and buckets: found lazily, in a stated order, and opened again by name on any machine."""

import os
import secrets
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.json_lines import JsonLines
from corpus.sources.places import Place, list_files, open_file, place
from corpus.sources.source import FoundFile, fingerprint
from corpus.sources.text_files import TextFiles
from infra import s3
from infra.storage import StoreUnreachable
from tests.corpus.source_kit import read, write
from tests.infra.s3_server import KEYS, S3Server

FILES = {
    "a.txt": b"a",
    "b/c.txt": b"bc",
    "b/d/e.jsonl": b"{}",
    "b/d/[f].txt": b"bdf",
    "z.TXT": b"z",
    ".hidden/g.txt": b"g",
    "b/.h.txt": b"h",
}


def names(folder: str, *patterns: str) -> list[str]:
    return [f.name for f in list_files(place(folder, patterns or ("**/*",)), every=False)]


def test_a_folder_a_file_and_a_glob_name_files(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    root = str(tmp_path)
    assert list(list_files(place(root, ("**/*",)), every=True)) == [
        FoundFile("", "a.txt", 1),
        FoundFile("", "b/c.txt", 2),
        FoundFile("", "b/d/[f].txt", 3),
        FoundFile("", "b/d/e.jsonl", 2),
        FoundFile("", "z.TXT", 1),
    ]
    assert names(root, "*.txt") == ["a.txt"]
    assert names(f"{root}/") == names(root)
    assert names(f"{root}/a.txt") == ["a.txt"]
    assert names(f"{root}/b/d/[f].txt") == ["[f].txt"], "a file with that very name comes before a glob"
    assert names(f"{root}/**/*.txt") == ["a.txt", "b/c.txt", "b/d/[f].txt"]
    assert names(f"{root}/b/*/*") == ["d/[f].txt", "d/e.jsonl"]
    assert names(f"{root}/?/[a-c].*") == ["b/c.txt"]
    assert names(f"{root}/?/[!a-b].*") == ["b/c.txt"]
    assert names(f"{root}/**/.h.txt") == ["b/.h.txt"]
    assert names(f"{root}/b/**") == ["c.txt", "d/[f].txt", "d/e.jsonl"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["**", "*", "?", "b", "d", "*.txt", "[a-e].*", "[!a]*", "e.jsonl"]),
        min_size=1,
        max_size=4,
    )
)
def test_globs_mean_what_they_mean_to_pathlib(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "globs"
    if not root.exists():
        write(root, FILES)
    pattern = "/".join(parts) if parts[-1] != "**" else "/".join([*parts, "*"])
    expected = {
        p.relative_to(root).as_posix()
        for p in root.glob(pattern)
        if p.is_file() and "/." not in f"/{p.relative_to(root)}"
    }
    try:
        found = names(str(root), pattern)
    except ValueError:
        found = []
    assert set(found) == expected
    assert len(found) == len(expected)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path, {"real/a.txt": b"a", "text/b.txt": b"b"})
    (tmp_path / "text" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "text" / "up").symlink_to(tmp_path / "text")
    (tmp_path / "text" / "nowhere.txt").symlink_to(tmp_path / "missing")
    os.mkfifo(tmp_path / "text" / "pipe.txt")
    where = place(str(tmp_path / "text"), ("**/*",))
    assert [f.name for f in list_files(where, every=False)] == ["b.txt", "linked/a.txt", "nowhere.txt"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        open_file(where, "nowhere.txt")


def test_names_that_are_no_text_are_spelled_and_found_again(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    (tmp_path / "né.txt").write_bytes(b"y")
    where = place(str(tmp_path), ("**/*",))
    found = [f.name for f in list_files(where, every=False)]
    assert sorted(found) == ["caf\\xe9.txt", "né.txt"]
    assert "".join(found).encode(), "fit for JSON"
    for name, content in zip(sorted(found), (b"x", b"y"), strict=True):
        with open_file(where, name) as stream:
            assert stream.read() == content


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"folder": "missing"},
            "source 'text-files' cannot be listed: folder '.*missing' does not exist; give an existing one",
        ),
        (
            {"folder": "empty"},
            r"source 'text-files' finds no file: '\*\*/\*' matches nothing in .*empty; correct the pattern",
        ),
        ({"folder": ".", "patterns": ("*.txt", "*.text")}, r"finds no file: '\*\.text' matches nothing in"),
        ({"folder": "*.text"}, r"finds no file: '\*\.text' matches nothing in"),
    ],
)
def test_what_finds_nothing_is_one_sentence(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    write(tmp_path, {"a.txt": b"a"})
    (tmp_path / "empty").mkdir()
    folder = str(tmp_path / str(settings.pop("folder")))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        list(TextFiles(folder=folder, **settings).files())  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_a_folder_that_cannot_be_read_is_named_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a/x.txt": b"x", "b/y.txt": b"y", "c/z.txt": b"z"})
    real = os.scandir

    def refuse(path: str) -> object:  # a test may run as root, whom no folder refuses
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = TextFiles(folder=str(tmp_path))
    assert [f.name for f in source.files()] == ["a/x.txt", "b", "c/z.txt"]
    with pytest.raises(OSError, match="b'"):
        source.open("", "b")


def test_a_file_that_vanishes_or_changes_between_listing_and_reading_shows(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"First.", "b.txt": b"Second."})
    source = TextFiles(folder=str(tmp_path))
    listed = {}
    for root, name, *_ in source.files():
        with source.open(root, name) as stream:
            listed[name] = fingerprint(stream)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").write_bytes(b"Other..")
    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        source.open("", "a.txt")
    with source.open("", "b.txt") as stream:
        assert fingerprint(stream) != listed["b.txt"]


def test_twenty_thousand_tiny_files_are_listed_in_order_lazily_and_quickly(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}").mkdir()
        for j in range(1000):
            os.close(os.open(tmp_path / f"{i:02}" / f"{j:04}.txt", os.O_CREAT | os.O_WRONLY))
    source = TextFiles(folder=str(tmp_path))
    begun = time.process_time()
    listing = source.files()
    assert next(listing).name == "00/0000.txt"
    first = time.process_time() - begun
    rest = [f.name for f in listing]
    every = time.process_time() - begun
    assert len(rest) == 19_999
    assert rest == sorted(rest)
    assert first < every / 4, "the first comes before the last folder was looked at"
    assert every < 2, f"{every:.2f} s of CPU time"


def test_where_files_lie_does_not_name_a_result(tmp_path: Path) -> None:
    assert TextFiles(folder="here") == TextFiles(folder="s3://bucket/there/*.gz", patterns=("*.gz",))
    assert TextFiles(folder="here") != TextFiles(folder="here", text_field="content")
    for bad in ({"folder": ""}, {"folder": "x", "patterns": ()}, {"folder": "x", "max_document_bytes": 0}):
        with pytest.raises(ValueError, match="of source 'text-files' is"):
            TextFiles(**bad)  # type: ignore[arg-type]


# --- the same in a bucket


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    name = f"test-{secrets.token_hex(6)}"
    s3.client().create_bucket(Bucket=name)
    for key, data in FILES.items():
        s3.client().put_object(Bucket=name, Key=f"some/prefix/{key}", Body=data)
    s3.client().put_object(Bucket=name, Key="some/prefix/folder/", Body=b"")
    s3.client().put_object(Bucket=name, Key="some/prefixes/other.txt", Body=b"")
    return name


def test_a_bucket_is_listed_like_a_folder(bucket: str, tmp_path: Path) -> None:
    write(tmp_path, FILES)
    for pattern in ("", "/**/*.txt", "/*.txt", "/b/*/*", "/?/[a-c].*", "/b/**"):
        assert names(f"s3://{bucket}/some/prefix{pattern}") == names(f"{tmp_path}{pattern}")
    assert names(f"s3://{bucket}/some/prefix/a.txt") == ["a.txt"]
    assert names(f"s3://{bucket}/some/prefix/", "*.txt") == ["a.txt"]
    assert len(names(f"s3://{bucket}")) == 6
    where = place(f"s3://{bucket}/some/prefix/**/*.txt", ())
    assert where == Place(f"s3://{bucket}/some/prefix", ("**/*.txt",))
    with open_file(where, "b/c.txt") as stream:
        assert stream.read() == b"bc"
    with pytest.raises(FileNotFoundError, match=r"some/prefix/b/gone\.txt"):
        open_file(where, "b/gone.txt")


def test_documents_come_out_of_a_bucket_as_from_a_folder(bucket: str, tmp_path: Path) -> None:
    rows = b"".join(b'{"text": "Row %d of many."}\n' % i for i in range(3000))
    write(tmp_path, {"rows.jsonl": rows})
    s3.client().put_object(Bucket=bucket, Key="in/rows.jsonl", Body=rows)
    local, dropped = read(JsonLines(folder=str(tmp_path)))
    assert len(local) == 3000
    assert read(JsonLines(folder=f"s3://{bucket}/in/*.jsonl"))[0] == local
    assert not dropped


@pytest.mark.parametrize(
    ("missing", "message"),
    [("bucket", "there is no bucket"), ("rights", "AccessDenied"), ("server", "cannot be reached")],
)
def test_a_bucket_that_cannot_be_read_is_one_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    monkeypatch.setattr(s3, "FIRST_WAIT_SECONDS", 0.01)
    if missing == "bucket":
        bucket += "-not-there"
    elif missing == "rights":
        monkeypatch.setattr(s3, "_client", lambda *_: _Refusing())
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable, match=message) as raised:
        list(TextFiles(folder=f"s3://{bucket}/some").files())
    assert "\n" not in str(raised.value)


class _Refusing:
    def list_objects_v2(self, **_: object) -> object:
        from botocore.exceptions import ClientError

        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "ListObjectsV2")  # type: ignore[arg-type]
