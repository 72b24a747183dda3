"""BERT's objective: masked language model and next-sentence prediction (Devlin et al. 2019, section 3.1).

What the model reads is `[CLS] A [SEP] B [SEP]`; it predicts the hidden tokens, and whether B follows A. The
walk through documents is in pairs.py, the noise in masking.py, both after the original code. The result is a
pure function of (seed, pass, document, shard): it does not depend on which documents are asked for together,
or on what is prepared ahead and what is made on the fly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import Marks, hide
from corpus.corruption.pairs import make_pairs, make_singles
from corpus.corruption.replacement import Replacement
from corpus.corruption.rows import corrupt_rows
from corpus.corruption.shares import Share, check_share, share_at
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class BertObjective:
    """Published values are the defaults; at length 512 the original uses max_predictions=77.

    `next_sentence=False` reads single segments; `whole_word=True` hides words, not pieces (the later BERT
    models), and `replacement` with `together` throws 80/10/10 once a word, where the original does for every
    piece. `max_predictions` caps a higher `masked_share` too: raise both.
    """

    makes: ClassVar = MaskedInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 128
    masked_share: Share = 0.15
    max_predictions: int = 20
    short_share: float = 0.1
    next_sentence: bool = True
    whole_word: bool = False
    replacement: Replacement = field(default_factory=Replacement)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 5 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{name}.max_seq_len is {self.max_seq_len}; it must be 5 to 65536 (three tokens are special)"
            )
        check_share(self.masked_share, f"{name}.masked_share")
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
        noise = partial(
            hide,
            share=share_at(self.masked_share, pass_number),
            most=self.max_predictions,
            whole_word=self.whole_word,
            replacement=self.replacement,
        )
        return corrupt_rows(
            shard, marks, self.segments, noise, seed=seed, pass_number=pass_number, documents=documents
        )

    def segments(self, shard: TokenShard, documents: Ints, stream: Stream) -> RowRanges:
        """Which tokens a row holds."""
        room = self.max_seq_len - (3 if self.next_sentence else 2)
        make = make_pairs if self.next_sentence else make_singles
        return make(shard, documents, stream=stream, room=room, short_share=self.short_share).ranges()


def bert_published(max_seq_len: int = 128) -> BertObjective:
    """BERT base and large, in its two stages: length 128 (90 % of the steps, 20 predictions) and 512 (77)."""
    return BertObjective(max_seq_len=max_seq_len, max_predictions=math.ceil(0.15 * max_seq_len))


def bert_whole_word_published(max_seq_len: int = 128) -> BertObjective:
    """The whole-word BERT-large of May 2019: the same share of tokens, chosen by words."""
    return BertObjective(
        max_seq_len=max_seq_len, max_predictions=math.ceil(0.15 * max_seq_len), whole_word=True
    )
