"""Count the words of documents: all that training a vocabulary needs to know of a text.

A map over partitions, each of which writes its words with their counts, then a sum. Counts are 64 bits, and a sum that
does not fit is refused; memory depends on the number of distinct words, not on the size of the text. What a word is
depends on the vocabulary, so a vocabulary brings its own `Counting`.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.table import Split, UnitTable
from corpus.wordpiece.units import LastCut, after_last_space, text_blocks, utf8_of

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output, PartitionOutput

SCHEMA: Final = pa.schema([pa.field("word", pa.large_string()), pa.field("count", pa.uint64())])
BY_LANGUAGE: Final = SCHEMA.append(pa.field("language", pa.string()))
COUNTS_FILE: Final = "counts.arrow"  # of all partitions, before any smoothing: what drift is measured against


class Counting(Protocol):
    """What the words of a text are. Travels to workers, so it is small and can be pickled."""

    def count(self, texts: pa.Array) -> pa.Table:
        """(B,) texts -> SCHEMA, each distinct word once, in the order of their UTF-8 bytes."""


def count_units(
    texts: pa.Array,
    split: Split,
    words_of: Callable[[list[str]], list[list[str]]],
    last_cut: LastCut = after_last_space,
) -> pa.Table:
    """(B,) texts -> SCHEMA: the words of each unit of `split`, times the number of those units."""
    table = UnitTable(split)
    counts_of_number: Int64s = np.zeros(1 << 16, np.int64)
    numbers: list[int] = []
    strings: list[str] = []
    data, offsets = utf8_of(texts)
    for begin, end in text_blocks(data, offsets, last_cut):
        cuts = offsets[slice(*np.searchsorted(offsets, (begin, end)))] - begin
        units = table.number(data[begin:end].tobytes(), cuts)
        if table.size > len(counts_of_number):
            counts_of_number = np.concatenate([counts_of_number, np.zeros(table.size, np.int64)])
        np.add.at(counts_of_number, units.numbers_N, 1)
        numbers += units.new_numbers.tolist()
        strings += units.new_strings
    counts: dict[str, int] = {}
    for words, count in zip(words_of(strings), counts_of_number[numbers].tolist(), strict=True):
        for word in words:
            counts[word] = counts.get(word, 0) + count
    return _sorted(pa.table([list(counts), list(counts.values())], schema=SCHEMA))


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of word counts, in the order of the words' UTF-8 bytes, whatever the partitioning was.

    Tables that name a language keep languages apart. Raises ValueError if the counts may not fit 64 bits.
    """
    summed: pa.Table | None = None
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) > max(1 << 20, 0 if summed is None else len(summed)):
            summed, waiting = (
                _summed([summed, *waiting]),
                [],
            )  # so each row is summed a few times, not each time
    everything = [summed, *waiting]
    return _sorted(_summed(everything) if any(t is not None for t in everything) else SCHEMA.empty_table())


def exact_sum(counts: pa.ChunkedArray | pa.Array) -> int:
    """The sum of 64-bit counts as a Python integer: no sum is too large for it."""
    values = counts.to_numpy().astype(np.uint64)
    low = values & np.uint64(0xFFFFFFFF)
    return (int((values >> np.uint64(32)).sum()) << 32) + int(low.sum())


def _summed(tables: list[pa.Table | None]) -> pa.Table:
    table = pa.concat_tables([t for t in tables if t is not None])
    if exact_sum(table["count"]) >= 1 << 64:
        raise ValueError(
            f"the word counts sum to {exact_sum(table['count'])}, more than 64 bits hold; train on a sample of the text"
        )
    keys = [name for name in table.column_names if name != "count"]
    grouped = table.group_by(keys).aggregate([("count", "sum")])
    return grouped.rename_columns([*keys, "count"]).select(table.column_names).cast(table.schema)


def _sorted(words: pa.Table) -> pa.Table:
    keys = [(name, "ascending") for name in words.column_names if name != "count"]
    return words.sort_by(keys).combine_chunks()


def count_partition(
    part: str,
    *,
    out: "PartitionOutput",
    documents: "Artifact",
    kept: "Artifact | None",
    attributes: "Artifact | None",
    counting: Counting,
    by_language: bool,
) -> "Counts":
    """Count the kept rows of one part into `words/<part>.arrow`."""
    from corpus.rows import read_kept

    table = read_kept(documents, kept, part, ["text", "language"]).combine_chunks()
    texts = column_of(table, "text")
    if by_language:
        each = []
        for language, rows in rows_by_language(languages_of(table, kept, attributes, part)):
            counted = counting.count(texts.take(pa.array(rows)))
            each.append(counted.append_column("language", pa.array([language] * len(counted), pa.string())))
        words = merge_counts(each) if each else BY_LANGUAGE.empty_table()
    else:
        words = counting.count(texts)
    with out.writer(counts_file(out.id)) as path:
        write_counts(path, words)
    return {"documents": len(texts), "words": pc.sum(words["count"]).as_py() or 0}


def column_of(table: pa.Table, name: str) -> pa.Array:
    """A column of a combined table as one array, rows or not."""
    column = table[name].combine_chunks()
    return (
        column
        if isinstance(column, pa.Array)
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )


def languages_of(
    table: pa.Table, kept: "Artifact | None", attributes: "Artifact | None", part: str
) -> list[str]:
    """The language of each kept row: as annotated, or as declared by its source where nothing is annotated."""
    if attributes is None:
        return table["language"].to_pylist()
    import pyarrow.parquet as pq

    from corpus.rows import read_rows

    annotated = pq.read_table(attributes.path(f"{part}.parquet"), columns=["language"], partitioning=None)
    rows = annotated if kept is None else annotated.take(pa.array(read_rows(kept, part)))
    return rows["language"].to_pylist()


def rows_by_language(languages: list[str]) -> Iterator[tuple[str, Int64s]]:
    """Each language with its row numbers, in alphabetical order."""
    for language in sorted(set(languages)):
        yield language, np.flatnonzero([other == language for other in languages])


def count_documents(
    out: "Output",
    counting: Counting,
    *,
    documents: "Artifact",
    kept: "Artifact | None",
    attributes: "Artifact | None",
    by_language: bool,
) -> tuple[pa.Table, "Counts"]:
    """Count all parts; writes their counts and the sum (COUNTS_FILE). Returns the sum and how many documents and words."""
    from corpus.document import partition_files
    from corpus.rows import part_of

    parts = {part_of(name): part_of(name) for name in partition_files(documents)}
    counted = out.map(
        count_partition,
        parts,
        documents=documents,
        kept=kept,
        attributes=attributes if by_language else None,
        counting=counting,
        by_language=by_language,
    )
    words = merge_counts(read_counts(out.folder.local(counts_file(part))) for part in counted)
    with out.writer(COUNTS_FILE) as path:
        write_counts(path, merge_counts([words.select(SCHEMA.names)]))
    return words, {
        "documents": sum(counts["documents"] for counts in counted.values()),
        "words": sum(counts["words"] for counts in counted.values()),
    }


def counts_file(partition: str) -> str:
    return f"words/{partition}.arrow"


def write_counts(path: Path, words: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 3))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, words.schema, options=options) as writer:
        writer.write_table(words.combine_chunks())


def read_counts(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
