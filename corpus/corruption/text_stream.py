"""A shard as one run of text, cut into rows that go on where the row before left off (XLNet's data_utils.py).

A row of L tokens is `reuse_len` tokens and, after them, a pair of segments A and B; the next row begins `reuse_len`
tokens further, so that what a model remembers of the first part lies directly before it:

    stream   ..............................................................................
    row 0    [ reuse_len ][  A     | B ]sep cls       B goes on after A (label 1), or lies elsewhere (label 0)
    row 1                 [ reuse_len ][ A  | B ]

The pair takes L - reuse_len - 3 tokens: sentences are collected until they reach that; A ends at a random boundary between
them; with p = 1/2, and always if there is none, B is a piece of the same stream, begun at a uniform place and widened to
whole sentences. Tokens too many are cut off on the right, the longer side first, a tie from B. Semantics `code`, but draws
are keyed by (seed, pass, document, place in it), not a sequence. The tokens behind the last whole row are not read.

Letters: `B` rows, `N` tokens of the stream, `S` sentence boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools
from corpus.corruption.pairs import trims
from corpus.ragged import Ints, ranges
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

_IS_RANDOM, _CUT, _PLACE = 0, 1, 2  # counters of a row's stream


@dataclass(frozen=True, kw_only=True)
class TextStream:
    """The text of all documents, in the order of the shard."""

    tokens_N: npt.NDArray[Any]
    word_start_N: Bools
    boundaries_S: Ints  # where sentences begin, without 0 and N
    document_begins: Ints  # (documents + 1,) in the stream as it is read forward
    backward: bool

    @classmethod
    def of(cls, shard: TokenShard, document_end_id: int | None) -> Self:
        """With `document_end_id` that token stands behind every document, in its last sentence."""
        tokens: npt.NDArray[Any] = shard.tokens_T
        starts, begins = shard.word_start_T, shard.document_offsets
        sentences = shard.sentence_offsets
        if document_end_id is not None:
            ends = begins[1:][np.diff(begins) > 0]
            tokens = np.insert(tokens, ends, document_end_id)
            starts = np.insert(starts, ends, True)
            begins, sentences = (x + np.searchsorted(ends, x, side="right") for x in (begins, sentences))
        boundaries = sentences[:-1][(np.diff(sentences) > 0) & (sentences[:-1] > 0)]
        return cls(
            tokens_N=tokens,
            word_start_N=starts,
            boundaries_S=boundaries,
            document_begins=begins,
            backward=False,
        )

    def turned(self) -> TextStream:
        """The same text from its end."""
        return TextStream(
            tokens_N=self.tokens_N[::-1],
            word_start_N=self.word_start_N[::-1],
            boundaries_S=(len(self.tokens_N) - self.boundaries_S)[::-1],
            document_begins=self.document_begins,
            backward=not self.backward,
        )

    def places(self, begin_B: Ints) -> tuple[Ints, Ints]:
        """The document that tokens belong to, and how far from its first token they lie."""
        forward_B = len(self.tokens_N) - 1 - begin_B if self.backward else begin_B
        document_B = np.searchsorted(self.document_begins, forward_B, side="right") - 1
        return document_B, forward_B - self.document_begins[document_B]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """B rows: `a_length` tokens from where a row begins, the first part included; then a second segment."""

    a_length: Ints
    b_start: Ints
    b_length: Ints
    follows: Bools  # B goes on after A


def row_begins(stream: TextStream, *, length: int, reuse_len: int, documents: Ints | None) -> Ints:
    """(B,) where rows begin: all of them, or those that begin in `documents`, in the order of these."""
    count = max(0, (len(stream.tokens_N) - length) // reuse_len + 1)
    begin_B = reuse_len * np.arange(count)
    if documents is None:
        return begin_B
    document_B = stream.places(begin_B)[0]
    if stream.backward:
        last, first = (
            count - np.searchsorted(document_B[::-1], documents, side=side) for side in ("left", "right")
        )
    else:
        first, last = (np.searchsorted(document_B, documents, side=side) for side in ("left", "right"))
    return begin_B[ranges(first, last - first)]


def pair_up(stream: TextStream, begin_B: Ints, *, length: int, reuse_len: int, draws: Stream) -> Pairs:
    """The segments of the rows that begin there; `draws` is keyed by row."""
    bounds, size = stream.boundaries_S, len(stream.tokens_N)
    bounds_or_end = np.append(bounds, size)
    room, start = length - reuse_len - 3, begin_B + reuse_len
    first = np.searchsorted(bounds, start, side="right")
    beyond = np.searchsorted(bounds, start + room)
    reach = bounds_or_end[beyond]  # where `room` tokens are collected
    cuts = beyond - first
    cut = bounds_or_end[first + draws.below(np.maximum(cuts, 1), _CUT)]  # without any it is `reach`
    is_random = (cuts == 0) | draws.chance(0.5, _IS_RANDOM)

    wanted = np.maximum(1, room - (cut - start))
    place = draws.below(size - wanted, _PLACE)
    left = np.append(0, bounds)[np.searchsorted(bounds, place, side="right")]
    right = np.minimum(bounds_or_end[np.searchsorted(bounds, place + wanted)], size - 1)
    b_start = np.where(is_random, left, cut)
    b_length = np.where(is_random, right, reach) - b_start
    from_a, from_b = trims(cut - start, b_length, room)
    return Pairs(
        a_length=reuse_len + cut - start - from_a,
        b_start=b_start,
        b_length=b_length - from_b,
        follows=~is_random,
    )
