"""Text columns as bytes: the three operations that filters and sentence splitting are made of.

A column of n texts is one run of UTF-8 bytes and n + 1 offsets; a rule that looks at bytes looks at all texts at once.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

_CHUNK_BYTES = 4 << 20  # keeps the temporary copies small; larger chunks are not faster


def utf8(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """(offsets (n+1,) int64 from 0, bytes uint8) of a column without nulls; no copy unless the column is a slice."""
    if texts.null_count:
        raise ValueError(
            f"{texts.null_count} of {len(texts)} texts are null; drop them first, e.g. with drop_null()"
        )
    _, offset_buffer, data_buffer = texts.buffers()
    if offset_buffer is None or not len(texts):
        return np.zeros(len(texts) + 1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if data_buffer is None:
        return offsets, np.zeros(0, np.uint8)
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return (offsets - offsets[0] if offsets[0] else offsets), data


def byte_set(members: Iterable[int]) -> bytes:
    """A table for `mark`: 1 at the members."""
    table = bytearray(256)
    for b in members:
        table[b] = 1
    return bytes(table)


def mark(data: np.ndarray, table: bytes) -> np.ndarray:
    """(len(data),) bool: which bytes are in the set. `bytes.translate` does 1 ns a byte, four times faster than
    indexing a table with a uint8 array, which first widens the indices to 8 bytes each."""
    parts = [data[i : i + _CHUNK_BYTES].tobytes().translate(table) for i in range(0, len(data), _CHUNK_BYTES)]
    return np.frombuffer(b"".join(parts), np.bool_)


def per_document(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n,) int64: how many flags are set in each document."""
    counts = np.zeros(len(offsets) - 1, np.int64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        counts[filled] = np.add.reduceat(flags, offsets[filled], dtype=np.int64)
    return counts
