"""Pretraining instances as Arrow IPC files: written once per (shard, pass), memory-mapped, gathered by index.

One file is one record batch, one row an instance:

    tokens            large_list<uint16|uint32>   what the model reads, special tokens included
    segment_b         int32                       where in the row segment B begins; its length if none
    target_positions  large_list<int32>           ascending indices in the row
    target_tokens     large_list<as tokens>       what the model must predict there
    is_random         uint8                       1: the second segment is not the continuation of the first
    instance_id       uint64                      hash of (document id, pass, chunk number)
    document          int32                       row in the shard of the document it begins with: the way back to its line

Letters: B instances, T tokens of all of them, M targets of all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.ragged import Ints, offsets_of, ranges, rows_of
from infra.artifacts import Artifact

SCHEMA_VERSION = 2
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class InstanceShard:
    """Instances as flat columns: in memory when an objective has just made them, views of a mapped file when
    opened.
    """

    tokens: Tokens  # (T,)
    offsets: Ints  # (B + 1,) into tokens
    segment_b: npt.NDArray[np.int32]  # (B,)
    target_positions: npt.NDArray[np.int32]  # (M,)
    target_tokens: Tokens  # (M,)
    target_offsets: Ints  # (B + 1,) into target_positions and target_tokens
    is_random: npt.NDArray[np.uint8]  # (B,)
    instance_id: npt.NDArray[np.uint64]  # (B,)
    document: npt.NDArray[np.int32]  # (B,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def write(self, path: Path) -> None:
        """Write one Arrow IPC file; equal instances are equal bytes."""
        batch = pa.record_batch(
            {
                "tokens": pa.LargeListArray.from_arrays(self.offsets, self.tokens),
                "segment_b": self.segment_b,
                "target_positions": pa.LargeListArray.from_arrays(self.target_offsets, self.target_positions),
                "target_tokens": pa.LargeListArray.from_arrays(self.target_offsets, self.target_tokens),
                "is_random": self.is_random,
                "instance_id": self.instance_id,
                "document": self.document,
            }
        )
        note = json.dumps({"kind": "instances", "schema_version": SCHEMA_VERSION}, sort_keys=True)
        batch = batch.replace_schema_metadata({"cloze": note})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)

    @classmethod
    def open(cls, path: Path) -> InstanceShard:
        """Map a file; nothing is read until it is used. Raises ValueError if it does not hold instances."""
        try:
            with pa.ipc.open_file(pa.memory_map(str(path))) as file:
                note = json.loads((file.schema.metadata or {}).get(b"cloze", b"{}"))
                found = note.get("kind"), note.get("schema_version"), file.num_record_batches
                if found != ("instances", SCHEMA_VERSION, 1):
                    raise ValueError(f"it says (kind, schema version, batches) = {found}")
                batch = file.get_batch(0)
        except (pa.ArrowInvalid, ValueError) as error:
            what = f"{path.name} is not a file of instances, schema version {SCHEMA_VERSION} ({error})"
            raise ValueError(f"{what}; prepare it again with the step `corrupt`") from None
        tokens, positions, targets = (batch[n] for n in ("tokens", "target_positions", "target_tokens"))
        return cls(
            tokens=_view(tokens.values),
            offsets=_view(tokens.offsets),
            segment_b=_view(batch["segment_b"]),
            target_positions=_view(positions.values),
            target_tokens=_view(targets.values),
            target_offsets=_view(positions.offsets),
            is_random=_view(batch["is_random"]),
            instance_id=_view(batch["instance_id"]),
            document=_view(batch["document"]),
        )

    def same_as(self, other: InstanceShard) -> bool:
        """Whether every column is equal, dtypes included."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def _view(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=True)


@dataclass(frozen=True, kw_only=True)
class InstanceBatch:
    """Some instances as one flat, unpadded stream; all int64 but `cu_seqlens`."""

    tokens_T: Ints
    segments_T: Ints  # 0 or 1
    positions_T: Ints  # from 0 in every instance
    cu_seqlens: npt.NDArray[np.int32]  # (B + 1,)
    max_seq_len: int
    target_index_M: Ints  # into T
    target_tokens_M: Ints
    next_sentence_B: Ints  # 1 = random
    instance_id_B: npt.NDArray[np.uint64]


class Instances:
    """All instances of finished `corrupt` steps, one per generation, numbered by (generation, file name, row)."""

    def __init__(self, *artifacts: Artifact) -> None:
        paths = [a.path(name) for a in artifacts for name in a.names() if name.endswith(".arrow")]
        self.shards = [InstanceShard.open(path) for path in paths]
        self._first = offsets_of(np.array([len(shard) for shard in self.shards], np.int64))

    def __len__(self) -> int:
        return int(self._first[-1])

    def gather(self, indices: npt.NDArray[np.integer]) -> InstanceBatch:
        """(B,) indices, any order, repeats allowed -> their instances in that order. Raises IndexError."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(
                f"instance {indices.min()}..{indices.max()} asked for; there are {len(self)}, from 0"
            )
        where = np.searchsorted(self._first, indices, side="right") - 1
        rows = indices - self._first[where]
        parts = [(np.flatnonzero(where == s), self.shards[s]) for s in np.unique(where)]

        lengths, targets, segment_b, random = (np.empty(len(rows), np.int64) for _ in range(4))
        ids = np.empty(len(rows), np.uint64)
        for at, shard in parts:
            row = rows[at]
            lengths[at] = shard.offsets[row + 1] - shard.offsets[row]
            targets[at] = shard.target_offsets[row + 1] - shard.target_offsets[row]
            segment_b[at], random[at], ids[at] = (
                shard.segment_b[row],
                shard.is_random[row],
                shard.instance_id[row],
            )

        offsets, target_offsets = offsets_of(lengths), offsets_of(targets)
        tokens_T = np.empty(offsets[-1], np.int64)
        target_index_M, target_tokens_M = (np.empty(target_offsets[-1], np.int64) for _ in range(2))
        for at, shard in parts:
            row = rows[at]
            tokens_T[ranges(offsets[at], lengths[at])] = shard.tokens[ranges(shard.offsets[row], lengths[at])]
            source = ranges(shard.target_offsets[row], targets[at])
            goal = ranges(target_offsets[at], targets[at])
            target_index_M[goal] = shard.target_positions[source]
            target_tokens_M[goal] = shard.target_tokens[source]
        target_index_M += np.repeat(offsets[:-1], targets)

        row_T = rows_of(lengths)
        positions_T = np.arange(offsets[-1]) - offsets[row_T]
        return InstanceBatch(
            tokens_T=tokens_T,
            segments_T=(positions_T >= segment_b[row_T]).astype(np.int64),
            positions_T=positions_T,
            cu_seqlens=offsets.astype(np.int32),
            max_seq_len=int(lengths.max(initial=0)),
            target_index_M=target_index_M,
            target_tokens_M=target_tokens_M,
            next_sentence_B=random,
            instance_id_B=ids,
        )
