"""Which tokens a permutation language model predicts: about one in six, in spans (Yang et al. 2019, section 2.3).

Predicting every token is slow to learn, so XLNet predicts the last few of a factorisation. They are sampled as spans of
n = 1 ... 5 with probability proportional to 1/n: a context of n * alpha / beta tokens is walked over, and a span of n
begins at a uniform place in it.

    |  context: 3 * 6 tokens            |  context: 1 * 6 |
    . . . . . . . . X X X . . . . . . . . . . . X . . . .

What n counts, and where a span may begin, is the type of the spans:

    WordSpans   words; a span is whole words. What the authors meant (their issue 220), and the default
    PieceSpans  pieces, from the first piece of a word on: the original code (data_utils.py), whose test for the end
                looks at the first piece; spans may lie on <sep> and <cls>, and what lies there is not predicted
    TokenSpans  tokens, from anywhere: the words of the paper

What the walk leaves of the quota is filled with single tokens: of 43 in a part of 256, 42 come from spans of words, 35.5
from spans of pieces (where three tokens in four begin words) and 36.4 from spans of tokens. A span that reaches the end of
its part is given up and ends the walk, as in the code. All parts of all rows walk in lock-step, one span at a time.

Letters: `T` tokens, `P` parts of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools, choose
from corpus.ragged import Ints, offsets_of, ranges, rows_of
from corpus.stream import Stream, Words, below

_FILL = 0  # the fold of a part's stream that fills its quota; span number s has counters 2 s and 2 s + 1 of the stream
_WAVE = 24  # spans that draws are made for at once; most parts of 256 tokens need 20


@dataclass(frozen=True, kw_only=True)
class _Spans:
    """`longest` is the largest n; a context has alpha tokens for every beta that n counts."""

    takes_special: ClassVar[bool] = False
    """Whether <sep> and <cls> use up the quota (they are never predicted)."""

    longest: int = 5
    alpha: int = 6
    beta: int = 1

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 1 <= self.longest <= 100:
            raise ValueError(f"{name}.longest is {self.longest}; it must be 1 to 100, e.g. 5")
        if not 1 <= self.beta <= self.alpha <= 1000:
            raise ValueError(
                f"{name} has alpha {self.alpha} and beta {self.beta}; beta of alpha tokens are predicted, so give "
                "1 <= beta <= alpha, e.g. 6 and 1"
            )

    def begins(self, word_start_T: Bools, special_T: Bools) -> Bools:
        """Where a span may begin."""
        return word_start_T & ~special_T

    def bounds(self, word_start_T: Bools, special_T: Bools) -> Bools:
        """Where a span may end, and what n counts: the tokens that begin something."""
        return np.ones_like(special_T)


@dataclass(frozen=True, kw_only=True)
class WordSpans(_Spans):
    """Whole words, without special tokens; a span that exceeds the quota loses words at its end."""

    def bounds(self, word_start_T: Bools, special_T: Bools) -> Bools:
        return word_start_T | special_T


@dataclass(frozen=True, kw_only=True)
class PieceSpans(_Spans):
    """Pieces from the first of a word on; <sep> and <cls> count as words."""

    takes_special: ClassVar[bool] = True

    def begins(self, word_start_T: Bools, special_T: Bools) -> Bools:
        return word_start_T | special_T


@dataclass(frozen=True, kw_only=True)
class TokenSpans(_Spans):
    """Tokens, whether they begin words or not, without special tokens."""

    def begins(self, word_start_T: Bools, special_T: Bools) -> Bools:
        return ~special_T


Spans = WordSpans | PieceSpans | TokenSpans


def choose_targets(
    spans: Spans, lengths_P: Ints, quotas_P: Ints, word_start_T: Bools, special_T: Bools, stream: Stream
) -> Bools:
    """(T,) True at the tokens to predict: in each part as many as its quota, less what special tokens took of it.

    Parts lie one after the other; `stream` is keyed by part. A quota must not exceed what a part has to predict.
    """
    taken_T, left_P = walk(spans, lengths_P, quotas_P, word_start_T, special_T, stream)
    candidates = np.flatnonzero(~taken_T if spans.takes_special else ~(taken_T | special_T))
    filled = choose(counts(candidates, lengths_P), left_P, stream.fold(_FILL))
    taken_T[candidates[filled]] = True
    return taken_T & ~special_T


def walk(
    spans: Spans, lengths_P: Ints, quotas_P: Ints, word_start_T: Bools, special_T: Bools, stream: Stream
) -> tuple[Bools, Ints]:
    """What spans take, (T,), and what they leave of each part's quota, (P,)."""
    first = offsets_of(lengths_P)
    begin, begins_before = _places(spans.begins(word_start_T, special_T))
    bound_T = spans.bounds(word_start_T, special_T)
    bound_T[first[:-1][lengths_P > 0]] = True
    bound, bounds_before = _places(bound_T, more=spans.longest)
    special = np.append(np.flatnonzero(special_T & (not spans.takes_special)), len(special_T))
    left_P, found, number = quotas_P.copy(), [], 0
    part = np.flatnonzero((left_P > 0) & (lengths_P > 0))
    at, left, stop = first[part], left_P[part], first[part + 1]
    while part.size:
        if number % _WAVE == 0:
            count_WP, bits_WP = _draws(spans.longest, number, stream.at(part))
            row = np.arange(len(part))
        count = np.minimum(count_WP[number % _WAVE][row], left)
        context = count * spans.alpha // spans.beta
        ahead = below(bits_WP[number % _WAVE][row], context)
        start = begin[begins_before[np.minimum(at + ahead, stop)]]
        limit = np.minimum(start + left, len(special_T))
        end = bound[np.minimum(bounds_before[start] + count, bounds_before[limit + 1] - 1)]
        end = np.minimum(end, special[np.searchsorted(special, start)])
        good = (start < end) & (end < stop)
        length = np.where(good, end - start, 0)
        found.append((start, length))
        left_P[part] = left = left - length
        at = end + context - ahead
        good &= (left > 0) & (at < stop)
        part, row, at, left, stop = part[good], row[good], at[good], left[good], stop[good]
        number += 1
    taken_T = np.zeros(len(special_T), np.bool_)
    if found:
        starts, lengths = (np.concatenate(column) for column in zip(*found, strict=True))
        taken_T[ranges(starts, lengths)] = True
    return taken_T, left_P


