"""RoBERTa's objective: masked tokens in full rows of sentences, without pairs (Liu et al. 2019, section 4).

What is read is `<s> sentences </s>`, with a `</s>` more at each border of documents that a row crosses
(packing.py). Masks are drawn anew in every pass. After fairseq's mask_tokens_dataset.py (3d262bb2), where it
says more than the paper:

    how many     floor(0.15 n + U), U uniform in [0, 1): exactly 15 % of n in the mean, at any length. A short
                 row may have no target (BERT gives it one)
    of what      n counts tokens, or words with `whole_word`: then words of any length are equally likely, and
                 80 / 10 / 10 is thrown once a word (`Replacement.together`)
    special      the original may hide <s> and </s>, which a model then learns to guess from their places
                 (`mask_special`); we leave them out, and n counts the others. A random token is never special
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.choose import choose
from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import DRAW, PICK, Marks, Targets, bounds_of, put, put_at, tokens_of, units_in
from corpus.corruption.packing import DocSentences, FullSentences
from corpus.corruption.replacement import OrdinaryToken, Replacement
from corpus.corruption.rows import Rows, corrupt_rows
from corpus.corruption.shares import Share, check_share, share_at
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class RobertaObjective:
    """Published values are the defaults, but for `mask_special`."""

    makes: ClassVar = MaskedInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 512
    packing: FullSentences | DocSentences = field(default_factory=FullSentences)
    masked_share: Share = 0.15
    whole_word: bool = False
    mask_special: bool = False
    replacement: Replacement = field(
        default_factory=lambda: Replacement(other=OrdinaryToken(), together=True)
    )

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 3 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{name}.max_seq_len is {self.max_seq_len}; it must be 3 to 65536 (two tokens are special)"
            )
        check_share(self.masked_share, f"{name}.masked_share")

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> MaskedInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either
        way.

        An instance that crosses borders belongs to the document in which it begins.
        """
        noise = partial(
            hide_evenly,
            share=share_at(self.masked_share, pass_number),
            whole_word=self.whole_word,
            mask_special=self.mask_special,
            replacement=self.replacement,
        )
        return corrupt_rows(
            shard, marks, self.sentences, noise, seed=seed, pass_number=pass_number, documents=documents
        )

    def sentences(self, shard: TokenShard, documents: Ints, stream: Stream) -> RowRanges:
        """Which tokens a row holds; nothing is drawn for it."""
        return self.packing.pack(shard, documents, self.max_seq_len - 2)


def hide_evenly(
    rows: Rows, *, share: float, whole_word: bool, mask_special: bool, replacement: Replacement
) -> Targets:
    """Hide floor(share x n + U) of the n tokens or words of each row, every set of them equally likely."""
    sizes_B = rows.ranges.lengths_B if mask_special else rows.ranges.candidates_B
    units_B, bounds_U = sizes_B, None
    if whole_word:
        bounds_U = bounds_of(rows.word_start_T() if mask_special else rows.word_start_C())
        units_B = units_in(bounds_U, sizes_B)
    uniform_B = (rows.stream.fold(DRAW).bits() >> np.uint64(11)) * 2.0**-53
    budgets_B = np.minimum(np.floor(share * units_B + uniform_B).astype(np.int64), units_B)
    taken_U = choose(units_B, budgets_B, rows.stream.fold(PICK))
    taken, heads = (np.flatnonzero(taken_U), None) if bounds_U is None else tokens_of(taken_U, bounds_U)
    if not mask_special:
        return put(rows, taken, replacement, heads)
    return put_at(rows, taken, np.diff(np.searchsorted(taken, rows.ranges.offsets)), replacement, heads)


def roberta_published() -> RobertaObjective:
    """RoBERTa base and large: FULL-SENTENCES of 512 tokens, special tokens hidden like others."""
    return RobertaObjective(mask_special=True)
