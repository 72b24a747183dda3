"""The units of a text as numbers, with the news of which units were never met before.

What encoding and counting have in common: both need to think about a distinct unit once and then only about numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.wordpiece.interning import ByteStrings, Int32s, Int64s
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.units import Units

Split = Callable[[bytes, Int64s], Units]  # text and the bytes at which a document begins -> its units


@dataclass(frozen=True, slots=True)
class NumberedUnits:
    """(N,) units in order: their numbers, first bytes and `Units.begins`; and those met for the first time, as
    numbers and strings."""

    numbers_N: Int32s
    starts_N: Int64s
    begins_N: Int64s
    new_numbers: Int32s
    new_strings: list[str]


class UnitTable:
    """A growing set of units. Numbers are below `size`; not every number is a unit."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._strings = ByteStrings()
        self._met: NDArray[np.bool_] = np.zeros(1 << 16, np.bool_)

    @property
    def size(self) -> int:
        return self._strings.size

    def number(self, text: bytes, cuts: Int64s) -> NumberedUnits:
        """Split and number `text`; `cuts` are the bytes at which a document begins."""
        units = self._split(text, cuts)
        numbers = self._strings.number(units.text, units.starts, units.lengths)
        if self.size > len(self._met):
            self._met = np.concatenate([self._met, np.zeros(self.size, np.bool_)])
        unmet = np.flatnonzero(~self._met[numbers])
        new, where = np.unique(numbers[unmet], return_index=True)
        self._met[new] = True
        strings = [units.string(i) for i in unmet[where].tolist()]
        return NumberedUnits(numbers, units.starts, units.begins, new, strings)


def is_plain(unit: str) -> bool:
    """Whether a unit is a word as it is: a run of ASCII letters and digits, or one sign."""
    return unit.isascii() and unit.isprintable()


def words_of(strings: list[str], normalization: Normalization) -> list[list[str]]:
    """The normalised words of each unit: for a plain one, itself."""
    plain = [is_plain(s) for s in strings]
    others = iter(normalization.words_of_each([s for s, p in zip(strings, plain, strict=True) if not p]))
    return [[s] if p else next(others) for s, p in zip(strings, plain, strict=True)]
