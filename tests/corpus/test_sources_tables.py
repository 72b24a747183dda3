"""Parquet, Arrow, Feather and Hugging Face folders: a document a row, batch by batch, up to where the file is whole."""

import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from corpus.sources import tables
from corpus.sources.hugging_face import HuggingFaceDataset
from corpus.sources.source import Found
from corpus.sources.tables import Tables
from infra.storage import StoreUnreachable
from tests.corpus.source_kit import one_way, read, read_broken, read_bytes, write

SOURCE = Tables(folder=".")
ROWS = pa.table({"title": ["Uno", None, ""], "n": [1, 2, 3], "text": ["One.", None, "Three."]})
EXPECTED = [Found("Uno", 1, "One."), Found("a:3", 3, "Three.")]


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: pa.Table, *, stream: bool, rows: int | None = None) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, rows)
    return sink.getvalue()


def feathered(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(table, sink, compression="zstd")
    return sink.getvalue()


FORMS = {
    "parquet": lambda t: parquet(t, row_group_size=1),
    "arrow file": lambda t: arrow(t, stream=False),
    "arrow stream": lambda t: arrow(t, stream=True, rows=2),
    "feather": feathered,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_a_document_a_row_whatever_its_name(form: str) -> None:
    data = FORMS[form](ROWS)
    assert read_bytes(SOURCE, "a", data) == (EXPECTED, Counter(no_text_field=1))
    assert read_bytes(SOURCE, "a", gzip.compress(data))[0] == EXPECTED
    dropped: Counter[str] = Counter()
    assert list(SOURCE.documents("a", one_way([data], most=100), dropped)) == EXPECTED, (
        "from a stream of one way"
    )


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())],
)
def test_text_is_text_in_any_of_its_types(kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["One.", None, "漢字 🙂", ""], pa.string()).cast(kind)})
    for data in (parquet(table), arrow(table, stream=True)):
        found, dropped = read_bytes(SOURCE, "a", data)
        assert [(d.position, d.text) for d in found] == [(1, "One."), (3, "漢字 🙂")]
        assert dropped == Counter(no_text_field=1, empty=1)


def test_columns_may_lie_within_structs_and_a_row_may_name_its_language() -> None:
    rows = [{"doc": {"body": "Eins.", "x": 1}, "meta": {"lang": "de"}}, {"doc": None, "meta": {"lang": None}}]
    source = Tables(folder=".", text_field="doc.body", language_field="meta.lang", title_field="doc.x")
    for data in (parquet(pa.Table.from_pylist(rows)), arrow(pa.Table.from_pylist(rows), stream=False)):
        assert read_bytes(source, "a", data) == ([Found("a:1", 1, "Eins.", "de")], Counter(no_text_field=1))


