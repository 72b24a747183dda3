"""BERT's masked-LM noise: which positions must be predicted, and what is read in their place.

After create_pretraining_data.py (google-research/bert@eedf571), semantics `code`: the budget counts [CLS] and
[SEP] but they are never chosen; 80 / 10 / 10 is drawn for every piece on its own, under whole-word masking
too; the random piece is uniform over the whole vocabulary, special tokens included (replacement.py has the
other ways).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools, choose, choose_units
from corpus.corruption.replacement import Replacement
from corpus.ragged import Ints, offsets_of, ranges, rows_of

if TYPE_CHECKING:
    from corpus.corruption.rows import Rows
    from corpus.stream import Words
    from corpus.vocabulary.columns import Encoder

PICK, REPLACE, DRAW = 0, 1, 2  # parts of an instance's stream: which, what instead, how much or how long


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What an objective must know of the vocabulary: its size and the ids of the special tokens.

    RoBERTa's and BART's <s> and </s>, and GPT-2's one <|endoftext|>, are `cls_id` and `sep_id`.
    """

    vocab_size: int
    cls_id: int
    sep_id: int
    mask_id: int | None  # None: the objective hides nothing
    special_ids: tuple[int, ...] = ()  # those and the others, e.g. [PAD], ascending

    @classmethod
    def of(cls, encoder: Encoder, *, mask: bool) -> Self:
        """Raises ValueError if a mask is needed and the vocabulary has none."""
        ids = {encoder.cls_id, encoder.sep_id, encoder.pad_id, encoder.unk_id}
        mask_id = encoder.mask_id if mask else None
        return cls(
            vocab_size=encoder.vocab_size,
            cls_id=encoder.cls_id,
            sep_id=encoder.sep_id,
            mask_id=mask_id,
            special_ids=tuple(sorted(ids if mask_id is None else ids | {mask_id})),
        )

    @cached_property
    def all_special(self) -> Ints:
        """The ids of all special tokens, ascending."""
        named = {self.cls_id, self.sep_id, *self.special_ids}
        return np.array(sorted(named if self.mask_id is None else named | {self.mask_id}), np.int64)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What B rows must predict, rows one after the other."""

    positions_M: Ints  # ascending in the row
    tokens_M: npt.NDArray[Any]  # the original tokens
    offsets: Ints  # (B + 1,) into both


def budgets(lengths_B: Ints, share: float, most: int) -> Ints:
    """Tokens to hide: share x length (special tokens counted) rounded half to even, within 1 ... most."""
    return np.clip(np.rint(lengths_B * share).astype(np.int64), 1, most)


def hide(rows: Rows, *, share: float, most: int, whole_word: bool, replacement: Replacement) -> Targets:
    """Hide `share` of each row's tokens, at most `most`; with `whole_word` as many whole words as fit."""
    candidates_B = rows.ranges.candidates_B
    budgets_B = np.minimum(budgets(rows.ranges.lengths_B, share, most), candidates_B)
    picks = rows.stream.fold(PICK)
    if not whole_word:
        return put(rows, np.flatnonzero(choose(candidates_B, budgets_B, picks)), replacement)
    bounds_U = bounds_of(rows.word_start_C())
    taken_U = choose_units(np.diff(bounds_U), units_in(bounds_U, candidates_B), budgets_B, picks)
    taken_M, heads = tokens_of(taken_U, bounds_U)
    return put(rows, taken_M, replacement, heads)


def bounds_of(start: Bools) -> Ints:
    """Flags where units (words) begin -> (U + 1,) where they begin, and the end."""
    return np.append(np.flatnonzero(start), len(start))


def units_in(bounds_U: Ints, sizes: Ints) -> Ints:
    """How many units (words) lie in each of some rows, or ranges, of these sizes."""
    return np.diff(np.searchsorted(bounds_U[:-1], offsets_of(sizes)))


def tokens_of(taken_U: Bools, bounds_U: Ints) -> tuple[Ints, Ints]:
    """Flags of taken units -> their tokens, ascending, and which of these are the first of their unit."""
    unit = np.flatnonzero(taken_U)
    first = bounds_U[unit]
    lengths = bounds_U[unit + 1] - first
    return ranges(first, lengths), offsets_of(lengths)[:-1]


def put(rows: Rows, taken_M: Ints, replacement: Replacement, heads: Ints | None = None) -> Targets:
    """Hide these candidates, ascending. `heads` are the numbers, of 0 ... M - 1, with which units begin that
    are hidden as one; None: every token is one.
    """
    index_M, hidden_B = rows.ranges.index_of(taken_M)
    return put_at(rows, index_M, hidden_B, replacement, heads)


def put_at(
    rows: Rows, index_M: Ints, hidden_B: Ints, replacement: Replacement, heads: Ints | None
) -> Targets:
    """Hide the tokens at these indices, `hidden_B` in each row: rows.tokens_T is changed in place."""
    row_M = rows_of(hidden_B)
    positions_M = index_M - rows.ranges.offsets[row_M]
    original_M = rows.tokens_T[index_M]
    instead = rows.stream.fold(REPLACE)

    def bits_at(where: slice | Ints) -> Words:
        return instead.at(row_M[where]).bits(positions_M[where])

    rows.tokens_T[index_M] = replacement.read(original_M, bits_at, rows, heads)
    return Targets(positions_M=positions_M, tokens_M=original_M, offsets=offsets_of(hidden_B))
