"""How text lay in files is not seen any more: each text once, in parts by id, also against earlier generations."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import corpus.collect as collect_module
from corpus.collect import CollectConfig, collect, generations, part_bits, part_name
from corpus.document import Document, iterate_documents, partition_files, sort_documents, to_table
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder, open_folder
from tests.corpus.made import document, texts_of


def runs_of(store: Folder, *files: list[Document]) -> Artifact:
    """What `ingest` writes: runs sorted by id."""

    def made_runs(config: str, *, out: Output) -> Counts:
        for number, rows in enumerate(files):
            table = to_table(sort_documents(rows)).combine_chunks()
            with (
                out.writer(f"f{number}-0000.arrow") as path,
                pa.OSFile(str(path), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        rows = [d for f in files for d in f]
        return {"read": len(rows), "text_bytes": sum(len(d.text) for d in rows)}

    name = repr([[(d.text, d.file, d.position) for d in rows] for rows in files])
    return run_step(made_runs, name, store=store)


@pytest.fixture
def rows() -> list[Document]:
    return [document(f"Text number {i}.", file=f"{i % 7}.txt", position=i) for i in range(500)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "SMALL_PART", 1000)


def test_every_text_is_kept_once_with_its_first_place(store: Folder, rows: list[Document]) -> None:
    again = [document(d.text, file="0.txt", position=1000 + n) for n, d in enumerate(rows[:50])]
    made = run_step(collect, CollectConfig(), store=store, documents=runs_of(store, rows, again))
    assert made.counts == {"read": 550, "kept": 500, "exact_duplicate": 50, "in_history": 0}
    found = {d.text: (d.file, d.position) for d in iterate_documents(made)}
    first = {d.text: min((e.file, e.position) for e in rows + again if e.text == d.text) for d in rows}
    assert found == first
    others = pa.concat_tables(
        pq.read_table(made.path(n)) for n in made.names() if n.endswith(".repeated.parquet")
    )
    assert len(others) == 50
    assert not {(r["file"], r["position"]) for r in others.to_pylist()} & set(found.values())


def test_a_part_holds_its_range_of_ids_sorted(store: Folder, rows: list[Document]) -> None:
    made = run_step(collect, CollectConfig(), store=store, documents=runs_of(store, rows))
    names = partition_files(made)
    assert len(names) == 8
    ids = [d.id for d in iterate_documents(made)]
    assert ids == sorted(ids)
    for number, name in enumerate(names):
        assert {id[0] >> 5 for id in pq.read_table(made.path(name))["id"].to_pylist()} == {number}


def test_splitting_renaming_and_reordering_files_changes_no_text(
    tmp_path: Path, rows: list[Document]
) -> None:
    def texts(name: str, *files: list[Document]) -> dict[str, list[str]]:
        store = open_folder(tmp_path / name)
        made = run_step(collect, CollectConfig(), store=store, documents=runs_of(store, *files))
        return {n: pq.read_table(made.path(n))["text"].to_pylist() for n in partition_files(made)}

    whole = texts("whole", rows)
    renamed = [d._replace(file=f"new-{d.file}") for d in rows]
    assert texts("split", rows[:100], rows[100:]) == whole
    assert texts("reordered", rows[300:], rows[:300]) == whole
    assert texts("renamed", renamed) == whole


def test_history_is_never_repeated_nor_touched(store: Folder, rows: list[Document]) -> None:
    first = run_step(collect, CollectConfig(), store=store, documents=runs_of(store, rows[:200]))
    before = first.manifest.content
    second = run_step(
        collect, CollectConfig(), store=store, documents=runs_of(store, rows[100:300]), previous=first
    )
    third = run_step(
        collect, CollectConfig(), store=store, documents=runs_of(store, rows[50:]), previous=second
    )
    assert second.counts == {"read": 200, "kept": 100, "exact_duplicate": 0, "in_history": 100}
    assert third.counts["kept"] == 200
    assert first.manifest.content == before
    assert [a.digest for a in generations(third)] == [a.digest for a in (first, second, third)]
    assert sorted(texts_of(first) + texts_of(second) + texts_of(third)) == sorted(d.text for d in rows)


def test_the_number_of_parts_follows_the_amount_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [part_bits(size << 20) for size in (0, 1, 4, 30, 32, 800, 1024, 2048, 1 << 20)] == [
        0, 0, 1, 4, 4, 4, 4, 5, 14,
    ]  # fmt: skip
    assert [part_name(3, 2), part_name(0, 0), part_name(255, 9)] == ["p3", "p0", "p0ff"]
