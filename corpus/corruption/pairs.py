"""Documents -> pairs of segments for next-sentence or sentence-order prediction, or single segments.

BERT's walk (google-research/bert@eedf571, create_pretraining_data.py, in our words): a document's sentences
are collected until they reach the target length; the chunk is cut after a random sentence; its second part is
either what follows (label 0) or, with p = 1/2 and always for a one-sentence chunk, text of another document
(label 1), and then the unused sentences start the next chunk. Too long pairs lose tokens of their longer
side, front or back at random. Semantics `code`; one thing is fixed: draws are keyed by (seed, pass, document
id, chunk number), not a sequence.

    sentences of a document   |--------|-----|----|---------|------|---|------|
    chunk (>= target)         |A A A A A A A A A A|B B B B B|          label 0: the next chunk starts here
                              |A A A A A A A A A A|  put back ->       label 1: B is lent by another document

ALBERT (google-research/albert@b772393, Lan et al. 2020, section 3.1) walks and cuts alike, but with p = 1/2
swaps the two parts (label 1) and puts nothing back. A one-sentence chunk has no second part; the original
gives it text of another document, label 1, so that some of its sentence-order pairs are really next-sentence
ones. The paper has no such pairs.

Both segments are contiguous token ranges of the shard, so no token is touched here: all documents walk in
lock-step, one chunk at a time, and ranges are only numbers. Truncation shrinks ranges in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.corruption.layout import RowRanges
from corpus.instance_kinds import NO_PAIR
from corpus.ragged import Ints, offsets_of
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

# To draw a document that is not the same one; then the last draw is taken, and still labelled random.
TRIES = 10

# Counters of a document's stream (once per pass) and of a chunk's stream (the fold of it).
_IS_SHORT, _SHORT_TARGET = 0, 1
_CUT, _LABEL, _RANDOM_START, _RANDOM_DOCUMENT = 0, 1, 2, 3  # the last one: 3 ... 12
_TRIM_A, _TRIM_B = 0, 1


@dataclass(frozen=True, kw_only=True)
class Segments:
    """B instances as token ranges of their shard, ordered by (document, chunk)."""

    a_start: Ints  # (B,) into the shard's tokens, as b_start
    a_length: Ints
    b_start: Ints
    b_length: Ints  # 0: no second segment
    label: npt.NDArray[np.bool_]  # B does not follow A: it is random, or both are swapped
    document: Ints  # index among the documents asked for
    chunk: Ints  # number in the document and pass

    def __len__(self) -> int:
        return len(self.a_start)

    def at(self, part: npt.NDArray[np.bool_]) -> Segments:
        """Some of the instances."""
        return Segments(**{field.name: getattr(self, field.name)[part] for field in fields(self)})

    def ranges(self) -> RowRanges:
        """As rows of one or two ranges."""
        lengths = np.stack([self.a_length, self.b_length], 1)
        real = lengths > 0
        return RowRanges(
            start_K=np.stack([self.a_start, self.b_start], 1)[real],
            length_K=lengths[real],
            ranges_B=real.sum(1),
            pair_label_B=np.where(self.b_length > 0, self.label, NO_PAIR).astype(np.uint8),
            document_B=self.document,
            chunk_B=self.chunk,
        )


def target_lengths(stream: Stream, room: int, short_share: float) -> Ints:
    """(N,) the length that a chunk must reach: `room`, or for a share of documents uniform in 2 ... room."""
    short = 2 + stream.below(room - 1, _SHORT_TARGET)
    return np.where(stream.chance(short_share, _IS_SHORT), short, room)


def make_pairs(
    shard: TokenShard, documents: Ints, *, stream: Stream, room: int, short_share: float
) -> Segments:
    """Sentence pairs of at most `room` tokens from the given documents; the whole shard lends random B.

    `stream` is keyed by document, one for each of `documents`. A document's pairs depend on its own stream
    and the shard only.
    """
    bounds = shard.sentence_offsets
    lenders = np.flatnonzero(np.diff(shard.document_sentences) > 0)
    target = target_lengths(stream, room, short_share)
    sentence, end = shard.document_sentences[documents], shard.document_sentences[documents + 1]
    parts, live, chunk = [], np.flatnonzero(sentence < end), 0
    while live.size:  # as often as the longest document has chunks, on ever fewer documents
        chunks, first, goal = stream.at(live).fold(chunk), sentence[live], target[live]
        close = np.minimum(_reach(bounds, first, goal), end[live])
        count = close - first
        cut = first + 1 + np.where(count > 1, chunks.below(np.maximum(count - 1, 1), _CUT), 0)
        a_start, a_end = bounds[first], bounds[cut]
        b_start, b_end = bounds[cut], bounds[close]
        is_random = (count == 1) | chunks.chance(0.5, _LABEL)

        random = np.flatnonzero(is_random)
        b_start[random], b_end[random] = _random_ranges(
            shard, lenders, documents[live[random]], (goal - (a_end - a_start))[random], chunks.at(random)
        )
        parts.append(
            (live, np.full_like(live, chunk), a_start, a_end - a_start, b_start, b_end - b_start, is_random)
        )
        sentence[live] = np.where(is_random, cut, close)
        live = live[sentence[live] < end[live]]
        chunk += 1
    return _trim(_in_order(parts, documents), stream, room)


def make_ordered(
    shard: TokenShard, documents: Ints, *, stream: Stream, room: int, short_share: float, pair_lone: bool
) -> Segments:
    """Two consecutive segments of at most `room` tokens, swapped (label 1) with p = 1/2: ALBERT.

    One-sentence chunks get text of another document as B and label 1 with `pair_lone`, and are left out
    without.
    """
    bounds = shard.sentence_offsets
    lenders = np.flatnonzero(np.diff(shard.document_sentences) > 0)
    target = target_lengths(stream, room, short_share)
    sentence, end = shard.document_sentences[documents], shard.document_sentences[documents + 1]
    parts, live, chunk = [], np.flatnonzero(sentence < end), 0
    while live.size:
        chunks, first, goal = stream.at(live).fold(chunk), sentence[live], target[live]
        close = np.minimum(_reach(bounds, first, goal), end[live])
        count = close - first
        cut = first + 1 + np.where(count > 1, chunks.below(np.maximum(count - 1, 1), _CUT), 0)
        one_start, one_length = bounds[first], bounds[cut] - bounds[first]
        two_start, two_length = bounds[cut], bounds[close] - bounds[cut]
        lone = np.flatnonzero(count == 1)
        if pair_lone:
            two_start[lone], end_two = _random_ranges(
                shard, lenders, documents[live[lone]], (goal - one_length)[lone], chunks.at(lone)
            )
            two_length[lone] = end_two - two_start[lone]
        swap = chunks.chance(0.5, _LABEL) & (count > 1)
        parts.append(
            (
                live,
                np.full_like(live, chunk),
                np.where(swap, two_start, one_start),
                np.where(swap, two_length, one_length),
                np.where(swap, one_start, two_start),
                np.where(swap, one_length, two_length),
                swap | (count == 1),
            )
        )
        sentence[live] = close
        live = live[close < end[live]]
        chunk += 1
    made = _in_order(parts, documents)
    return _trim(made.at(made.b_length > 0), stream, room)


def make_singles(
    shard: TokenShard, documents: Ints, *, stream: Stream, room: int, short_share: float
) -> Segments:
    """Full chunks without a partner: the same walk, each chunk one segment of at most `room` tokens."""
    bounds = shard.sentence_offsets
    target = target_lengths(stream, room, short_share)
    sentence, end = shard.document_sentences[documents], shard.document_sentences[documents + 1]
    parts, live, chunk = [], np.flatnonzero(sentence < end), 0
    while live.size:
        first = sentence[live]
        close = np.minimum(_reach(bounds, first, target[live]), end[live])
        start, none = bounds[first], np.zeros_like(live)
        parts.append((live, none + chunk, start, bounds[close] - start, none, none, none.astype(np.bool_)))
        sentence[live] = close
        live = live[close < end[live]]
        chunk += 1
    return _trim(_in_order(parts, documents), stream, room)


def _reach(bounds: Ints, first: Ints, length: Ints) -> Ints:
    """The sentence before which at least `length` tokens have passed since `first` (it may lie beyond the
    document).
    """
    return np.searchsorted(bounds, bounds[first] + length)


def _random_ranges(
    shard: TokenShard, lenders: Ints, own: Ints, wanted: Ints, chunks: Stream
) -> tuple[Ints, Ints]:
    """Token ranges of at least `wanted` tokens (a sentence at least, up to the document's end) of another
    document.
    """
    other = lenders[chunks.below(len(lenders), _RANDOM_DOCUMENT)]
    for attempt in range(1, TRIES):
        again = np.flatnonzero(other == own)
        if not again.size:
            break
        other[again] = lenders[chunks.at(again).below(len(lenders), _RANDOM_DOCUMENT + attempt)]
    first, last = shard.document_sentences[other], shard.document_sentences[other + 1]
    first = first + chunks.below(last - first, _RANDOM_START)
    close = np.minimum(_reach(shard.sentence_offsets, first, np.maximum(wanted, 1)), last)
    return shard.sentence_offsets[first], shard.sentence_offsets[close]


def _in_order(parts: Sequence[tuple[npt.NDArray[Any], ...]], documents: Ints) -> Segments:
    """Chunks by chunk number -> instances by (document, chunk), by counting, without a sort."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Segments(
            a_start=none,
            a_length=none,
            b_start=none,
            b_length=none,
            label=none > 0,
            document=none,
            chunk=none,
        )
    document, chunk, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    place = offsets_of(np.bincount(document, minlength=len(documents)))[document] + chunk
    source = np.empty_like(place)
    source[place] = np.arange(len(place))
    a_start, a_length, b_start, b_length, label = (column[source] for column in columns)
    return Segments(
        a_start=a_start,
        a_length=a_length,
        b_start=b_start,
        b_length=b_length,
        label=label,
        document=document[source],
        chunk=chunk[source],
    )


