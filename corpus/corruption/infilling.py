"""Text infilling: spans of words of Poisson length are read as one mask each (BART, section 2.2).

    text        a b c d e f g h i j          spans: c (1), f g h (3), none between i and j (0)
    infilled    a b _ d e _ i _ j            a span of no length is a mask where nothing was

After fairseq (DenoisingDataset.add_whole_word_mask with span-poisson and replace length 1), semantics `code`: budget and
lengths count words; ceil(share x words) are to be hidden; lengths are drawn until they reach that, the last is cut to fit;
spans begin at words chosen without replacement and end with the text. A span may run into the next: what it covers is gone,
the other's mask too, and hidden are fewer words than the budget:

    spans 3 at b, 2 at d      a [b c d] e f g      ->   a _ f g        four hidden, one mask
                                    [d e]

`exact` is semantics `fixed`: all ways to place the spans apart are equally likely, so the whole budget is hidden, and every
mask, put in or not, is a random token with the same chance. (In the original of the masks put in into a row ceil(random_share
x their number) are, so one at least.) One thing is always fixed: the original computes their number by way of a quotient of
floats, which adds one to it at a few lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import choose
from corpus.corruption.noisy_text import (
    AnyTokenButTheFirst,
    NoisyText,
    OtherToken,
    check_random_share,
    check_share,
    masks,
)
from corpus.corruption.seq2seq import numbers
from corpus.corruption.token_noises import put_in, share_of, some_random
from corpus.ragged import Ints, offsets_of, ranges, sums
from corpus.stream import Stream, Words

_LENGTHS, _LAST, _STARTS, _MASKS, _INSERTS, _INSERTED = range(6)  # parts of the noise's stream


@dataclass(frozen=True, kw_only=True)
class TextInfilling:
    """`share` of the words, in spans of `mean_span` words in the mean; `random_share` of the masks are random tokens."""

    share: float = 0.3
    mean_span: float = 3.0
    random_share: float = 0.0
    other: OtherToken = field(default_factory=AnyTokenButTheFirst)
    exact: bool = False

    def __post_init__(self) -> None:
        check_share(self.share, "TextInfilling.share", example=0.3)
        check_random_share(self.random_share, "TextInfilling.random_share")
        if (
            not 0.0 < self.mean_span <= 16.0
        ):  # above it a length of 0 has less than 1e-7, where the table ends
            raise ValueError(
                f"TextInfilling.mean_span is {self.mean_span}; it must lie above 0 and up to 16, e.g. 3.0"
            )

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise."""
        assert text.begins_T is not None, "BartObjective says where words begin if it infills"
        word_U = np.flatnonzero(text.begins_T)  # <s>, the words, </s> of each row: what begins them
        units = np.searchsorted(word_U, text.offsets)
        words_B = np.diff(units) - 2
        spans = draw_spans(share_of(words_B, self.share), self.mean_span, stream)
        first_N = self._starts(spans, words_B, stream.fold(_STARTS)) + (units[:-1] + 1)[spans.row_N]
        end_N = np.minimum(first_N + spans.lengths_N, (units[1:] - 1)[spans.row_N])

        first_G, end_G, row_G = _merged(first_N, end_N, spans.row_N)
        begin_G, end_G = word_U[first_G], word_U[end_G]
        groups_B = np.bincount(row_G, minlength=len(words_B))
        read = masks(groups_B, self.random_share, self.other, text, stream.fold(_MASKS))
        gone_B = sums(end_G - begin_G - 1, offsets_of(groups_B))
        text = (
            replace(text, begins_T=None)
            .written(begin_G, read)
            .without(ranges(begin_G + 1, end_G - begin_G - 1), gone_B)
        )
        inserts_B = np.minimum(spans.inserts_B, text.spare_B)
        draw_masks = masks if self.exact else some_random
        read = draw_masks(inserts_B, self.random_share, self.other, text, stream.fold(_INSERTED))
        return put_in(text, inserts_B, read, stream.fold(_INSERTS))

    def _starts(self, spans: Spans, words_B: Ints, stream: Stream) -> Ints:
        """(N,) the word that each span begins with, ascending in its row."""
        if not self.exact:
            taken = np.flatnonzero(choose(words_B, spans.spans_B, stream))
            return taken - offsets_of(words_B)[spans.row_N]
        # spans apart: shrink each to one word, choose places among what is left, and widen them again
        wider_B = sums(spans.lengths_N - 1, offsets_of(spans.spans_B))
        places_B = words_B - wider_B
        place_N = np.flatnonzero(choose(places_B, spans.spans_B, stream)) - offsets_of(places_B)[spans.row_N]
        wider = offsets_of(spans.lengths_N - 1)[:-1]
        return place_N + wider - wider[offsets_of(spans.spans_B)[spans.row_N]]


