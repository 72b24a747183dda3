"""Which rows of each part of a documents artifact are kept: text is written once, and dropping a document is a list.

A row list is a file `<part>.rows`: the kept row numbers, sorted, as little-endian int64. Steps that choose documents
(select, deduplicate, the split) write row lists; steps that read text read the rows of the last list.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.document import read_documents
from infra.artifacts import Artifact

Rows = NDArray[np.int64]


def part_of(name: str) -> str:
    """`p003.parquet`, `p003.rows` and `p003.arrow` all belong to the part `p003`."""
    return name.partition(".")[0]


def write_rows(path: Path, rows: Rows) -> None:
    """Write sorted row numbers."""
    assert len(rows) < 2 or (np.diff(rows) > 0).all(), "row numbers rise, each once"
    path.write_bytes(rows.astype("<i8").tobytes())


def read_rows(kept: Artifact, part: str) -> Rows:
    """The kept row numbers of one part."""
    return np.fromfile(kept.path(f"{part}.rows"), "<i8").astype(np.int64)


def read_kept(
    documents: Artifact, kept: Artifact | None, part: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """The kept documents of one part; all of them without a list."""
    table = read_documents(documents, f"{part}.parquet", columns)
    return table if kept is None else table.take(pa.array(read_rows(kept, part)))
