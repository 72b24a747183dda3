"""BERT's masked-LM noise: which positions must be predicted, and what is read in their place.

After create_pretraining_data.py (google-research/bert@eedf571), semantics `code`: the budget counts [CLS] and
[SEP] but they are never chosen; 80 / 10 / 10 is drawn for every piece on its own, under whole-word masking
too; the random piece is uniform over the whole vocabulary, special tokens included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools, choose, choose_units
from corpus.ragged import Ints, offsets_of, rows_of
from corpus.stream import Stream, Words, below

if TYPE_CHECKING:
    from corpus.vocabulary.columns import Encoder

_PICK, _REPLACE = 0, 1  # parts of an instance's stream


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


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What B rows must predict, rows one after the other."""

    positions_M: Ints  # ascending in the row
    tokens_M: npt.NDArray[Any]  # the original tokens
    offsets: Ints  # (B + 1,) into both


def budgets(lengths_B: Ints, share: float, most: int) -> Ints:
    """Tokens to hide: share x length (special tokens counted) rounded half to even, within 1 ... most."""
    return np.clip(np.rint(lengths_B * share).astype(np.int64), 1, most)


def hide(
    tokens_T: npt.NDArray[Any],
    lengths_B: Ints,
    segment_b_B: Ints,
    *,
    share: float,
    most: int,
    marks: Marks,
    stream: Stream,
    word_start_C: Bools | None = None,
) -> Targets:
    """Corrupt rows `[CLS] A [SEP] B [SEP]` (or `[CLS] A [SEP]`, then segment_b = length) in place.

    `stream` is keyed by instance. With `word_start_C` (one flag per candidate, that is per token without the
    special ones, rows one after the other) whole words are hidden; the first piece of A and of B always
    begins one.
    """
    pair_B = segment_b_B < lengths_B
    candidates_B = lengths_B - 2 - pair_B
    budgets_B = np.minimum(budgets(lengths_B, share, most), candidates_B)
    picks = stream.fold(_PICK)
    if word_start_C is None:
        taken_C = choose(candidates_B, budgets_B, picks)
        hidden_B = budgets_B
    else:
        taken_C = _choose_words(candidates_B, budgets_B, word_start_C, picks)
        hidden_B = np.add.reduceat(taken_C, offsets_of(candidates_B)[:-1], dtype=np.int64)

    # candidate number -> position in the row: after [CLS], and after the first [SEP] if it lies in B
    row_M = rows_of(hidden_B)
    positions_M = np.flatnonzero(taken_C) - offsets_of(candidates_B)[row_M] + 1
    positions_M += positions_M >= (segment_b_B - 1)[row_M]
    index_M = positions_M + offsets_of(lengths_B)[row_M]
    original_M = tokens_T[index_M]
    tokens_T[index_M] = replace(original_M, stream.fold(_REPLACE).at(row_M).bits(positions_M), marks)
    return Targets(positions_M=positions_M, tokens_M=original_M, offsets=offsets_of(hidden_B))


def _choose_words(candidates_B: Ints, budgets_B: Ints, word_start_C: Bools, stream: Stream) -> Bools:
    starts = np.flatnonzero(word_start_C)
    lengths_U = np.diff(starts, append=len(word_start_C))
    units_B = np.diff(np.searchsorted(starts, offsets_of(candidates_B)))
    return np.repeat(choose_units(lengths_U, units_B, budgets_B, stream), lengths_U)


def replace(
    original_M: npt.NDArray[Any], bits_M: Words, marks: Marks, masked: float = 0.8, kept: float = 0.1
) -> Any:
    """(M,) what is read instead: [MASK], the token itself, or any; the upper bits say which of the three."""
    masked_up_to, kept_up_to = (round(share * 2.0**32) for share in (masked, masked + kept))
    assert marks.mask_id is not None, "Marks.of(..., mask=True) for objectives that hide tokens"
    draw_M = bits_M >> np.uint64(32)
    any_M = below(bits_M << np.uint64(32), marks.vocab_size).astype(original_M.dtype)
    read_M = np.where(draw_M < kept_up_to, original_M, any_M)
    read_M[draw_M < masked_up_to] = marks.mask_id
    return read_M
