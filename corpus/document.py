"""The one document type: a row of a table, with where it came from.

A documents artifact is a set of Parquet files with this schema, each sorted by (id, source, file, position):

    id        blake2b-128 of the normalised text: equal texts have equal ids on every machine and in every run
    text      paragraphs, one per line, already unwrapped; sentences are not split
    title     what a person calls it: "numpy.linalg.norm"
    source    the name of the source it came from: "python-docs"
    file      path relative to the source's root: "numpy/linalg/_linalg.py"
    position  where it begins in that file, counted from 1: the line, or the row of a table
    language  BCP 47, "und" when nobody has said
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.artifacts import Artifact

ID_BYTES = 16
SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(ID_BYTES), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
    ]
)


class Document(NamedTuple):
    """One row; the fields are those of SCHEMA."""

    id: bytes
    text: str
    title: str
    source: str
    file: str
    position: int
    language: str


def document_id(text: str) -> bytes:
    """The 16-byte identity of a normalised text."""
    return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).digest()


def to_table(documents: Iterable[Document]) -> pa.Table:
    """A table with SCHEMA, rows in the order given."""
    columns = list(zip(*documents, strict=True)) or [()] * len(SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def sort_documents(documents: list[Document]) -> list[Document]:
    """By (id, source, file, position): an order that no partitioning or reading order can change."""
    return sorted(documents, key=lambda d: (d.id, d.source, d.file, d.position))


def write_table(path: Path, table: pa.Table) -> None:
    """Parquet whose bytes depend only on the table (and on the pyarrow version).

    Small row groups, so that comparing a few documents of the history does not decompress a whole part.
    """
    pq.write_table(table, path, compression="zstd", compression_level=3, row_group_size=2048)


def partition_files(documents: Artifact) -> list[str]:
    """Names of the document files of an artifact, sorted; `removed.parquet` and `p0.dropped.parquet` are not documents."""
    names = (n for n in documents.names() if n.endswith(".parquet") and n.count(".") == 1)
    return [n for n in names if n != "removed.parquet"]


def read_documents(documents: Artifact, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One document file as a table (all columns of SCHEMA, or the named ones, in schema order)."""
    names = [f for f in SCHEMA.names if columns is None or f in columns]
    return pq.read_table(documents.path(name), columns=names, partitioning=None)


def iterate_documents(documents: Artifact) -> Iterator[Document]:
    """Every document, file by file: for people and small jobs; steps work on whole columns."""
    for name in partition_files(documents):
        for row in read_documents(documents, name).to_pylist():
            yield Document(**row)


def ids_of(table: pa.Table) -> np.ndarray:
    """The id column as (n,) "S16"-like void records: comparable, sortable and hashable without Python objects."""
    column = table.column("id").combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # combine_chunks keeps a chunked array when there are no rows
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(ID_BYTES))
    data = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    begin = column.offset * ID_BYTES
    return data[begin : begin + len(column) * ID_BYTES].view(f"V{ID_BYTES}")
