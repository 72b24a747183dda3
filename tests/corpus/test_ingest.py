"""What is listed is what is read; content decides, and nothing is lost without a name."""

import secrets
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

import corpus.ingest as ingest_module
from corpus.clean import CleanConfig
from corpus.collect import read_run
from corpus.document import SCHEMA, Document, document_id
from corpus.ingest import (
    IngestConfig,
    find_files,
    ingest,
    list_sources,
    listed_files,
    listing,
    listing_of,
    partitions,
)
from corpus.sources.python_docs import PythonDocs
from corpus.sources.text_files import TextFiles
from infra import s3
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.storage import Folder
from tests.infra.s3_server import KEYS, S3Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "text"
    root.mkdir()
    for i in range(20):
        (root / f"{i}.txt").write_text(f"This is text number {i}.\r\n\r\nIt has two paragraphs.")
    (root / "short.txt").write_text("tiny")
    (root / "binary.txt").write_bytes(b"\0" * 30)
    return root


def config_of(folder: Path, **changes: object) -> IngestConfig:
    return IngestConfig(sources=(TextFiles(folder=str(folder)),), **changes)  # type: ignore[arg-type]


def ingested(store: Folder, config: IngestConfig) -> Artifact:
    listed = run_step(list_sources, listing(config), store=store)
    return run_step(ingest, config, store=store, listing=listed)


def documents_in(ingested: Artifact) -> list[Document]:
    tables = [read_run(ingested.path(name)) for name in ingested.names()]
    return [Document(**row) for table in tables for row in table.to_pylist()]


def test_documents_are_normalised_counted_and_sorted_by_id(store: Folder, folder: Path) -> None:
    documents = ingested(store, config_of(folder))
    assert documents.counts == {
        "files": 22,
        "read": 21,
        "text_bytes": documents.counts["text_bytes"],
        "binary": 1,
    }
    assert read_run(documents.path(documents.names()[0])).schema == SCHEMA
    rows = documents_in(documents)
    assert documents.counts["text_bytes"] == sum(len(r.text.encode()) for r in rows)
    assert [r.id for r in rows] == sorted(r.id for r in rows)
    row = next(r for r in rows if r.file == "3.txt")
    assert row == (
        document_id(row.text),
        "This is text number 3.\nIt has two paragraphs.",
        "3.txt",
        "text-files",
        "3.txt",
        1,
        "und",
    )


def test_the_listing_changes_exactly_when_names_or_contents_do(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder)
    before = listing(config)
    assert before.files == 22
    for path in folder.iterdir():
        path.touch()
    assert listing(config) == before
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert listing(config_of(moved)) == before
    (folder / "3.txt").write_text("Another text altogether.")
    changed = listing(config)
    assert changed.sha256 != before.sha256
    (moved / "4.txt").rename(moved / "four.txt")
    assert listing(config_of(moved)).sha256 not in (before.sha256, changed.sha256)


def test_the_order_of_files_means_nothing(folder: Path) -> None:
    files = find_files(config_of(folder))
    assert listing_of(files[::-1]) == listing_of(files)
    assert partitions(files[::-1]) == partitions(files)


