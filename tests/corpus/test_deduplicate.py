"""One document for one text, the same one however the corpus is cut."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.deduplicate import DeduplicateConfig, deduplicate
from corpus.document import Document, document_id, iterate_documents, sort_documents, to_table, write_table
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder, open_folder


def document(text: str, file: str, position: int = 1) -> Document:
    return Document(document_id(text), text, f"{file}:{position}", "made-up", file, position, "en")


def artifact(store: Folder, parts: list[list[Document]]) -> Artifact:
    def made_up_documents(config: dict[str, object], *, out: Output) -> Counts:
        for i, part in enumerate(parts):
            with out.writer(f"{i:02d}.parquet") as path:
                write_table(path, to_table(sort_documents(part)))
        return {"kept": sum(map(len, parts))}

    key = {"parts": [[[d.text, d.file, d.position] for d in p] for p in parts]}
    return run_step(made_up_documents, key, store=store)


def test_the_first_by_source_file_and_position_stays_and_the_others_are_listed(store: Folder) -> None:
    parts = [
        [document("same", "z.py", 9), document("other", "b.py")],
        [document("same", "a.py", 7), document("same", "a.py", 3)],
        [],
    ]
    unique = run_step(deduplicate, DeduplicateConfig(), store=store, documents=artifact(store, parts))
    assert unique.counts == {"read": 4, "kept": 2, "exact_duplicate": 2}
    assert {(d.text, d.file, d.position) for d in iterate_documents(unique)} == {
        ("same", "a.py", 3),
        ("other", "b.py", 1),
    }
    assert unique.names() == ["00.parquet", "01.parquet", "02.parquet", "removed.parquet"]
    removed = pq.read_table(unique.path("removed.parquet")).to_pylist()
    assert [(r["removed_title"], r["kept_title"]) for r in removed] == [
        ("a.py:7", "a.py:3"),
        ("z.py:9", "a.py:3"),
    ]
    assert {r["id"] for r in removed} == {document_id("same")}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.integers(1, 3)),
        min_size=1,
        max_size=20,
        unique=True,
    ),
    st.integers(1, 4),
)
def test_how_the_corpus_is_cut_does_not_change_what_stays(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]], cuts: int
) -> None:
    store = open_folder(tmp_path_factory.mktemp("store"))
    documents = [document(*row) for row in rows]
    results = []
    for parts in ([documents], [documents[i::cuts][::-1] for i in range(cuts)]):
        unique = run_step(deduplicate, DeduplicateConfig(), store=store, documents=artifact(store, parts))
        results.append((sorted(iterate_documents(unique)), unique.counts, unique.read("removed.parquet")))
    assert results[0] == results[1]
    kept = results[0][0]
    assert {d.text for d in kept} == {r[0] for r in rows}
    assert len(kept) == len({d.id for d in kept})
    assert all(d[3:6] == min(o[3:6] for o in documents if o.text == d.text) for d in kept)


def test_a_corpus_without_documents_stays_without(store: Folder) -> None:
    unique = run_step(deduplicate, DeduplicateConfig(), store=store, documents=artifact(store, [[], []]))
    assert unique.counts == {"read": 0, "kept": 0, "exact_duplicate": 0}


def test_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    parts = [[document("same", "z.py"), document("other", "b.py")], [document("same", "a.py")]]
    contents = []
    for name in ("one", "two"):
        store = open_folder(tmp_path / name)
        unique = run_step(deduplicate, DeduplicateConfig(), store=store, documents=artifact(store, parts))
        contents.append(unique.manifest.content)
    assert contents[0] == contents[1]