def test_what_the_config_does_not_fit_is_one_sentence() -> None:
    data = parquet(ROWS)
    with pytest.raises(
        ValueError, match=r"^a of source 'tables' has no column 'body', only title, n, text; set text_field$"
    ):
        read_bytes(Tables(folder=".", text_field="body"), "a", data)
    with pytest.raises(ValueError, match="column 'n' of a of source 'tables' is int64, not text"):
        read_bytes(Tables(folder=".", text_field="n"), "a", data)
    with pytest.raises(
        ValueError, match="a of source 'tables' begins like no Parquet, Arrow or Feather 2 file"
    ):
        read_bytes(SOURCE, "a", b"text that is no table")
    assert read_bytes(SOURCE, "a", b"") == ([], Counter(empty=1))


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_table_is_one_sentence_that_says_where(form: str) -> None:
    table = pa.table({"text": [f"Row {i} of a table." for i in range(100)]})
    data = FORMS[form](table)
    for cut in (len(data) // 2, len(data) - 9 if form != "arrow stream" else len(data) // 3):
        found, error = read_broken(SOURCE, "a", data[:cut])
        assert [d.text for d in found] == [f"Row {i} of a table." for i in range(len(found))]
        assert "a of source 'tables' is not a whole table: " in error
        assert (
            f"after row {len(found)}; the rows before are kept; replace the file with a whole copy" in error
        )
        assert "\n" not in error
    if form == "arrow stream":
        assert len(found) > 10, "a stream is read up to where it breaks off"


def test_damage_within_a_table_costs_what_comes_after_it() -> None:
    table = pa.table({"text": [f"Row {i} {i**7}." for i in range(4000)]})
    data = bytearray(parquet(table, row_group_size=1000, compression="zstd", use_dictionary=False))
    about = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(2).column(0)
    begin = about.data_page_offset
    data[begin : begin + 2000] = bytes(2000)
    found, error = read_broken(SOURCE, "a", bytes(data))
    assert [d.position for d in found] == list(range(1, 2001))
    assert "after row 2000" in error


def test_a_line_that_breaks_is_no_damage() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100_000:
                raise StoreUnreachable("s3://x cannot be reached")
            return super().read(size)

    data = arrow(pa.table({"text": ["word " * 1000] * 100}), stream=True, rows=10)
    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        list(SOURCE.documents("a", Broken(data), Counter()))


def test_bytes_that_are_no_text_follow_the_policy() -> None:
    values = [b"Good.", b"d\xe9j\xe0", b"A long enough text " * 20 + b"\xff.", b" "]
    found, dropped = read_bytes(SOURCE, "a", parquet(pa.table({"text": pa.array(values, pa.binary())})))
    assert [d.position for d in found] == [1, 3]
    assert found[1].text.endswith("\ufffd.")
    assert dropped == Counter(not_utf8=1, repaired_utf8=1, empty=1)


def test_rows_over_the_limit_are_counted_and_not_copied() -> None:
    table = pa.table({"text": ["x" * 2000, "Short.", "y" * 1001, "z" * 1000]})
    found, dropped = read_bytes(Tables(folder=".", max_document_bytes=1000), "a", parquet(table))
    assert [d.position for d in found] == [2, 4]
    assert dropped == Counter(too_long=2)


def test_batches_weigh_what_was_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row group of 40 MB is handed on in batches of about a megabyte, not as a whole."""
    monkeypatch.setattr(tables, "BATCH_BYTES", 1 << 20)
    data = parquet(pa.table({"text": [f"{i} " * 5000 for i in range(1000)]}), use_dictionary=False)
    batches = list(SOURCE._batches("a", io.BytesIO(data), Counter()))
    assert max(b.nbytes for b in batches) < 3 << 20
    assert sum(map(len, batches)) == 1000


def test_the_shared_tables_are_read_whole(shared_data: Path) -> None:
    for name in ("pretrain_multi/ja.parquet", "pretrain_multi/hi.parquet"):
        rows = pq.read_table(shared_data / name, columns=["title", "text"]).to_pylist()
        found, dropped = read(Tables(folder=str(shared_data / name)))
        assert [(d.title, d.text, d.position) for d in found] == [
            (r["title"], r["text"], i) for i, r in enumerate(rows, 1)
        ]
        assert not dropped


# --- folders as Hugging Face lays them out


def saved(folder: str, split: str, texts: list[str]) -> dict[str, bytes]:
    """What `save_to_disk` writes: Arrow streams, state.json, dataset_info.json."""
    half = len(texts) // 2
    parts = {f"data-{i:05}-of-00002.arrow": part for i, part in enumerate((texts[:half], texts[half:]))}
    state = {"_data_files": [{"filename": n} for n in parts], "_split": split}
    return {
        **{f"{folder}{n}": arrow(pa.table({"text": t}), stream=True) for n, t in parts.items()},
        f"{folder}state.json": json.dumps(state).encode(),
        f"{folder}dataset_info.json": b'{"splits": {}}',
        f"{folder}cache-0123.arrow": arrow(pa.table({"other": ["a cache of map"]}), stream=True),
    }


def texts_of(source: HuggingFaceDataset) -> list[str]:
    found, dropped = read(source)
    assert not dropped
    return [d.text for d in found]


def test_a_saved_dataset_is_read_by_its_state(tmp_path: Path) -> None:
    write(tmp_path, saved("", "train", ["A", "B", "C"]))
    assert texts_of(HuggingFaceDataset(folder=str(tmp_path))) == ["A", "B", "C"]


def test_splits_of_a_saved_dataset_are_chosen_by_name(tmp_path: Path) -> None:
    write(tmp_path, saved("train/", "train", ["A", "B"]) | saved("test/", "test", ["C", "D"]))
    write(tmp_path, {"dataset_dict.json": b'{"splits": ["train", "test"]}'})
    folder = str(tmp_path)
    assert texts_of(HuggingFaceDataset(folder=folder, splits=("train",))) == ["A", "B"]
    assert sorted(texts_of(HuggingFaceDataset(folder=folder))) == ["A", "B", "C", "D"]
    with pytest.raises(
        ValueError,
        match=r"finds no split 'valid' in .* \(there are test/data-00000-of-00002\.arrow, .*correct",
    ):
        list(HuggingFaceDataset(folder=folder, splits=("test", "valid")).files())


def test_a_folder_as_on_the_hub_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "README.md": b"# A card",
            "data/train-00000-of-00002.parquet": parquet(pa.table({"text": ["A"]})),
            "data/train-00001-of-00002.parquet": parquet(pa.table({"text": ["B"]})),
            "data/test-00000-of-00001.parquet": parquet(pa.table({"text": ["C"]})),
            "en/validation.jsonl.gz": gzip.compress(b'{"text": "D"}\n'),
        },
    )
    folder = str(tmp_path)
    assert texts_of(HuggingFaceDataset(folder=folder, splits=("train",))) == ["A", "B"]
    assert texts_of(HuggingFaceDataset(folder=folder, splits=("validation",))) == ["D"]
    assert sorted(texts_of(HuggingFaceDataset(folder=folder))) == ["A", "B", "C", "D"]


def test_a_state_that_is_no_json_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, saved("", "train", ["A", "B"]) | {"state.json": b"{"})
    with pytest.raises(ValueError, match="is no JSON; save the dataset again"):
        list(HuggingFaceDataset(folder=str(tmp_path)).files())
