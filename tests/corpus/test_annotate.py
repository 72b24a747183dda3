"""Row n of the attributes belongs to row n of the documents, whatever else is in the part."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.annotate import AnnotateConfig, annotate
from corpus.document import Document, document_id, sort_documents, to_table, write_table
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder, open_folder

ENGLISH = "This is a document about the weather, and it is written in English."
GERMAN = "Dieser Text handelt vom Wetter und ist auf Deutsch geschrieben worden."
CODE = "for (i = 0; i < n; i++) { a[i] = f(b[i]); }\n" * 4


def document(text: str, language: str = "und") -> Document:
    return Document(document_id(text), text, "a title", "made-up", "file.txt", 1, language)


def artifact(store: Folder, parts: list[list[Document]]) -> Artifact:
    def made_up_documents(config: dict[str, object], *, out: Output) -> Counts:
        for i, part in enumerate(parts):
            with out.writer(f"p{i:03d}.parquet") as path:
                write_table(path, to_table(sort_documents(part)))
        return {"kept": sum(map(len, parts))}

    key = {"parts": [[[d.text, d.title, d.language] for d in p] for p in parts]}
    return run_step(made_up_documents, key, store=store)


PARTS = [
    [document(ENGLISH), document(GERMAN), document(CODE), document("漢字とかなの文章です。")],
    [],
    [document(GERMAN + " Und nun weiter.", "zh-Hans"), document(CODE + "x", "en")],
]


def rows(attributes: Artifact, documents: Artifact) -> list[dict[str, object]]:
    found = []
    for name in documents.names():
        texts = pq.read_table(documents.path(name)).to_pylist()
        known = pq.read_table(attributes.path(name)).to_pylist()
        assert [t["id"] for t in texts] == [k["id"] for k in known]
        found += [t | k for t, k in zip(texts, known, strict=True)]
    return found


def test_languages_are_declared_or_found(store: Folder) -> None:
    documents = artifact(store, PARTS)
    attributes = run_step(annotate, AnnotateConfig(), store=store, documents=documents)
    assert attributes.names() == ["p000.parquet", "p001.parquet", "p002.parquet"]
    found = {r["text"]: (r["language"], r["language_score"]) for r in rows(attributes, documents)}
    assert {text: language for text, (language, _) in found.items()} == {
        ENGLISH: "en",
        GERMAN: "de",
        CODE: "und",
        "漢字とかなの文章です。": "ja",
        GERMAN + " Und nun weiter.": "zh",
        CODE + "x": "en",
    }
    assert found[CODE + "x"][1] == 1
    assert found[CODE][1] == 0
    assert attributes.counts == {"read": 6, "declared": 2, "undetermined": 1, "identified": 3}


def test_figures_are_of_their_row(store: Folder) -> None:
    documents = artifact(store, PARTS)
    attributes = run_step(annotate, AnnotateConfig(bad_words=("weather",)), store=store, documents=documents)
    for row in rows(attributes, documents):
        text = str(row["text"])
        assert row["size_bytes"] == len(text.encode())
        assert row["curly_brackets"] == text.count("{") + text.count("}")
        assert row["bad_words"] == text.count("weather")
    schema = pq.read_schema(attributes.path("p000.parquet"))
    assert {str(schema.field(n).type) for n in schema.names[2:]} == {"float", "int32"}
    assert pq.read_schema(attributes.path("p001.parquet")) == schema


def test_without_quality_only_size_letters_and_language_are_written(store: Folder) -> None:
    documents = artifact(store, PARTS)
    attributes = run_step(annotate, AnnotateConfig(quality=False), store=store, documents=documents)
    names = pq.read_schema(attributes.path("p000.parquet")).names
    assert names == ["id", "language", "language_score", "size_bytes", "letter_share"]
    assert {r["text"]: r["language"] for r in rows(attributes, documents)}[CODE] == "und"


def test_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    contents = set()
    for name in ("one", "two"):
        store = open_folder(tmp_path / name)
        documents = artifact(store, PARTS)
        contents.add(run_step(annotate, AnnotateConfig(), store=store, documents=documents).manifest.content)
    assert len(contents) == 1


def test_bad_words_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="empty word"):
        AnnotateConfig(bad_words=("x", " "))
    with pytest.raises(ValueError, match="set quality=True"):
        AnnotateConfig(quality=False, bad_words=("x",))
