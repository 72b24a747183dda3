"""From a document back to its line, and what became of it on the way."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.collect import generations
from corpus.document import ID_BYTES
from corpus.ingest import listed_files
from corpus.rows import read_rows
from corpus.summary.find import Place, find_prefix, parts_between
from corpus.summary.sampling import document
from corpus.summary.texts import Corpus, Text
from infra.artifacts import Artifact

Record = dict[str, Any]


def find(corpus: Corpus, digits: str) -> list[tuple[Text, Place, bytes]]:
    """The documents of all generations, dropped ones too, whose ids begin with these hexadecimal digits.

    Raises ValueError if they are no digits of an id.
    """
    if not 4 <= len(digits) <= 2 * ID_BYTES or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError(f"{digits!r} is no document id; give 4 to 32 hexadecimal digits, or SHARD:ROW")
    half = int(digits[-1], 16) if len(digits) % 2 else None
    prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
    return [(text, *found) for text in corpus.texts for found in find_prefix(text.documents, prefix, half)]


def origin(corpus: Corpus, text: Text, place: Place, id: bytes) -> Record:
    """The document with its text, the file on disk, its copies in other places, and what became of it."""
    record = document(text, place)
    return record | {
        "generation": text.number,
        "path": _path(corpus, record["source"], record["file"]),
        "fate": fate(corpus, text, place, id),
        "copies": [c for t in corpus.texts for c in _copies(t, id)],
    }


def _path(corpus: Corpus, source: str, file: str) -> str | None:
    """Where the file was when it was read; None if its source's config says so, which no result records."""
    for generation in reversed(generations(corpus.generation)):
        if "read" in generation.inputs:
            for listed in listed_files(generation.inputs["read"]):
                if (listed.source, listed.name) == (source, file):
                    return f"{listed.root.rstrip('/')}/{listed.name}" if listed.root else None
    return None


def fate(corpus: Corpus, text: Text, place: Place, id: bytes) -> str:
    """One clause: kept, retired, dropped by a rule, or removed as a near duplicate of another."""
    if _holds(text.kept, place):
        return "retired, its file is gone" if id in set(corpus.retired.tolist()) else "kept"
    selected = text.kept.inputs["kept"]
    if not _holds(selected, place):
        (row,) = _with_id(
            pq.read_table(selected.path(f"{place.part}.dropped.parquet"), partitioning=None), "id", id
        )
        return f"dropped by {row['rule']}: {row['value']:g}, the limit is {row['limit']:g}"
    (row,) = _with_id(pq.read_table(text.kept.path("removed.parquet"), partitioning=None), "removed_id", id)
    return f"removed as a near duplicate of {row['kept_id'].hex()} (Jaccard {row['jaccard']:.3f})"


def _holds(rows: Artifact, place: Place) -> bool:
    return bool(np.isin(place.row, read_rows(rows, place.part)))


def _copies(text: Text, id: bytes) -> Iterator[Record]:
    """Where else the same text was found."""
    for part in parts_between(text.documents, id, id):
        table = pq.read_table(text.documents.path(f"{part}.repeated.parquet"), partitioning=None)
        for row in _with_id(table, "id", id):
            yield {"generation": text.number} | {name: row[name] for name in ("source", "file", "position")}


def _with_id(table: pa.Table, column: str, id: bytes) -> list[Record]:
    return table.filter(pc.equal(table.column(column), pa.scalar(id, pa.binary(ID_BYTES)))).to_pylist()
