"""JSON lines and CSV: a document a record, found again by its line, whatever is wrong with its neighbours."""

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.csv_files import Csv
from corpus.sources.json_lines import JsonLines
from corpus.sources.source import Found
from tests.corpus.source_kit import at_most, one_way, read_broken, read_bytes

JSON = JsonLines(folder=".")
CSV = Csv(folder=".")


def test_json_lines_give_a_document_a_line_and_count_what_is_none() -> None:
    rows = [
        {"text": "One.", "title": "Uno"},
        {"body": "?"},
        {"text": 3},
        ["text"],
        {"text": "Zwei \ud800."},
        {"text": " "},
    ]
    data = (
        "\n".join(map(json.dumps, rows))
        + '\n{broken\n\n{"text": "NaN is no JSON, but is written", "x": NaN}\n'
    )
    found, dropped = read_bytes(JSON, "a.jsonl", data.encode())
    assert found == [
        Found("Uno", 1, "One."),
        Found("a.jsonl:5", 5, "Zwei \ud800."),
        Found("a.jsonl:9", 9, "NaN is no JSON, but is written"),
    ]
    assert dropped == Counter(no_text_field=3, not_json=1, empty=1)
    assert read_bytes(JSON, "a.jsonl", b"[" * 100_000)[1] == Counter(not_json=1)


