"""Documents of many generations as single numbers, and the flat files that near-duplicate search keeps about them.

    reference = generation (12 bits; 0 is the one being made, 1 the one before it ...) | part (20) | row (32)

A part's number is its place in `partition_files(documents)` of its generation. References sort by part, so what a part
needs of a sorted file is one slice. Arrays lie in raw little-endian files and are memory-mapped.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import partition_files
from corpus.rows import part_of
from corpus.stream import Words
from infra.artifacts import Artifact
from infra.output import WORK, PartitionOutput
from infra.storage import Folder

PART_BITS, ROW_BITS = 20, 32
MAX_GENERATIONS, MAX_PARTS = 1 << (64 - PART_BITS - ROW_BITS), 1 << PART_BITS
BATCH_ROWS = 512


def reference(generation: int, part: int, rows: npt.NDArray[np.integer]) -> Words:
    """(n,) references of some rows of one part."""
    return rows.astype(np.uint64) | np.uint64((generation << PART_BITS | part) << ROW_BITS)


def place(reference: int) -> tuple[int, int]:
    """(generation, part) of a reference."""
    return reference >> (PART_BITS + ROW_BITS), reference >> ROW_BITS & (MAX_PARTS - 1)


def rows_in(references: Words) -> npt.NDArray[np.int64]:
    """(n,) the row numbers of references."""
    return (references & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)


def generations_of(references: Words) -> npt.NDArray[np.int32]:
    """(n,) the generations of references."""
    return (references >> np.uint64(PART_BITS + ROW_BITS)).astype(np.int32)


def slice_of(sorted_references: Words, generation: int, part: int) -> slice:
    """Where the references of one part lie in a sorted column."""
    first = (generation << PART_BITS | part) << ROW_BITS
    bounds = np.array([first, first + (1 << ROW_BITS) - 1], np.uint64)
    return slice(
        int(np.searchsorted(sorted_references, bounds[0])),
        int(np.searchsorted(sorted_references, bounds[1], side="right")),
    )


def groups(references: Words) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.int64]]]:
    """((generation, part), positions) of references in any order."""
    where = references >> np.uint64(ROW_BITS)
    for value in np.unique(where):
        yield place(int(value) << ROW_BITS), np.flatnonzero(where == value)


def parts_of(documents: Artifact) -> list[str]:
    """The names of an artifact's parts, in the order that numbers them."""
    parts = [part_of(name) for name in partition_files(documents)]
    if len(parts) >= MAX_PARTS:
        raise ValueError(
            f"{documents.short} has {len(parts)} parts; at most {MAX_PARTS} can be numbered, merge some"
        )
    return parts


def open_array(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A raw file as a memory-mapped array (an empty file cannot be mapped)."""
    return np.memmap(path, dtype, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, dtype)


def scratch(folder: Folder, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A scratch array that another partition of this step wrote."""
    return open_array(folder.local(f"{WORK}/{name}"), dtype)


def write_scratch(out: PartitionOutput, suffix: str, array: npt.NDArray[Any]) -> None:
    """Write `work/<partition>.<suffix>`: recorded with the partition, removed when the step ends."""
    with out.writer(f"{WORK}/{out.id}.{suffix}") as path:
        array.tofile(path)


def read_batches(
    documents: Artifact, part: str, rows: npt.NDArray[np.int64], columns: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
    """Some rows (sorted) of a part in batches of at most 512: what is in memory is a batch, not a part.

    Row groups without such a row are not read.
    """
    with pq.ParquetFile(documents.path(f"{part}.parquet")) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if np.searchsorted(rows, begin) < np.searchsorted(rows, end):
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns)):
                    first, last = np.searchsorted(rows, [begin, begin + len(batch)])
                    if first < last:
                        chosen = rows[first:last]
                        yield chosen, pa.Table.from_batches([batch]).take(pa.array(chosen - begin))
                    begin += len(batch)
            begin = end


def text_column(table: pa.Table) -> pa.LargeStringArray:
    """The texts of a batch as one array."""
    column = table.column("text").combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