def _merged(first_N: Ints, end_N: Ints, row_N: Ints) -> tuple[Ints, Ints, Ints]:
    """Spans in ascending order, those that run into each other as one: it begins where none before it has reached."""
    reach_N = np.maximum.accumulate(end_N)
    head_N, last_N = np.ones((2, len(first_N)), np.bool_)
    head_N[1:] = last_N[:-1] = first_N[1:] >= reach_N[:-1]
    return first_N[head_N], reach_N[last_N], row_N[head_N]


@dataclass(frozen=True, kw_only=True)
class Spans:
    """N spans of B rows, and spans of no length."""

    lengths_N: Ints  # at least 1; of each row they sum up to its budget
    row_N: Ints
    spans_B: Ints
    inserts_B: Ints


def draw_spans(budget_B: Ints, mean: float, stream: Stream) -> Spans:
    """Poisson lengths until each row's budget is reached.

    The last length, the only one that may be cut, goes to a random place among the others.
    """
    lengths_of = stream.fold(_LENGTHS)
    # budget / mean draws are needed in the mean, with a standard deviation of sqrt(budget) / mean
    draws_B = np.ceil((budget_B + 4.5 * np.sqrt(budget_B)) / mean + 1.0).astype(np.int64)
    draws_B[budget_B == 0] = 0
    while True:
        row, number = numbers(draws_B)
        drawn = poisson(lengths_of.at(row).bits(number), mean)
        before, first = offsets_of(drawn), offsets_of(draws_B)
        short = before[first[1:]] - before[first[:-1]] < budget_B
        if not short.any():
            break
        draws_B[short] *= 2  # one row in thousands
    left = (budget_B + before[first[:-1]])[row] - before[:-1]
    used = left > 0
    lengths, row = np.minimum(drawn, left)[used], row[used]
    real = lengths > 0
    inserts_B = np.bincount(row[~real], minlength=len(budget_B))
    lengths, row = lengths[real], row[real]
    spans_B = np.bincount(row, minlength=len(budget_B))
    first, some = offsets_of(spans_B), spans_B > 0
    last = first[1:][some] - 1
    place = first[:-1][some] + stream.at(some).fold(_LAST).below(spans_B[some])
    lengths[last], lengths[place] = lengths[place], lengths[last]
    return Spans(lengths_N=lengths, row_N=row, spans_B=spans_B, inserts_B=inserts_B)


def poisson_shares(mean: float) -> npt.NDArray[np.float64]:
    """The probabilities of the lengths 0, 1, ...: up to the first below 1e-7 (at most 127), and then scaled to sum to 1."""
    shares = [math.exp(-mean)]
    while shares[-1] >= 1e-7 and len(shares) < 128:
        shares.append(shares[-1] * mean / len(shares))
    return np.array(shares) / sum(shares)


def poisson(bits_N: Words, mean: float) -> Ints:
    """(N,) lengths, by the upper half of the bits."""
    bounds, table = _tables(mean)
    lengths = table[bits_N >> np.uint64(48)].astype(np.int64)
    unsure = np.flatnonzero(lengths == _UNSURE)
    lengths[unsure] = np.searchsorted(bounds, bits_N[unsure] >> np.uint64(32), side="right")
    return lengths


_UNSURE = 255


@cache
def _tables(mean: float) -> tuple[Words, npt.NDArray[np.uint8]]:
    """Where in 0 ... 2^32 each length but the first begins; and the length by the upper 16 bits of 32, where these say it."""
    bounds = np.rint(np.cumsum(poisson_shares(mean))[:-1] * 2.0**32).astype(np.uint64)
    low = np.arange(2**16, dtype=np.uint64) << np.uint64(16)
    first = np.searchsorted(bounds, low, side="right")
    last = np.searchsorted(bounds, low + np.uint64(2**16 - 1), side="right")
    return bounds, np.where(first == last, first, _UNSURE).astype(np.uint8)
