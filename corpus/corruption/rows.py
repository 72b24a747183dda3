"""Segments -> rows of special tokens and tokens, noise applied block by block while they lie in the cache.

An objective over token ranges is two parts: which ranges (pairs.py), and a noise, a function of `Rows`. This
file is what they share. The result does not depend on where blocks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.corruption.masking import Marks, Targets
from corpus.corruption.pairs import Segments
from corpus.instance_kinds import NO_PAIR, MaskedInstances
from corpus.ragged import Ints, blocks, offsets_of, ranges
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

# Only a sixth of a block is drawn and touched, so its temporaries stay in a 1 MB L2 cache. Measured at length
# 128: 2^16 (more calls) and 2^20 (less cache) are a quarter slower.
BLOCK_TOKENS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Rows:
    """B rows `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]` where there is no B."""

    tokens_T: npt.NDArray[Any]  # the noise changes it in place
    lengths_B: Ints
    segment_b_B: Ints  # where B begins in its row, as in MaskedInstances
    stream: Stream  # keyed by instance
    segments: Segments
    shard: TokenShard
    marks: Marks

    def word_start_C(self) -> npt.NDArray[np.bool_]:
        """Where words begin, one flag per token that is not special.

        The first token of A and of B always begins one: truncation can leave a `##` piece there, which the
        original glues to the last word of A, across [SEP].
        """
        s = self.segments
        lengths = np.stack([s.a_length, s.b_length], 1).ravel()
        starts = self.shard.word_start_T[ranges(np.stack([s.a_start, s.b_start], 1).ravel(), lengths)]
        starts[offsets_of(lengths)[:-1][lengths > 0]] = True
        return starts


def corrupt_rows(
    shard: TokenShard,
    marks: Marks,
    make_segments: Callable[..., Segments],
    noise: Callable[[Rows], Targets],
    *,
    pairs: bool,
    seed: int,
    pass_number: int,
    documents: Ints | None = None,
) -> MaskedInstances:
    """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way.

    `make_segments(shard, documents, stream=...)` says which tokens a row holds, `noise` what is done to them.
    Both draw from streams of (seed, pass, content): of the document, and of the document's chunk.
    """
    documents = np.arange(len(shard.document_ids)) if documents is None else documents
    content = shard.document_ids[documents]
    segments = make_segments(shard, documents, stream=Stream.of(seed, "segments", pass_number, content))
    # an instance keeps its id under another seed: it says which text this is, not which draws
    chunks = Stream.of(0, "instance", pass_number, content).at(segments.document).fold(segments.chunk)
    streams = Stream.of(seed, "noise", pass_number, chunks.keys_N)
    paired = segments.b_length > 0
    lengths_B = segments.a_length + segments.b_length + np.where(paired, 3, 2)
    segment_b_B = np.where(paired, segments.a_length + 2, lengths_B)
    offsets = offsets_of(lengths_B)
    # [CLS] and [SEP] are appended to the shard's tokens, so that a row is five ranges of one array
    source = np.concatenate([shard.tokens_T, np.array([marks.cls_id, marks.sep_id], shard.tokens_T.dtype)])
    cls, sep = len(source) - 2, len(source) - 1
    tokens_T = np.empty(offsets[-1], source.dtype)
    targets = []
    for first, last in blocks(offsets, BLOCK_TOKENS):
        block, part = slice(first, last), segments.at(slice(first, last))
        one = np.ones_like(part.a_start)
        starts = np.stack([one * cls, part.a_start, one * sep, part.b_start, one * sep], 1)
        lengths = np.stack([one, part.a_length, one, part.b_length, paired[block]], 1)
        row_tokens = tokens_T[offsets[first] : offsets[last]]
        # indices are right by construction; without a mode, `take` would check and buffer its output
        np.take(source, ranges(starts.ravel(), lengths.ravel()), out=row_tokens, mode="clip")
        rows = Rows(
            tokens_T=row_tokens,
            lengths_B=lengths_B[block],
            segment_b_B=segment_b_B[block],
            stream=streams.at(block),
            segments=part,
            shard=shard,
            marks=marks,
        )
        targets.append(noise(rows))
    return MaskedInstances(
        tokens=tokens_T,
        offsets=offsets,
        segment_b=segment_b_B.astype(np.int32),
        target_positions=_joined([t.positions_M for t in targets], np.int32),
        target_tokens=_joined([t.tokens_M for t in targets], source.dtype),
        target_offsets=offsets_of(_joined([np.diff(t.offsets) for t in targets], np.int64)),
        pair_label=segments.is_random.astype(np.uint8)
        if pairs
        else np.full(len(segments), NO_PAIR, np.uint8),
        instance_id=chunks.keys_N,
        document=documents[segments.document].astype(np.int32),
    )


def _joined(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Any:
    return np.concatenate([np.zeros(0, dtype), *(part.astype(dtype) for part in parts)])
