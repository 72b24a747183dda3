"""People bring their own text in one folder, of every kind; bad input is counted, or refused in one sentence."""

import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from corpus.sources.source import Found
from corpus.sources.text_files import PLAIN, TextFiles, suffixes_of
from tests.corpus.source_kit import at_most, one_way, read, read_broken, read_bytes, write


def test_a_text_file_is_one_document_or_one_between_separators(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"First.\nLine.\n\n\nSecond\ntext.\n\n\n\n\n\nThird.\n"})
    found, _ = read(TextFiles(folder=str(tmp_path)))
    assert [(d.title, d.position) for d in found] == [("a.txt", 1)]
    found, _ = read(TextFiles(folder=str(tmp_path), separator="\n\n\n", wrapped=True))
    assert [(d.position, d.text.strip()) for d in found] == [
        (1, "First. Line."),
        (5, "Second text."),
        (12, "Third."),
    ]


@pytest.mark.parametrize("separator", ["\n\n\n", "<|endoftext|>", "\n---\n", "aba", "é"])
def test_separators_cut_as_splitting_the_whole_text_would(separator: str) -> None:
    text = (
        "One.\n\n\nTwo <|endoftext|>three<|endoftext|><|endoftext|>\n---\nfour\n---\n\n\n\n\nababa caba é\n"
        * 40
    )
    found, _ = read_bytes(
        TextFiles(folder=".", separator=separator), "a.txt", text.replace("\n", "\r\n").encode()
    )
    expected = [
        (p, text.count("\n", 0, at + len(p) - len(p.lstrip())) + 1) for p, at in _parts(text, separator)
    ]
    assert [(d.text.strip(), d.position) for d in found] == [(p.strip(), line) for p, line in expected]
    assert len(found) > 30


def _parts(text: str, separator: str) -> list[tuple[str, int]]:
    at, out = 0, []
    for part in text.split(separator):
        if part.strip():
            out.append((part, at))
        at += len(part) + len(separator)
    return out


def test_a_document_over_the_limit_goes_on_as_the_next_one() -> None:
    lines = [f"This is line {i}." for i in range(1, 101)]
    found, dropped = read_bytes(
        TextFiles(folder=".", max_document_bytes=200), "a.txt", "\n".join(lines).encode()
    )
    assert "".join(d.text for d in found).split("\n")[:-1] == lines
    assert all(len(d.text) <= 201 for d in found)
    assert [lines[d.position - 1] for d in found] == [d.text.split("\n")[0] for d in found]
    assert not dropped
    found, dropped = read_bytes(
        TextFiles(folder=".", max_document_bytes=200), "a.txt", b"Short.\n" + b"x" * 900 + b"\nAlso short.\n"
    )
    assert [d.text for d in found] == ["Short.\n\nAlso short.\n"]
    assert dropped == Counter(too_long=1)


def test_a_large_file_is_read_in_bounded_memory() -> None:
    paragraph = b"A paragraph of the book, of a usual length. " * 20 + b"\n"
    source = TextFiles(folder=".", max_document_bytes=1 << 20)
    size = 0
    with at_most(16):
        stream = one_way(paragraph * 100 for _ in range(500))
        for document in source.documents("a.txt", stream, Counter()):
            size += len(document.text)
    assert size == len(paragraph) * 50_000 > 40_000_000


