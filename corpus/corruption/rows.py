"""Ranges of tokens -> rows with special tokens, noise applied block by block while they lie in the cache.

An objective over token ranges is two parts: which ranges (pairs.py, packing.py), and a noise, a function of
`Rows`. This file is what they share. The result does not depend on where blocks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import Marks, Targets
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints, blocks, offsets_of, ranges, rows_of
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

# Only a sixth of a block is drawn and touched, so its temporaries stay in a 1 MB L2 cache. Measured: 2^17
# (more calls) and 2^21 (less cache) are a quarter slower; walks in lock-step like 2^20, whole words 2^18.
BLOCK_TOKENS = 1 << 19


@dataclass(frozen=True, kw_only=True)
class Rows:
    """B rows laid out, to be hidden from."""

    tokens_T: npt.NDArray[Any]  # the noise changes it in place
    ranges: RowRanges  # of these rows, in the shard
    stream: Stream  # keyed by instance
    shard: TokenShard
    marks: Marks

    def word_start_C(self) -> npt.NDArray[np.bool_]:
        """Where words begin, one flag per token that is not special.

        The first token of a range always begins one: truncation can leave a `##` piece there, which the
        original glues to the last word of A, across [SEP].
        """
        starts = self.shard.word_start_T[_source(self.ranges)]
        starts = starts.copy() if starts.base is not None else starts
        starts[self.ranges.candidate_offsets[:-1]] = True
        return starts

    def word_start_T(self) -> npt.NDArray[np.bool_]:
        """Where words begin, one flag per token; a special token is a word."""
        starts = np.ones(len(self.tokens_T), np.bool_)
        starts[ranges(self.ranges.ends_K - self.ranges.length_K, self.ranges.length_K)] = self.word_start_C()
        return starts


def corrupt_rows(
    shard: TokenShard,
    marks: Marks,
    make_ranges: Callable[[TokenShard, Ints, Stream], RowRanges],
    noise: Callable[[Rows], Targets],
    *,
    seed: int,
    pass_number: int,
    documents: Ints | None = None,
) -> MaskedInstances:
    """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way.

    `make_ranges(shard, documents, stream)` says which tokens a row holds, `noise` what is done to them.
    Both draw from streams of (seed, pass, content): of the document, and of the document's chunk.
    """
    documents = np.arange(len(shard.document_ids)) if documents is None else documents
    content = shard.document_ids[documents]
    made = make_ranges(shard, documents, Stream.of(seed, "segments", pass_number, content))
    # an instance keeps its id under another seed: it says which text this is, not which draws
    chunks = Stream.of(0, "instance", pass_number, content).at(made.document_B).fold(made.chunk_B)
    streams = Stream.of(seed, "noise", pass_number, chunks.keys_N)
    offsets = made.offsets
    tokens_T = np.empty(offsets[-1], shard.tokens_T.dtype)
    targets = []
    for first, last in blocks(offsets, BLOCK_TOKENS):
        rows = Rows(
            tokens_T=tokens_T[offsets[first] : offsets[last]],
            ranges=made.at(first, last),
            stream=streams.at(slice(first, last)),
            shard=shard,
            marks=marks,
        )
        _fill(rows)
        targets.append(noise(rows))
    return MaskedInstances(
        tokens=tokens_T,
        offsets=offsets,
        segment_b=made.segment_b_B.astype(np.int32),
        target_positions=_joined([t.positions_M for t in targets], np.int32),
        target_tokens=_joined([t.tokens_M for t in targets], tokens_T.dtype),
        target_offsets=offsets_of(_joined([np.diff(t.offsets) for t in targets], np.int64)),
        pair_label=made.pair_label_B.astype(np.uint8),
        instance_id=chunks.keys_N,
        document=documents[made.document_B].astype(np.int32),
    )


def _fill(rows: Rows) -> None:
    """Write the special tokens and the ranges' tokens, by one `take`: [CLS] and [SEP] are ranges of one token
    (any token of the shard, overwritten afterwards).
    """
    made, out = rows.ranges, rows.tokens_T
    number_K = np.arange(len(made.length_K))
    place_K = 2 * number_K + rows_of(made.ranges_B) + 1
    starts = np.zeros(2 * len(number_K) + len(made), np.int64)
    lengths = np.ones_like(starts)
    starts[place_K], lengths[place_K] = made.start_K, made.length_K
    # indices are right by construction; without a mode, `take` would check and buffer its output
    np.take(rows.shard.tokens_T, ranges(starts, lengths), out=out, mode="clip")
    out[made.offsets[:-1]] = rows.marks.cls_id
    out[made.ends_K] = rows.marks.sep_id


def _source(made: RowRanges) -> Ints | slice:
    """The tokens of all ranges in the shard; where one range goes on after the other, nothing need be
    gathered.
    """
    ends_K = made.start_K + made.length_K
    if np.array_equal(made.start_K[1:], ends_K[:-1]):
        return slice(int(made.start_K[0]), int(ends_K[-1]))
    return ranges(made.start_K, made.length_K)


def _joined(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Any:
    return np.concatenate([np.zeros(0, dtype), *(part.astype(dtype) for part in parts)])
