"""Prepared instances as Arrow IPC files: written once per (shard, pass), memory-mapped, gathered by index.

One file is one record batch, one row an instance. What its columns are depends on what an objective makes
(instance_kinds.py), and is written in the file; how they are kept, opened and gathered is the same for all and here. A
column is one value per row, or ragged: rows of any length in one flat array, with (B + 1,) offsets into it that several
columns may share. In the file a ragged column is a large_list.

Letters: B instances; T, S, M elements of a ragged column.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.ragged import Ints, offsets_of, ranges
from infra.artifacts import Artifact

SCHEMA_VERSION = 3
_Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class InstanceShard:
    """Instances as flat columns: in memory when just made or gathered, views of a mapped file when opened.

    A kind of instances is a subclass; its fields are the columns. `RAGGED` says for each ragged column which field holds its
    offsets; the first entry is what the model reads.
    """

    RAGGED: ClassVar[dict[str, str]] = {}

    instance_id: npt.NDArray[np.uint64]  # (B,) hash of (document id, pass, chunk number)
    document: npt.NDArray[
        np.integer
    ]  # (B,) row in the shard of the document it begins with: back to its line

    def __len__(self) -> int:
        return len(self.instance_id)

    @classmethod
    def columns(cls) -> list[str]:
        """The columns of a file, offsets left out: a large_list holds its own."""
        return [f.name for f in fields(cls) if f.name not in cls.RAGGED.values()]

    @classmethod
    def kind(cls) -> str:
        """What is written in the file."""
        return cls.__name__

    def lengths(self) -> Ints:
        """(B,) tokens that the model reads."""
        return np.diff(getattr(self, next(iter(self.RAGGED.values()))))

    def take(self, rows: Ints) -> InstanceShard:
        """Some instances, in this order, int64 but the ids."""
        return _gather(type(self), [(np.arange(len(rows)), self, rows)], len(rows))

    def counts(self) -> dict[str, int]:
        """What a step reports of them: tokens (that the model reads), targets."""
        return {"tokens": int(self.lengths().sum())}

    def write(self, path: Path) -> None:
        """Write one Arrow IPC file; equal instances are equal bytes."""
        batch = pa.record_batch({name: self._arrow(name) for name in sorted(self.columns())})
        note = json.dumps({"kind": self.kind(), "schema_version": SCHEMA_VERSION}, sort_keys=True)
        batch = batch.replace_schema_metadata({"cloze": note})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)

    def _arrow(self, name: str) -> pa.Array:
        values = getattr(self, name)
        if name in self.RAGGED:
            return pa.LargeListArray.from_arrays(getattr(self, self.RAGGED[name]), values)
        return pa.array(values)

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch) -> Self:
        """Views of a mapped record batch."""
        found: _Columns = {}
        for name in cls.columns():
            column = batch[name]
            if name in cls.RAGGED:
                found[cls.RAGGED[name]] = _view(column.offsets)
                column = column.values
            found[name] = _view(column)
        return cls(**found)

    def same_as(self, other: InstanceShard) -> bool:
        """Whether every column is equal, dtypes included."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def open_instances(path: Path) -> InstanceShard:
    """Map a file of any kind; nothing is read until it is used. Raises ValueError if it does not hold instances."""
    from corpus.instance_kinds import KINDS

    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            note = json.loads((file.schema.metadata or {}).get(b"cloze", b"{}"))
            found = note.get("schema_version"), file.num_record_batches
            kind = KINDS.get(note.get("kind"))
            if kind is None or found != (SCHEMA_VERSION, 1):
                raise ValueError(f"it says kind {note.get('kind')}, (schema version, batches) {found}")
            return kind.of_batch(file.get_batch(0))
    except (pa.ArrowInvalid, ValueError) as error:
        what = f"{path.name} is not a file of instances, schema version {SCHEMA_VERSION} ({error})"
        raise ValueError(f"{what}; prepare it again with the step `corrupt`") from None


def _view(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=True)


class Instances:
    """All instances of finished `corrupt` steps, one per generation, numbered by (generation, file name, row).

    Raises ValueError if they are of several kinds.
    """

    def __init__(self, *artifacts: Artifact) -> None:
        paths = [a.path(name) for a in artifacts for name in a.names() if name.endswith(".arrow")]
        self.shards = [open_instances(path) for path in paths]
        if len(kinds := {shard.kind() for shard in self.shards}) > 1:
            raise ValueError(
                f"these are {' and '.join(sorted(kinds))}; train on instances of one objective at a time"
            )
        self._first = offsets_of(np.array([len(shard) for shard in self.shards], np.int64))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence a model has to read."""
        return max((int(shard.lengths().max(initial=0)) for shard in self.shards), default=0)

    def gather(self, indices: npt.NDArray[np.integer]) -> InstanceShard:
        """(B,) indices, any order, repeats allowed -> their instances in that order, int64 but the ids. Raises IndexError."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(
                f"instance {indices.min()}..{indices.max()} asked for; there are {len(self)}, from 0"
            )
        where = np.searchsorted(self._first, indices, side="right") - 1
        rows = indices - self._first[where]
        parts = [(np.flatnonzero(where == number), shard) for number, shard in enumerate(self.shards)]
        return _gather(
            type(self.shards[0]), [(at, shard, rows[at]) for at, shard in parts if len(at)], len(rows)
        )


_Parts = list[tuple[Ints, InstanceShard, Ints]]  # these places of the result are those rows of the shard


def _gather(kind: type[InstanceShard], parts: _Parts, rows: int) -> InstanceShard:
    found: _Columns = {}
    for name in kind.columns():
        if name not in kind.RAGGED:
            found[name] = np.empty(rows, np.uint64 if name == "instance_id" else np.int64)
            for at, shard, row in parts:
                found[name][at] = getattr(shard, name)[row]
    for offsets in dict.fromkeys(kind.RAGGED.values()):
        names = [name for name, its in kind.RAGGED.items() if its == offsets]
        found |= _gather_ragged(parts, rows, offsets, names)
    return kind(**found)


def _gather_ragged(parts: _Parts, rows: int, offsets: str, names: list[str]) -> _Columns:
    lengths = np.empty(rows, np.int64)
    for at, shard, row in parts:
        first = getattr(shard, offsets)
        lengths[at] = first[row + 1] - first[row]
    goal_of = offsets_of(lengths)
    found: _Columns = {name: np.empty(goal_of[-1], np.int64) for name in names}
    for at, shard, row in parts:
        source = ranges(getattr(shard, offsets)[row], lengths[at])
        goal = ranges(goal_of[at], lengths[at])
        for name in names:
            found[name][goal] = getattr(shard, name)[source]
    return found | {offsets: goal_of}