def _draws(longest: int, number: int, stream: Stream) -> tuple[Ints, Words]:
    """(_WAVE, P) how much n is of spans from `number` on, and the bits that say where they begin."""
    cumulative = np.cumsum(1 / np.arange(1, longest + 1))
    thresholds = np.array([round(c / cumulative[-1] * 2.0**53) for c in cumulative[:-1]], np.uint64)
    numbers = np.arange(2 * number, 2 * (number + _WAVE)).repeat(len(stream))
    bits = Stream(np.tile(stream.keys_N, 2 * _WAVE)).bits(numbers).reshape(_WAVE, 2, -1)
    count_WP = 1 + np.searchsorted(thresholds, bits[:, 0] >> np.uint64(11), side="right")
    return count_WP, bits[:, 1]


def _places(flags_T: Bools, more: int = 0) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Where the flags are, then T (`more` times again); and for each place up to T + 1 how many of these lie before it."""
    before = np.zeros(len(flags_T) + 2, np.int32)
    np.cumsum(flags_T, out=before[1:-1])
    before[-1] = before[-2] + 1
    places = np.full(before[-1] + more, len(flags_T))
    places[: before[-2]] = np.flatnonzero(flags_T)
    return places, before


def counts(places: Ints, lengths_P: Ints) -> Ints:
    """How many of the ascending `places` lie in each part."""
    return np.diff(np.searchsorted(places, offsets_of(lengths_P)))


def factorise(selected_T: Bools, lengths_P: Ints, perm_size: int, stream: Stream) -> npt.NDArray[np.int16]:
    """(T,) the rank of each selected token among those of its part in a random order, -1 for all other tokens.

    A part is cut into chunks of `perm_size` tokens; chunks follow each other, and within one every order is equally
    likely. (The original gives all chunks of a part one order; published models have one chunk a part.) Only the order
    matters to attention, so ranks have no gaps.

    Sorts words of chunk, random bits and number, one padded row a part: numpy sorts short rows fastest (choose.py).
    """
    where = np.flatnonzero(selected_T)
    count_P = counts(where, lengths_P)
    part = rows_of(count_P)
    number = ranges(np.zeros_like(count_P), count_P)
    chunk = (where - offsets_of(lengths_P)[part]) // perm_size
    words = stream.at(part).bits(number) >> np.uint64(15) & ~np.uint64(2**15 - 1)
    words |= chunk.astype(np.uint64) << np.uint64(49) | number.astype(np.uint64)
    table = np.full((len(count_P), int(count_P.max(initial=0))), ~np.uint64(0))
    real = np.arange(table.shape[1]) < count_P[:, None]
    table[real] = words
    table.sort(axis=1)
    drawn = (table[real] & np.uint64(2**15 - 1)).astype(np.int64)
    ranks_T = np.full(len(selected_T), -1, np.int16)
    ranks_T[where[offsets_of(count_P)[part] + drawn]] = number
    return ranks_T