def test_every_kind_is_read_by_its_name_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["From a table."]}), table)
    long = "<p>" + "A sentence of the page, long enough. " * 5 + "</p>"
    write(
        tmp_path,
        {
            "a.txt": b"From text.",
            "b.md.gz": gzip.compress(b"From Markdown."),
            "c.jsonl": b'{"text": "From JSON."}\n',
            "d.csv": b"text\nFrom CSV.\n",
            "e.parquet": table.getvalue(),
            "f.html": f"<html><body><main>{long}</main></body></html>".encode(),
            "g.conllu": b"# text = From CoNLL-U.\n1\tFrom" + b"\t_" * 8 + b"\n\n",
            "h.FA.zst": zstandard.ZstdCompressor().compress(b">x\nacgt\n"),
            "i.txt": gzip.compress(b"Compressed, whatever the name says."),
            "j.pdf": b"%PDF",
            "k": b"no suffix",
            "l.xml": b"<html><p>Not a dump.</p></html>",
        },
    )
    found, dropped = read(TextFiles(folder=str(tmp_path), name="mine"))
    assert [(d.title[0], d.text.strip()[:12]) for d in found] == [
        ("a", "From text."),
        ("b", "From Markdow"),
        ("c", "From JSON."),
        ("d", "From CSV."),
        ("e", "From a table"),
        ("f", "A sentence o"),
        ("g", "From CoNLL-U"),
        ("x", "ACGT"),
        ("i", "Compressed, "),
    ]
    assert dropped == Counter(unknown_kind=2, not_mediawiki=1)


def test_no_suffix_belongs_to_two_kinds() -> None:
    from corpus.sources import text_files

    kinds = [*text_files._WITH_FIELDS, *text_files._WITHOUT]
    every = [*PLAIN, *(s for kind in kinds for s in suffixes_of(kind))]
    assert len(every) == len(set(every)) > 25


def test_encodings_follow_the_stated_policy(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "bom.txt": b"\xef\xbb\xbfHello.",
            "empty.txt": b" \n",
            "image.txt": b"\x89PNG\0\0",
            "latin.txt": "né à l'été".encode("latin-1"),
            "repaired.txt": b"A long enough text " * 20 + b"\xff.",
            "wide.txt": "Hello there.".encode("utf-16"),
            "emoji.txt": "👩‍👩‍👧".encode(),
            "right.txt": "مَرْحَبًا \u202eabc\u202c e\u0301".encode(),
        },
    )
    found, dropped = read(TextFiles(folder=str(tmp_path)))
    assert {d.title: d.text[:12].rstrip("\n") for d in found} == {
        "bom.txt": "Hello.",
        "repaired.txt": "A long enoug",
        "wide.txt": "Hello there.",
        "emoji.txt": "👩‍👩‍👧",
        "right.txt": "مَرْحَبًا \u202eabc\u202c e\u0301"[:12],
    }
    assert dropped == Counter(empty=1, binary=1, not_utf8=1, repaired_utf8=1)


def test_a_truncated_compressed_text_keeps_the_documents_that_are_whole() -> None:
    text = "".join(f"Document {i} has some words of its own: {i**5}.\n\n\n" for i in range(5000)).encode()
    data = gzip.compress(text)
    source = TextFiles(folder=".", separator="\n\n\n")
    every, _ = read_bytes(source, "a.txt.gz", data)
    found, error = read_broken(source, "a.txt.gz", data[: len(data) // 2])
    assert 1000 < len(found) < 4000
    assert found == every[: len(found)]
    assert "a.txt.gz of source 'text-files' breaks off inside its gzip data at byte" in error
    found, _ = read_broken(TextFiles(folder="."), "a.txt.gz", data[: len(data) // 2])
    assert not found, "half a document is none"


def test_a_table_without_the_column_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": b"body\nOne.\n"})
    with pytest.raises(
        ValueError, match=r"a\.csv of source 'text-files' has no column 'text', only body; set text_field"
    ):
        read(TextFiles(folder=str(tmp_path)))
    assert read(TextFiles(folder=str(tmp_path), text_field="body"))[0] == [Found("a.csv:2", 2, "One.")]


def test_moving_the_folder_changes_nothing(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write(tmp_path, {f"{place}/sub/a.jsonl": json.dumps({"text": "The same."}).encode()})
    here, there = (TextFiles(folder=str(tmp_path / p)) for p in ("here", "there"))
    assert here == there
    assert list(here.files()) == list(there.files())
    assert read(here) == read(there)


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(ValueError, match="separator of source 'text-files' is empty; use None"):
        TextFiles(folder=".", separator="")
