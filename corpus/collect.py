"""Documents of all files, each once, in parts by id: how the text lay in files, and in which order, is not seen any more.

    runs of `ingest`     [ids of file a, sorted] [of file b] ...
    parts                p00: ids 0000...0fff    p01: ids 1000...1fff    ...    sorted by (id, source, file, position)

Of equal texts the first by (source, file, position) stays, unless an earlier generation has it already. A part holds all
documents of its range of ids, so splitting, renaming or reordering the input changes no text of any part. The number of
parts is a power of two that depends on the amount of text. Memory: one part, and the ids of one part of the history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpus.document import ID_BYTES, SCHEMA, ids_of, partition_files, read_documents, write_table
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

SMALL_PART, MANY, LARGE_PART = 2 << 20, 16, 64 << 20  # bytes of text
REPEATED = pa.schema([SCHEMA.field(name) for name in ("id", "source", "file", "position")])


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Nothing to set: equal normalised text is equal text."""


def collect(
    config: CollectConfig, *, documents: Artifact, previous: Artifact | None = None, out: Output
) -> Counts:
    """Write `<part>.parquet` (corpus/document.py) and `<part>.repeated.parquet`: where else the same text was found.

    `documents` is what `ingest` has read; `previous` is this step's result of the generation before. Counts are
    documents: read, kept, exact_duplicate (in this generation), in_history (in an earlier one).
    """
    bits = part_bits(documents.counts["text_bytes"])
    items = {part_name(number, bits): number for number in range(1 << bits)}
    return total(out.map(collect_part, items, bits=bits, documents=documents, previous=previous))


def part_bits(text_bytes: int) -> int:
    """log2 of the number of parts: up to 16 small ones, so that a small corpus keeps several workers busy, then parts of
    64 MB."""
    parts = max(min(MANY, text_bytes // SMALL_PART), text_bytes // LARGE_PART, 1)
    return (parts - 1).bit_length()


def part_name(number: int, bits: int) -> str:
    """p0, p1, ..., as many hexadecimal digits as the last one needs."""
    return f"p{number:0{max(1, -(-bits // 4))}x}"


def collect_part(
    number: int, *, bits: int, documents: Artifact, previous: Artifact | None, out: PartitionOutput
) -> Counts:
    """One range of ids."""
    first, last = number / (1 << bits), (number + 1) / (1 << bits)
    found = [_between(documents.path(name), first, last) for name in _runs(documents)]
    table = pa.concat_tables(found).sort_by([(n, "ascending") for n in ("id", "source", "file", "position")])
    ids = ids_of(table)
    again = np.zeros(len(ids), bool)
    again[1:] = ids[1:] == ids[:-1]
    old = np.zeros(len(ids), bool)
    for known in _history(previous, first, last):
        old |= _among(ids, known)
    kept = ~(again | old)
    with out.writer(f"{out.id}.parquet") as path:
        write_table(path, table.filter(pa.array(kept)))
    with out.writer(f"{out.id}.repeated.parquet") as path:
        write_table(path, table.filter(pa.array(~kept)).select(REPEATED.names))
    return {
        "read": len(ids),
        "kept": int(kept.sum()),
        "exact_duplicate": int((again & ~old).sum()),
        "in_history": int(old.sum()),
    }


def _runs(documents: Artifact) -> list[str]:
    return [name for name in documents.names() if name.endswith(".arrow")]


def read_run(path: Path) -> pa.Table:
    """One run of `ingest`, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _between(path: Path, first: float, last: float) -> pa.Table:
    """The rows of a mapped run whose ids lie in a range, given as shares of all ids: only these rows are read."""
    table = read_run(path)
    place = _place(ids_of(table))
    begin, end = np.searchsorted(place, [first, last])
    return table.slice(begin, end - begin)


def _place(ids: np.ndarray) -> np.ndarray:
    """Where ids lie in [0, 1): by their leading 32 bits, exactly."""
    leading = ids.view(np.uint8).reshape(-1, ID_BYTES)[:, :4].copy().view(">u4").ravel()
    return leading / np.float64(1 << 32)


def _history(previous: Artifact | None, first: float, last: float) -> Iterator[np.ndarray]:
    """The ids of earlier generations that may lie in a range, a part at a time."""
    while previous is not None:
        names = partition_files(previous)
        for number, name in enumerate(names):
            if number < last * len(names) and number + 1 > first * len(names):
                yield ids_of(read_documents(previous, name, ["id"]))
        previous = previous.inputs.get("previous")


def _among(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which ids are known: by their leading 8 bytes, then the few that agree there in full."""
    leading, others = (x.view(np.uint64).reshape(-1, 2)[:, 0] for x in (ids, known))
    found = np.isin(leading, others)
    if found.any():
        same = set(known[np.isin(others, leading[found])].tolist())
        found[found] = [value in same for value in ids[found].tolist()]
    return found


def generations(newest: Artifact) -> list[Artifact]:
    """The results of a step in all generations up to `newest`, oldest first."""
    found = [newest]
    while (earlier := found[-1].inputs.get("previous")) is not None:
        found.append(earlier)
    return found[::-1]
