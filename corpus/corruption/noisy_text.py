"""Text on its way through the noises of a denoising autoencoder, and where random tokens come from.

A noise takes B rows `<s> text </s>` and makes others of them; <s> and </s> stay where they are. All rows are changed at
once, and every draw is of a row's own stream.

Letters: B rows, T tokens of all of them, C of these inside <s> and </s>, M tokens that are hidden or put in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools
from corpus.corruption.masking import Marks
from corpus.corruption.replacement import AnyToken, OrdinaryToken
from corpus.corruption.rows import Rows
from corpus.corruption.seq2seq import Block, inside, numbers
from corpus.ragged import Ints, offsets_of, rows_of
from corpus.stream import Stream, Words, below


@dataclass(frozen=True, kw_only=True)
class AnyTokenButTheFirst:
    """Uniform over the vocabulary without its entry 0 (fairseq, where that is <s>)."""

    def draw(self, bits_M: Words, rows: Rows) -> Ints:
        """(M,) tokens, by the upper half of the bits."""
        return 1 + below(bits_M, rows.marks.vocab_size - 1)


OtherToken = AnyTokenButTheFirst | AnyToken | OrdinaryToken


@dataclass(frozen=True, kw_only=True)
class NoisyText:
    """B rows, changed so far; arrays are never changed in place."""

    tokens_T: npt.NDArray[Any]
    begins_T: Bools | None  # where words begin, as in Block; None: no noise asks for it
    offsets: Ints  # (B + 1,)
    block: Block  # the rows as they were
    max_seq_len: int  # no row gets longer

    @property
    def rows(self) -> Rows:
        return self.block.rows

    @property
    def marks(self) -> Marks:
        return self.block.rows.marks

    @property
    def inner_B(self) -> Ints:
        """(B,) tokens inside."""
        return np.diff(self.offsets) - 2

    @property
    def spare_B(self) -> Ints:
        """(B,) tokens that may still be put in."""
        return self.max_seq_len - np.diff(self.offsets)

    def moved(self, order_C: Ints) -> NoisyText:
        """The tokens inside in another order: indices into tokens_T."""
        inside_T, first, last = inside(self.offsets), self.offsets[:-1], self.offsets[1:] - 1

        def ordered(column_T: npt.NDArray[Any]) -> npt.NDArray[Any]:
            out_T = np.empty_like(column_T)
            out_T[first], out_T[last] = column_T[first], column_T[last]
            out_T[inside_T] = column_T[order_C]
            return out_T

        return self._each(ordered)

    def written(self, index_M: Ints, tokens_M: npt.NDArray[Any]) -> NoisyText:
        """Other tokens at these indices."""
        tokens_T = self.tokens_T.copy()
        tokens_T[index_M] = tokens_M
        return replace(self, tokens_T=tokens_T)

    def without(self, index_M: Ints, gone_B: Ints) -> NoisyText:
        """Fewer tokens, `gone_B` of each row."""
        keep_T = np.ones(len(self.tokens_T), np.bool_)
        keep_T[index_M] = False
        return self._each(lambda column_T: column_T[keep_T], np.diff(self.offsets) - gone_B)

    def with_more(self, index_M: Ints, tokens_M: npt.NDArray[Any], more_B: Ints) -> NoisyText:
        """More tokens, words of their own, at these indices of the longer rows: `more_B` in each."""
        lengths_B = np.diff(self.offsets) + more_B
        old_T = np.ones(lengths_B.sum(), np.bool_)
        old_T[index_M] = False

        def widened(column_T: npt.NDArray[Any]) -> npt.NDArray[Any]:
            out_T = np.ones(len(old_T), column_T.dtype)
            out_T[old_T] = column_T
            return out_T

        return self._each(widened, lengths_B).written(index_M, tokens_M)

    def _each(
        self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], lengths_B: Ints | None = None
    ) -> NoisyText:
        """Every column changed; rows of other lengths where they are given."""
        return replace(
            self,
            tokens_T=change(self.tokens_T),
            begins_T=None if self.begins_T is None else change(self.begins_T),
            offsets=self.offsets if lengths_B is None else offsets_of(lengths_B),
        )


class Noise(Protocol):
    """A noise: `stream` is keyed by row, and its own."""

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText: ...


def index_inside(taken_C: Bools, count_B: Ints) -> Ints:
    """(M,) flags of tokens inside, `count_B` in each row -> indices among all tokens."""
    return np.flatnonzero(taken_C) + 2 * rows_of(count_B) + 1


def masks(
    count_B: Ints, random_share: float, other: OtherToken, text: NoisyText, stream: Stream
) -> npt.NDArray[Any]:
    """(M,) tokens, `count_B` in each row: the mask, or with a chance of `random_share` another token."""
    mask_id = text.marks.mask_id
    assert mask_id is not None, "Marks.of(..., mask=True) for objectives that hide tokens"
    row_M, number_M = numbers(count_B)
    tokens_M = np.full(len(row_M), mask_id, text.tokens_T.dtype)
    if random_share > 0.0:
        bits_M = stream.at(row_M).bits(number_M)
        random = np.flatnonzero(bits_M >> np.uint64(32) < np.uint64(round(random_share * 2.0**32)))
        tokens_M[random] = other.draw(bits_M[random] << np.uint64(32), text.rows)
    return tokens_M


def check_share(value: float, name: str, *, example: float, whole: bool = False) -> None:
    """Raises ValueError: a share lies between 0 and 1, or is 1 where the whole may be meant."""
    if not (0.0 < value < 1.0 or (whole and value == 1.0)):
        rule = "above 0 and at most 1" if whole else "between 0 and 1"
        raise ValueError(f"{name} is {value}; it must lie {rule}, e.g. {example}")


def check_random_share(value: float, name: str) -> None:
    """Raises ValueError."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}; it must lie from 0 to 1, e.g. 0.1")