def test_partitions_hold_every_file_once_and_depend_on_content_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_files(config_of(folder))
    monkeypatch.setattr(ingest_module, "PARTITION_BYTES", sum(f.size for f in files) // 5)
    parts = partitions(files)
    assert 1 < len(parts) <= 8
    assert sorted(f for part in parts for f in part) == files
    assert {f.sha256[0] for f in parts[0]} <= set("01")  # the leading three bits


def test_cutting_differently_reads_the_same_documents(
    store: Folder, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from infra.storage import open_folder

    config = config_of(folder)
    whole = sorted(documents_in(ingested(store, config)))
    monkeypatch.setattr(ingest_module, "PARTITION_BYTES", 100)
    many = ingested(open_folder(tmp_path / "other"), config)
    assert len(many.names()) > 5
    assert sorted(documents_in(many)) == whole


@pytest.mark.parametrize("what", ["changes", "vanishes"])
def test_a_file_that_changes_after_it_was_listed_is_named(store: Folder, folder: Path, what: str) -> None:
    config = config_of(folder)
    files = find_files(config)
    listed = run_step(list_sources, listing_of(files), store=store)
    assert listed_files(listed) == files
    if what == "changes":
        (folder / "3.txt").write_text("Changed.")
    else:
        (folder / "3.txt").unlink()
    with pytest.raises(Exception, match=r"3\.txt of source 'text-files' .*run the same command again"):
        run_step(ingest, config, store=store, listing=listed)


def test_a_share_keeps_some_files_by_content(folder: Path) -> None:
    every = find_files(config_of(folder))
    some = find_files(config_of(folder, share=0.5))
    assert 0 < len(some) < len(every)
    assert set(some) < set(every)


def test_files_without_a_document_are_counted_by_reason(store: Folder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0binary")
    (tmp_path / "b.txt").write_bytes(b"")
    documents = ingested(store, config_of(tmp_path))
    assert documents.counts == {"files": 2, "read": 0, "text_bytes": 0, "binary": 1, "empty": 1}


def test_configs_that_cannot_work_are_refused(folder: Path) -> None:
    source = TextFiles(folder=str(folder))
    for bad in ({"sources": ()}, {"sources": (source, source)}, {"share": 0.0}, {"share": 2.0}):
        with pytest.raises(ValueError, match=r"sources is empty|two sources share a name|share is"):
            IngestConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hold no file; check them, or raise share"):
        find_files(config_of(folder, share=1e-9))


def test_python_documentation_is_ingested_like_any_source(store: Folder) -> None:
    config = IngestConfig(sources=(PythonDocs(distributions=("packaging",), standard_library=False),))
    documents = ingested(store, config)
    rows = documents_in(documents)
    assert documents.counts["read"] == len(rows) > 50
    assert "packaging.version.Version" in {d.title for d in rows}
    assert all(d.source == "python-docs" and d.language == "en" for d in rows)


def test_memory_is_bounded_by_runs_and_they_change_no_document(
    store: Folder, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from infra.storage import open_folder

    whole = sorted(documents_in(ingested(store, config_of(folder))))
    monkeypatch.setattr(ingest_module, "RUN_BYTES", 200)
    small = ingested(open_folder(tmp_path / "other"), config_of(folder))
    assert len(small.names()) > 3
    assert all(len(read_run(small.path(n))) <= 6 for n in small.names())
    assert sorted(documents_in(small)) == whole


def test_a_file_that_is_cut_off_gives_what_is_whole_and_is_named(
    store: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import gzip

    lines = "".join(f'{{"text": "Line number {i} of a file."}}\n' for i in range(5000)).encode()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    documents = ingested(store, config_of(tmp_path))
    assert documents.counts["truncated"] == 1
    assert 1000 < documents.counts["read"] < 5000
    assert "cut.jsonl.gz" in caplog.text


def test_personal_data_is_masked_before_a_document_has_its_name(store: Folder, tmp_path: Path) -> None:
    from corpus.pii import ALL

    (tmp_path / "a.txt").write_text("Write to anna.berg@posteo.de for the notes of the meeting.")
    config = config_of(tmp_path, clean=CleanConfig(mask_pii=ALL))
    documents = ingested(store, config)
    (row,) = documents_in(documents)
    assert "posteo" not in row.text
    assert row.id == document_id(row.text)
    assert sum(v for k, v in documents.counts.items() if k.startswith("masked_")) == 1


def test_a_table_without_documents_has_the_schema() -> None:
    from corpus.document import to_table

    assert to_table([]).schema == SCHEMA
    assert isinstance(to_table([]), pa.Table)


def test_a_bucket_is_listed_without_reading_it_and_a_replaced_object_is_named(
    store: Folder, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        **KEYS,
        "AWS_ENDPOINT_URL": s3_server.url,
        "CLOZE_CACHE": str(tmp_path / "c"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"text-{secrets.token_hex(4)}"
    s3.client().create_bucket(Bucket=bucket)
    for i in range(3):
        s3.client().put_object(
            Bucket=bucket, Key=f"in/{i}.txt", Body=f"Text number {i} of a bucket.".encode()
        )
    config = IngestConfig(sources=(TextFiles(folder=f"s3://{bucket}/in"),))
    with monkeypatch.context() as closed:
        closed.setattr(TextFiles, "open", lambda *_: pytest.fail("a listing opened an object"))
        listed = run_step(list_sources, listing(config), store=store)
    assert [d.text for d in documents_in(run_step(ingest, config, store=store, listing=listed))] != []
    renamed = {f.content for f in listed_files(listed)}
    s3.client().put_object(Bucket=bucket, Key="in/other.txt", Body=b"Text number 1 of a bucket.")
    assert {f.content for f in find_files(config)} == renamed, "the same content under another name"
    s3.client().put_object(Bucket=bucket, Key="in/1.txt", Body=b"Replaced.")
    wider = IngestConfig(sources=config.sources, share=0.999)
    with pytest.raises(Exception, match=r"1\.txt of source 'text-files' changed after it was listed"):
        run_step(ingest, wider, store=store, listing=listed)
