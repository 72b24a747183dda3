"""Choosing spans of whole words until a budget of tokens is reached, for many rows at once (SpanBERT, Joshi
et al. 2020, section 3.1).

After pretraining/fairseq/data/masking.py (facebookresearch/SpanBERT@0670d8b). Until enough tokens are hidden:
draw a length in words, geometric, cut off and scaled up to 1 again (mean 3.8 at p = 0.2 and at most 10); draw
a token uniformly, and draw both anew if it is hidden already; the span begins at that token's word, goes over
words hidden before (they count as words, not as tokens), and ends with its last word, the row, or the budget:

    budget 3 left    | the | cat | un ##believ ##ab ##ly | big |
    span of 3 words          xxx   xx xxxxxxxx                 cut within the word (cut_words, the original)
                             xxx   xx xxxxxxxx xxxx xxxx       the word is completed

Pure in the stream of each row. The walk goes through all rows in lock-step, one span at a time; attempt
number s of a row has counter s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools
from corpus.corruption.masking import bounds_of
from corpus.ragged import Ints, offsets_of, ranges, sums
from corpus.stream import Stream, below

Floats = npt.NDArray[np.float64]


def span_shares(stop: float, longest: int) -> Floats:
    """(longest,) shares of spans of 1 ... longest words: geometric, p = `stop`, scaled to sum to 1."""
    weights = stop * (1.0 - stop) ** np.arange(longest)
    return weights / weights.sum()


def choose_spans(
    start_C: Bools, candidates_B: Ints, budgets_B: Ints, shares: Floats, stream: Stream, *, cut_words: bool
) -> Bools:
    """(C,) True at the hidden candidates. `start_C` is true where a word begins, as every row does."""
    first_W = bounds_of(start_C)
    word_C = np.cumsum(start_C, dtype=np.int32) - 1
    row_offsets = offsets_of(candidates_B)
    row_end_word = word_C[row_offsets[1:] - 1] + 1  # empty rows, which have no budget, ask for nothing
    thresholds = np.round(np.cumsum(shares)[:-1] * 2.0**32).astype(np.uint64)
    taken, left_B = np.zeros(len(start_C), np.bool_), budgets_B.copy()
    row, attempt = np.flatnonzero(left_B > 0), 0
    while row.size:
        bits = stream.at(row).bits(attempt)
        anchor = row_offsets[row] + below(bits, candidates_B[row])
        words = np.searchsorted(thresholds, bits & np.uint64(2**32 - 1), side="right") + 1
        hit = np.flatnonzero(~taken[anchor])
        word, there = word_C[anchor[hit]], row[hit]
        start = first_W[word]
        lengths = first_W[np.minimum(word + words[hit], row_end_word[there])] - start
        index_X, edges = ranges(start, lengths), offsets_of(lengths)
        hide_X = ~taken[index_X]
        tight = np.flatnonzero(lengths > left_B[there])  # the others fit, whatever of them is hidden already
        if tight.size:
            part = ranges(edges[tight], lengths[tight])
            place = index_X[part]
            into_word = place - (place if cut_words else first_W[word_C[place]])
            before = _newly_before(hide_X[part], into_word, lengths[tight])
            hide_X[part] &= before < np.repeat(left_B[there[tight]], lengths[tight])
        taken[index_X[hide_X]] = True
        left_B[there] -= sums(hide_X.view(np.int8), edges)
        row, attempt = row[left_B[row] > 0], attempt + 1
    return taken


def _newly_before(hide_X: Bools, into_word_X: Ints, lengths: Ints) -> Ints:
    """(X,) how many tokens of its span are newly hidden before each, or before its word: `into_word_X` tokens
    earlier.
    """
    edges = offsets_of(lengths)
    before = offsets_of(hide_X.view(np.int8))
    return before[np.arange(len(hide_X)) - into_word_X] - np.repeat(before[edges[:-1]], lengths)


def spans_of(taken_M: Ints, candidates_B: Ints) -> Ints:
    """Hidden candidates, ascending -> the numbers of those with which a span begins. Spans that touch or
    overlap are one.
    """
    begins = np.diff(taken_M, prepend=-2) > 1
    first_in_row = np.searchsorted(taken_M, offsets_of(candidates_B)[:-1])
    begins[first_in_row[first_in_row < len(taken_M)]] = True
    return np.flatnonzero(begins)