def test_fields_may_lie_deeper_and_a_document_may_name_its_language() -> None:
    source = JsonLines(folder=".", text_field="doc.body", title_field="meta.name", language_field="lang")
    rows = [
        {"doc": {"body": "Hallo."}, "meta": {"name": "H"}, "lang": "de"},
        {"doc.body": "A field of that very name.", "lang": None},
        {"doc": "no object"},
    ]
    found, dropped = read_bytes(source, "a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert found == [Found("H", 1, "Hallo.", "de"), Found("a.jsonl:2", 2, "A field of that very name.")]
    assert dropped == Counter(no_text_field=1)


def test_a_line_in_another_encoding_or_without_end_costs_itself() -> None:
    good = '{"text": "Bien s\u00fbr, c\'est d\u00e9j\u00e0 l\u00e0."}'
    parts = [
        good.encode(),
        good.encode("latin-1"),
        b'{"text": "' + b"x" * 2000 + b'"}',
        b'{"text": "Nul \\u0000."}',
        good.encode(),
    ]
    found, dropped = read_bytes(JsonLines(folder=".", max_document_bytes=1000), "a.jsonl", b"\n".join(parts))
    assert [d.position for d in found] == [1, 4, 5]
    assert dropped == Counter(not_utf8=1, too_long=1)


def test_a_line_of_64_megabytes_costs_no_memory() -> None:
    blocks = [b'{"text": "first"}\n{"text": "', *[b"word " * 52_429] * 256, b'"}\n{"text": "last"}\n']
    dropped: Counter[str] = Counter()
    with at_most(30):
        source = JsonLines(folder=".", max_document_bytes=4 << 20)
        found = list(source.documents("a.jsonl", one_way(iter(blocks)), dropped))
    assert [(d.position, d.text) for d in found] == [(1, "first"), (3, "last")]
    assert dropped == Counter(too_long=1)


def test_the_shared_books_survive_json_lines_with_their_lines(shared_data: Path) -> None:
    rows = pq.read_table(
        shared_data / "pretrain_multi/ar.parquet", columns=["text", "title", "lang"]
    ).to_pylist()
    data = gzip.compress(
        "".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(rows)).encode(), 1
    )
    found, dropped = read_bytes(JsonLines(folder=".", language_field="lang"), "ar.jsonl.gz", data)
    assert [(d.text, d.title, d.language) for d in found] == [
        (r["text"], r["title"], r["lang"]) for r in rows
    ]
    assert [d.position for d in found] == list(range(1, len(rows) + 1))
    assert not dropped
    some, _ = read_broken(JsonLines(folder=".", language_field="lang"), "ar.jsonl.gz", data[: len(data) // 3])
    assert 10 < len(some) < len(found)
    assert some == found[: len(some)]


# --- CSV

FIELD = st.text(st.sampled_from('ab,";\t\n\r é漢'), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=12), st.sampled_from(",;\t"))
def test_csv_is_what_the_standard_library_writes_and_reads(
    rows: list[tuple[str, str, str]], delimiter: str
) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    data = sink.getvalue()
    found, dropped = read_bytes(
        Csv(folder=".", text_field=1, title_field=0, delimiter=delimiter), "a.csv", data.encode()
    )
    lines = data.split("\n")
    if not data.strip():
        return
    expected = [r for r in rows if r[1].strip()]
    assert [d.text for d in found] == [r[1] for r in expected]
    assert dropped.total() == len(rows) - len(expected)
    for document, row in zip(found, expected, strict=True):
        assert document.title == (row[0] or f"a.csv:{document.position}")
        assert lines[document.position - 1].startswith('"' + row[0].split("\n")[0].replace('"', '""'))


def test_a_record_is_found_by_the_line_it_begins_on() -> None:
    data = b'\xef\xbb\xbfid,text,title\n1,"two\nlines, ""quoted""",A\n\n2,plain 5" disk,\n3\n4,"  ",x\n5,"last",Z'
    found, dropped = read_bytes(CSV, "a.csv", data)
    assert found == [
        Found("A", 2, 'two\nlines, "quoted"'),
        Found("a.csv:5", 5, 'plain 5" disk'),
        Found("Z", 8, "last"),
    ]
    assert dropped == Counter(no_text_field=1, empty=1)
    tabs = b"id\ttext\n1\tone, two\n"
    assert [d.text for d in read_bytes(CSV, "a.tsv.gz", gzip.compress(tabs))[0]] == ["one, two"]


@pytest.mark.parametrize("block", [b"word " * 10, b"word\n" * 10, b'say ""x"", ' * 10])
def test_a_record_over_the_limit_is_skipped_to_its_true_end(block: bytes) -> None:
    source = Csv(folder=".", max_document_bytes=1000)
    data = b'id,text\n1,first\n2,"' + block * 4000 + b'"\n3,"third\nis here"\n'
    found, dropped = read_bytes(source, "a.csv", data)
    line = 4 + (block * 4000).count(b"\n")
    assert [(d.position, d.text) for d in found] == [(2, "first"), (line, "third\nis here")]
    assert dropped == Counter(too_long=1)


def test_a_line_over_the_limit_without_quotes_is_skipped_too() -> None:
    data = b"id,text\n1,first\n2," + b"word " * 700_000 + b"\n3,third\n"
    found, dropped = read_bytes(Csv(folder=".", max_document_bytes=1000), "a.csv", data)
    assert [(d.position, d.text) for d in found] == [(2, "first"), (4, "third")]
    assert dropped == Counter(too_long=1)


def test_a_quoted_field_of_64_megabytes_costs_no_memory() -> None:
    blocks = [b'text\nfirst\n"', *[(b"word " * 200 + b"\n") * 256] * 256, b'"\nlast\n']
    dropped: Counter[str] = Counter()
    with at_most(40):
        source = Csv(folder=".", max_document_bytes=2 << 20)
        found = list(source.documents("a.csv", one_way(iter(blocks)), dropped))
    assert [d.text for d in found] == ["first", "last"]
    assert dropped == Counter(too_long=1)


def test_a_quote_without_end_and_a_record_that_is_none_are_counted() -> None:
    assert read_bytes(CSV, "a.csv", b'text\nfirst\n"second\nthird') == (
        [Found("a.csv:2", 2, "first")],
        Counter(unclosed_quote=1),
    )
    found, dropped = read_bytes(CSV, "a.csv", b"text,x\nfirst,1\nse\rcond,2\nthird,3\n")
    assert [d.text for d in found] == ["first", "third"]
    assert dropped == Counter(bad_record=1)
    assert read_bytes(CSV, "a.csv", b"\n\n") == ([], Counter(empty=1))


def test_a_column_that_is_not_there_and_a_bad_delimiter_are_one_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"a\.csv of source 'csv' has no column 'text', only id, body; set text_field"
    ):
        read_bytes(CSV, "a.csv", b"id,body\n1,x\n")
    with pytest.raises(ValueError, match="delimiter of source 'csv' is '::'; it must be one character"):
        Csv(folder=".", delimiter="::")
    assert read_bytes(Csv(folder=".", text_field=0), "a.csv", b"One.\nTwo.\n")[0] == [
        Found("a.csv:1", 1, "One."),
        Found("a.csv:2", 2, "Two."),
    ]


def test_a_truncated_csv_keeps_its_whole_records() -> None:
    data = gzip.compress(
        b"text\n" + b"".join(b'"record %d\nof many %d"\n' % (i, i**7) for i in range(20_000))
    )
    every, _ = read_bytes(CSV, "a.csv.gz", data)
    found, error = read_broken(CSV, "a.csv.gz", data[: len(data) // 2])
    assert 1000 < len(found) < 19_000
    assert found == every[: len(found)]
    assert "breaks off inside its gzip data" in error
