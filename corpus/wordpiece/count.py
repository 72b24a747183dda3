"""Count the normalised words of documents: all that training a vocabulary needs to know of a text.

A map over partitions, each of which writes its words with their counts, then a sum. Counts are 64 bits; memory depends
on the number of distinct words, not on the size of the text.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.table import UnitTable, words_of
from corpus.wordpiece.units import text_blocks, utf8_of

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import PartitionOutput

SCHEMA: Final = pa.schema([pa.field("word", pa.large_string()), pa.field("count", pa.uint64())])


def count_words(texts: pa.Array, lowercase: bool) -> pa.Table:
    """(B,) texts -> SCHEMA, each distinct word once, in the order of their UTF-8 bytes."""
    normalization = Normalization(lowercase)
    table = UnitTable(normalization)
    counts_of_number: Int64s = np.zeros(1 << 16, np.int64)
    numbers: list[int] = []
    strings: list[str] = []
    data, offsets = utf8_of(texts)
    for begin, end in text_blocks(data, offsets):
        cuts = offsets[slice(*np.searchsorted(offsets, (begin, end)))] - begin
        units = table.number(data[begin:end].tobytes(), cuts)
        if table.size > len(counts_of_number):
            counts_of_number = np.concatenate([counts_of_number, np.zeros(table.size, np.int64)])
        np.add.at(counts_of_number, units.numbers_N, 1)
        numbers += units.new_numbers.tolist()
        strings += units.new_strings
    counts: dict[str, int] = {}
    for words, count in zip(
        words_of(strings, normalization), counts_of_number[numbers].tolist(), strict=True
    ):
        for word in words:
            counts[word] = counts.get(word, 0) + count
    return _sorted(pa.table([list(counts), list(counts.values())], schema=SCHEMA))


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of word counts, in the order of the words' UTF-8 bytes, whatever the partitioning was."""
    summed, waiting = SCHEMA.empty_table(), [SCHEMA.empty_table()]
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) > max(
            1 << 20, len(summed)
        ):  # so each row is summed a few times, not once a table
            summed, waiting = _summed([summed, *waiting]), []
    return _sorted(_summed([summed, *waiting]))


def _summed(tables: list[pa.Table]) -> pa.Table:
    grouped = pa.concat_tables(tables).group_by("word").aggregate([("count", "sum")])
    return grouped.select(["word", "count_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def count_partition(name: str, *, out: "PartitionOutput", documents: "Artifact", lowercase: bool) -> "Counts":
    """Count one file of documents into `words/<partition>.arrow`."""
    from corpus.document import read_documents

    texts = read_documents(documents, name, ["text"])["text"].combine_chunks()
    words = count_words(texts, lowercase)
    with out.writer(counts_file(out.id)) as path:
        write_counts(path, words)
    return {"documents": len(texts), "words": pc.sum(words["count"]).as_py() or 0}


def counts_file(partition: str) -> str:
    return f"words/{partition}.arrow"


def write_counts(path: Path, words: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 3))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA, options=options) as writer:
        writer.write_table(words.combine_chunks())


def read_counts(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _sorted(words: pa.Table) -> pa.Table:
    return words.sort_by("word").combine_chunks()
