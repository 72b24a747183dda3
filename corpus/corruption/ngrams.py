"""Choosing n-grams of words within a budget of tokens, for many rows at once (ALBERT, Lan et al. 2020,
section 4.1).

After create_pretraining_data.py (google-research/albert@b772393): all words of a row, in random order, are
starts. For each a length n is drawn, p(n) ~ 1 / n; the n-gram is shortened, word by word, until it fits what
is left of the budget, and passed over if not even its first word does, or if a word of it is taken already.
At the end of a row (or segment) an n-gram is as long as there are words.

Pure in the stream of each row. Rows walk in lock-step, one start at a time. A random order is not made by a
sort, of which a fifth would be used: starts are drawn, and those tried before drawn again. A row that is not
full after many draws has few starts left that could fit; these few are then sorted, so that the walk ends for
every row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools, shuffled_units
from corpus.ragged import Ints, offsets_of, ranges
from corpus.stream import Stream, Words, below

Floats = npt.NDArray[np.float64]
_ORDER = 0  # part of a row's stream: the order of the starts that are sorted, and how long their n-grams are
_TRIED, _TAKEN = 1, 2  # what a word is, both at once too; one that is neither can begin an n-gram


def ngram_shares(longest: int, favour_short: bool) -> Floats:
    """(longest,) p(n) ~ 1 / n; the other way round without `favour_short`."""
    weights = 1.0 / np.arange(1, longest + 1)
    return (weights if favour_short else weights[::-1]) / weights.sum()


def room_for(longest: int, groups: Ints) -> npt.NDArray[np.int8]:
    """(U,) how many words there are from each to the end of its group (row or segment), at most `longest`."""
    room = np.full(groups.sum(), longest, np.int8)
    ends = np.cumsum(groups)
    for n in range(longest - 1, 0, -1):
        room[(ends - n)[groups >= n]] = n
    return room


def draws_of(budgets_B: Ints) -> Ints:
    """(B,) how many starts are drawn before the rest is sorted."""
    return 2 * budgets_B + 8


def choose_ngrams(
    bounds_U: Ints,
    units_B: Ints,
    budgets_B: Ints,
    room_U: npt.NDArray[np.int8],
    shares: Floats,
    stream: Stream,
) -> tuple[Bools, Bools]:
    """(U,) True at the taken words, and (U,) True at the first word of each taken n-gram.

    `bounds_U`, (U + 1,): the tokens before each word and before the end; `units_B` words per row; `room_U`:
    how many words an n-gram may have that begins here.
    """
    walk = _Walk(bounds_U, budgets_B, room_U, shares)
    row = np.flatnonzero((budgets_B > 0) & (units_B > 0))
    draws_B, first_B, number = draws_of(budgets_B), offsets_of(units_B)[:-1], 0
    while row.size:
        # rows that are full stay in the arrays, where they can take nothing, until they are many: that costs
        # less than gathering what is known of the others in every step
        streams, first, units, left = stream.at(row), first_B[row], units_B[row], walk.left_B[row]
        until = draws_B[row].min()
        while number < until and 4 * np.count_nonzero(left) > 3 * len(row):
            bits = streams.bits(number)
            walk.step(first + below(bits, units), bits, left)
            number += 1
        walk.left_B[row] = left
        row = row[(left > 0) & (draws_B[row] > number)]
    walk.finish(units_B, stream.fold(_ORDER))
    return walk.state_U >= _TAKEN, walk.heads_U


class _Walk:
    """What all rows have taken so far."""

    def __init__(self, bounds_U: Ints, budgets_B: Ints, room_U: npt.NDArray[np.int8], shares: Floats) -> None:
        self.bounds_U, self.room_U, self.longest = bounds_U, room_U, len(shares)
        self.thresholds = np.round(np.cumsum(shares)[:-1] * 2.0**32).astype(np.uint64).tolist()
        self.left_B = budgets_B.copy()
        self.state_U = np.zeros(len(room_U), np.int8)
        self.heads_U = np.zeros(len(room_U), np.bool_)

    def step(self, unit: Ints, bits: Words, left: Ints) -> None:
        """Try one start of each of some rows, and take from what is `left` to them; the lower half of the
        bits says how long an n-gram is wanted.
        """
        state, bounds = self.state_U, self.bounds_U
        low = bits & np.uint64(2**32 - 1)
        n = np.ones_like(unit)
        for threshold in self.thresholds:
            n += low >= threshold
        np.minimum(n, self.room_U[unit], out=n)
        begin = bounds[unit]
        end = begin + left
        while (long := np.flatnonzero((bounds[unit + n] > end) & (n > 0))).size:
            n[long] -= 1
        good = np.flatnonzero((n > 0) & (state[unit] == 0) & (state[np.maximum(unit + n - 1, unit)] < _TAKEN))
        state[unit] |= _TRIED
        first, n = unit[good], n[good]
        for k in range(1, self.longest - 1):  # first and last word are free; the ones between must be, too
            inner = n > k + 1
            inner[inner] = state[first[inner] + k] >= _TAKEN
            good, first, n = good[~inner], first[~inner], n[~inner]
        left[good] -= bounds[first + n] - begin[good]
        self.heads_U[first] = True
        for k in range(self.longest):
            first, n = (first, n) if k == 0 else (first[n > k], n[n > k])
            state[first + k] = _TAKEN

    def finish(self, units_B: Ints, stream: Stream) -> None:
        """Try every start that could still succeed, in random order."""
        row = np.flatnonzero(self.left_B > 0)
        first = offsets_of(units_B)[row]
        unit, row_U = ranges(first, units_B[row]), np.repeat(row, units_B[row])
        lengths = self.bounds_U[unit + 1] - self.bounds_U[unit]
        hopeful = (self.state_U[unit] == 0) & (lengths <= self.left_B[row_U])
        unit, count_B = unit[hopeful], np.bincount(row_U[hopeful], minlength=len(units_B))
        begin_B, order, number = offsets_of(count_B)[:-1], shuffled_units(count_B, stream), 0
        while (row := np.flatnonzero((self.left_B > 0) & (count_B > number))).size:
            place, left = order[begin_B[row] + number], self.left_B[row]
            self.step(unit[begin_B[row] + place], stream.at(row).bits(place), left)
            self.left_B[row] = left
            number += 1
