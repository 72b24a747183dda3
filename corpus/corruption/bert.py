"""BERT's objective: masked language model and next-sentence prediction (Devlin et al. 2019, section 3.1).

What the model reads is `[CLS] A [SEP] B [SEP]`; it predicts the hidden tokens, and whether B follows A. The
walk through documents is in pairs.py, the noise in masking.py, both after the original code. The result is a
pure function of (seed, pass, document, shard): it does not depend on which documents are asked for together,
or on what is prepared ahead and what is made on the fly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from corpus.corruption.masking import Marks, Targets, hide
from corpus.corruption.pairs import make_pairs, make_singles
from corpus.corruption.rows import Rows, corrupt_rows
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class BertObjective:
    """Published values are the defaults; at length 512 the original uses max_predictions=77.

    `next_sentence=False` reads single segments; `whole_word=True` hides words, not pieces (the later BERT
    models).
    """

    makes: ClassVar = MaskedInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 128
    masked_share: float = 0.15
    max_predictions: int = 20
    short_share: float = 0.1
    next_sentence: bool = True
    whole_word: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 5 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{name}.max_seq_len is {self.max_seq_len}; it must be 5 to 65536 (three tokens are special)"
            )
        if not 0.0 < self.masked_share < 1.0:
            raise ValueError(
                f"{name}.masked_share is {self.masked_share}; it must lie between 0 and 1, e.g. 0.15"
            )
        if not 0.0 <= self.short_share <= 1.0:
            raise ValueError(f"{name}.short_share is {self.short_share}; it must lie from 0 to 1, e.g. 0.1")
        if self.max_predictions < 1:
            raise ValueError(
                f"{name}.max_predictions is {self.max_predictions}; give at least 1, e.g. 20 at length 128"
            )

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> MaskedInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either
        way.
        """
        segments = partial(
            make_pairs if self.next_sentence else make_singles,
            room=self.max_seq_len - (3 if self.next_sentence else 2),
            short_share=self.short_share,
        )
        return corrupt_rows(
            shard,
            marks,
            segments,
            self.noise,
            pairs=self.next_sentence,
            seed=seed,
            pass_number=pass_number,
            documents=documents,
        )

    def noise(self, rows: Rows) -> Targets:
        """Hide tokens of rows already laid out."""
        return hide(
            rows.tokens_T,
            rows.lengths_B,
            rows.segment_b_B,
            share=self.masked_share,
            most=self.max_predictions,
            marks=rows.marks,
            stream=rows.stream,
            word_start_C=rows.word_start_C() if self.whole_word else None,
        )
