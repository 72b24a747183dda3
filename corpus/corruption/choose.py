"""Choosing without replacement, for many instances at once: single positions, or whole units within a budget.

Both are pure in the stream of each instance and give the same choice whatever other instances are beside it.
"""

import itertools

import numpy as np
import numpy.typing as npt

from corpus.ragged import Ints, offsets_of, ranges, rows_of, sums
from corpus.stream import Stream

Bools = npt.NDArray[np.bool_]
_NUMBER = np.uint64(2**18 - 1)  # the low bits that hold a unit's number


def choose(candidates_B: Ints, budgets_B: Ints, stream: Stream) -> Bools:
    """(sum of candidates,) True at `budgets_B` candidates of each instance, every subset equally likely.

    Floyd's sampling (Bentley & Floyd 1987), all instances in lock-step: for j = n - k ... n - 1 draw t in
    0..j and take t, or j if t is taken already. So k draws choose k of n; shuffling would need n (at 15 %
    seven times as many, and a sort). Draw number s of an instance is counter s of its stream.
    """
    offsets = offsets_of(candidates_B)
    taken = np.zeros(offsets[-1], np.bool_)
    # Longest budgets first: the instances still drawing at step s are then a prefix, `active[s]` long.
    order = np.argsort(-budgets_B, kind="stable")
    steps = int(budgets_B.max(initial=0))
    active = len(order) - np.searchsorted(np.sort(budgets_B), np.arange(steps), side="right")
    begin = offsets_of(active).tolist()

    step = rows_of(active)
    row = order[np.arange(begin[-1]) - np.repeat(np.asarray(begin[:-1], np.int64), active)]
    last = (candidates_B - budgets_B)[row] + step
    pick = stream.at(row).below(last + 1, step)
    base = offsets[row]
    pick += base
    last += base
    for start, end in itertools.pairwise(begin):
        drawn = pick[start:end]
        taken[np.where(taken[drawn], last[start:end], drawn)] = True
    return taken


def choose_units(lengths_U: Ints, units_B: Ints, budgets_B: Ints, stream: Stream) -> Bools:
    """(U,) True at whole units (words) of each instance, in random order, until its budget of tokens is used.

    A unit that does not fit what is left of the budget is skipped, not cut, and later ones may still be taken
    (BERT, create_pretraining_data). `lengths_U` tokens per unit, `units_B` units per instance. Unit number u
    has counter u.

    The greedy walk goes through all instances at once, in waves of as many units as the largest budget: a
    unit has a token at least, so the first wave is nearly always enough, and it touches a fifth of the units.
    """
    first = offsets_of(units_B)
    shuffled = np.repeat(first[:-1], units_B) + shuffled_units(units_B, stream)
    taken = np.zeros(len(lengths_U), np.bool_)
    left_B, wave = budgets_B.copy(), int(budgets_B.max(initial=0))
    for begin in range(0, int(units_B.max(initial=0)), max(wave, 1)):
        rows = np.flatnonzero((left_B > 0) & (units_B > begin))
        count = np.minimum(units_B[rows] - begin, wave)
        unit = shuffled[ranges(first[rows] + begin, count)]
        left_B[rows] = _take(lengths_U, unit, np.repeat(np.arange(len(rows)), count), left_B[rows], taken)
    return taken


def _take(lengths_U: Ints, unit: Ints, row: Ints, left_B: Ints, taken: Bools) -> Ints:
    """Mark in `taken` what the greedy walk takes of these units; returns what is left of the budgets.

    In rounds: drop the units that cannot fit any more, and take those up to the first that does not fit after
    the ones before it. Three or four rounds are typical.
    """
    while unit.size:
        length = lengths_U[unit]
        fits = length <= left_B[row]
        unit, row, length = unit[fits], row[fits], length[fits]
        offsets = offsets_of(np.bincount(row, minlength=len(left_B)))
        before = offsets_of(length)
        takes = before[1:] - before[offsets[row]] <= left_B[row]
        taken[unit[takes]] = True
        left_B = left_B - sums(np.where(takes, length, 0), offsets)
        unit, row = unit[~takes], row[~takes]
    return left_B


def shuffled_units(units_B: Ints, stream: Stream) -> Ints:
    """(U,) the unit numbers 0 ... n - 1 of each instance, in random order.

    Sorts words of 46 random bits and the unit number, one padded row per instance: numpy sorts short rows far
    faster than one long array (2 ns a unit in rows of 100, 10 ns in rows of 500, against 40), and needs no
    argsort. Rows of about the same length are sorted together, so padding never more than doubles the work.
    """
    assert units_B.max(initial=0) <= 2**18, "a row has more units than their number has bits"
    number = ranges(np.zeros_like(units_B), units_B)
    packed = (stream.at(rows_of(units_B)).bits(number) & ~_NUMBER) | number.view(np.uint64)
    first = offsets_of(units_B)
    size_class = np.ceil(np.log2(np.maximum(units_B, 1)))
    for kind in np.unique(size_class):
        alike = np.flatnonzero(size_class == kind)
        real = np.arange(units_B[alike].max()) < units_B[alike, None]
        place = ranges(first[alike], units_B[alike])
        table = np.full(real.shape, ~np.uint64(0))
        table[real] = packed[place]
        table.sort(axis=1)
        packed[place] = table[real]
    return (packed & _NUMBER).view(np.int64)
