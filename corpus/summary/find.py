"""Documents by id, and the parts of a corpus that may hold them: ids are spread evenly over parts, and sorted in each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import ID_BYTES, SCHEMA, ids_of, partition_files, read_documents
from corpus.rows import part_of
from infra.artifacts import Artifact


class Place(NamedTuple):
    """One row of one part."""

    part: str
    row: int


def parts_between(documents: Artifact, first: bytes, last: bytes) -> list[str]:
    """The parts of a `collect` that may hold ids from `first` to `last`: their number is a power of two."""
    parts = [part_of(name) for name in partition_files(documents)]
    bits = (len(parts) - 1).bit_length()
    low, high = (int.from_bytes(id[:4], "big") >> (32 - bits) for id in (first, last))
    return parts[low : high + 1]


def find_prefix(documents: Artifact, prefix: bytes, half: int | None = None) -> list[tuple[Place, bytes]]:
    """Where documents are whose ids begin with these bytes (and then with the four bits `half`)."""
    least = prefix + (b"" if half is None else bytes([half << 4]))
    most = prefix + (b"" if half is None else bytes([half << 4 | 15]))
    first, last = least.ljust(ID_BYTES, b"\0"), most.ljust(ID_BYTES, b"\xff")
    found = []
    for part in parts_between(documents, first, last):
        ids = ids_of(read_documents(documents, f"{part}.parquet", ["id"]))
        for row in between(ids, first, last):
            found.append((Place(part, int(row)), bytes(ids[row])))
    return found


def between(ids: npt.NDArray[np.void], first: bytes, last: bytes) -> Iterable[int]:
    """The rows of sorted ids from `first` to `last`, both included."""
    low = int(np.searchsorted(ids, np.void(first), side="left"))
    high = int(np.searchsorted(ids, np.void(last), side="right"))
    return range(low, high)


def read_places(
    documents: Artifact, places: Sequence[Place], columns: Sequence[str] = SCHEMA.names
) -> list[dict[str, Any]]:
    """The rows at these places, in their order; of each part only the row groups that hold one are read."""
    found: dict[Place, dict[str, Any]] = {}
    for part in sorted({p.part for p in places}):
        rows = sorted({p.row for p in places if p.part == part})
        for row, record in read_rows_of(documents, part, rows, columns):
            found[Place(part, row)] = record
    return [found[place] for place in places]


def read_rows_of(
    documents: Artifact, part: str, rows: Sequence[int], columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, record) for sorted rows of one part; a kilobyte of rows is held at a time, not the part."""
    wanted = np.array(rows, np.int64)
    with pq.ParquetFile(documents.path(f"{part}.parquet")) as file:
        first = 0
        for batch in file.iter_batches(1024, columns=list(columns)):
            low, high = np.searchsorted(wanted, (first, first + len(batch)))
            taken = batch.take(pa.array(wanted[low:high] - first)) if high > low else batch.slice(0, 0)
            yield from zip(wanted[low:high].tolist(), taken.to_pylist(), strict=True)
            first += len(batch)
            if high == len(wanted):
                return