def trims(a_length: Ints, b_length: Ints, room: int) -> tuple[Ints, Ints]:
    """How many tokens each side loses when one at a time goes from the longer side (a tie: from B) until
    `room` is kept.

    First the longer side shrinks to the shorter one, then they alternate, beginning with B.
    """
    excess = np.maximum(a_length + b_length - room, 0)
    lead = np.minimum(excess, np.abs(a_length - b_length))
    rest = excess - lead
    longer_a = a_length > b_length
    return np.where(longer_a, lead, 0) + rest // 2, np.where(longer_a, 0, lead) + (rest + 1) // 2


def _trim(segments: Segments, stream: Stream, room: int) -> Segments:
    """Shrink the ranges to `room` tokens; each lost token goes from front or back by the throw of a coin."""
    long = np.flatnonzero(segments.a_length + segments.b_length > room)
    chunks = stream.at(segments.document[long]).fold(segments.chunk[long])
    from_a, from_b = trims(segments.a_length[long], segments.b_length[long], room)
    # the arrays were made by _in_order and nobody else holds them, so they are changed in place
    segments.a_start[long] += chunks.fold(_TRIM_A).heads(from_a)
    segments.b_start[long] += chunks.fold(_TRIM_B).heads(from_b)
    segments.a_length[long] -= from_a
    segments.b_length[long] -= from_b
    return segments
