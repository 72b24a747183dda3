"""People bring their own text: plain, JSON lines, Parquet; bad input is counted, or refused in one sentence."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.ingest import IngestConfig, listing
from corpus.sources.source import Found
from corpus.sources.text_files import TextFiles


def read(source: TextFiles) -> tuple[list[Found], Counter[str]]:
    dropped: Counter[str] = Counter()
    found = [
        d for _, name, path in source.files() for d in source.documents(name, path.read_bytes(), dropped)
    ]
    return found, dropped


def test_a_text_file_is_one_document_or_one_between_separators(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("First.\nLine.\n\n\nSecond\ntext.\n\n\n\n\n\nThird.\n")
    found, _ = read(TextFiles(folder=str(tmp_path)))
    assert [(d.title, d.position) for d in found] == [("a.txt", 1)]
    found, _ = read(TextFiles(folder=str(tmp_path), separator="\n\n\n", wrapped=True))
    assert [(d.position, d.text.strip()) for d in found] == [
        (1, "First. Line."),
        (5, "Second text."),
        (12, "Third."),
    ]


def test_json_lines_give_a_document_a_line_and_count_what_is_none(tmp_path: Path) -> None:
    rows = [{"text": "One.", "title": "Uno"}, {"body": "?"}, {"text": 3}, ["text"], {"text": "Zwei \ud800."}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n\n")
    found, dropped = read(TextFiles(folder=str(tmp_path)))
    assert found == [Found("Uno", 1, "One."), Found("a.jsonl:5", 5, "Zwei \ud800.")]
    assert dropped == Counter(no_text_field=3, not_json=1)


def test_parquet_gives_a_document_a_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["One.", None, "Three."]}), tmp_path / "a.parquet")
    found, dropped = read(TextFiles(folder=str(tmp_path), text_field="content"))
    assert [(d.position, d.text) for d in found] == [(1, "One."), (3, "Three.")]
    assert dropped == Counter(no_text_field=1)
    with pytest.raises(
        ValueError,
        match=r"a\.parquet of source 'text-files' has no column 'text', only content; set text_field",
    ):
        read(TextFiles(folder=str(tmp_path)))


def test_encodings_follow_the_stated_policy(tmp_path: Path) -> None:
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfHello.")
    (tmp_path / "empty.txt").write_bytes(b" \n")
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "latin.txt").write_bytes("né à l'été".encode("latin-1"))
    (tmp_path / "repaired.txt").write_bytes(b"A long enough text " * 20 + b"\xff.")
    (tmp_path / "wide.txt").write_bytes("Hello there.".encode("utf-16"))
    found, dropped = read(TextFiles(folder=str(tmp_path)))
    assert {d.title: d.text[:12] for d in found} == {
        "bom.txt": "Hello.",
        "repaired.txt": "A long enoug",
        "wide.txt": "Hello there.",
    }
    assert dropped == Counter(empty=1, binary=1, not_utf8=1, repaired_utf8=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"folder": "missing"},
            "folder '.*missing' of source 'text-files' does not exist; give an existing one",
        ),
        ({"folder": "."}, "source 'text-files' finds no .txt, .jsonl, .parquet file in"),
        (
            {"folder": ".", "patterns": ("*.text",)},
            r"pattern '\*.text' of source 'text-files' matches no file in",
        ),
        ({"folder": ".", "patterns": ("*.pdf",)}, "'a.pdf' in .* cannot be read as text"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    folder = str(tmp_path / str(settings.pop("folder")))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        list(TextFiles(folder=folder, **settings).files())  # type: ignore[arg-type]


def test_a_truncated_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 half of it")
    with pytest.raises(ValueError, match=r"a\.parquet of source 'text-files' is not a readable Parquet file"):
        read(TextFiles(folder=str(tmp_path)))


def test_moving_the_folder_changes_nothing(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "sub" / "a.txt").write_text("The same text.")
    here, there = (TextFiles(folder=str(tmp_path / p)) for p in ("here", "there"))
    assert here == there
    assert listing(IngestConfig(sources=(here,))) == listing(IngestConfig(sources=(there,)))
