"""ALBERT's objective: masked n-grams and sentence order (Lan et al. 2020, sections 3.1 and 4.1).

What is read is `[CLS] A [SEP] B [SEP]`; predicted are the hidden tokens, and whether A and B were swapped.
The walk is in pairs.py, the choice of n-grams in ngrams.py. Semantics, where the original code and the paper
differ:

                     code (albert@b772393)                   paper           ours
    pair_lone        True: a one-sentence chunk and text     False           True
                     of another document, label 1
    cross_segments   True: an n-gram may begin in A and      not said        False
                     end in B, over the [SEP]
    draws of n       one global generator, unseeded          not said        keyed by row and word

80 / 10 / 10 is thrown for every piece; `Replacement.together` throws it once an n-gram.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import PICK, Marks, Targets, bounds_of, budgets, put, tokens_of, units_in
from corpus.corruption.ngrams import choose_ngrams, ngram_shares, room_for
from corpus.corruption.pairs import make_ordered, make_singles
from corpus.corruption.replacement import Replacement
from corpus.corruption.rows import Rows, corrupt_rows
from corpus.corruption.shares import Share, check_share, share_at
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class AlbertObjective:
    """`sentence_order=False` reads single segments; `whole_word=False` hides n-grams of pieces.

    The original's flag for `max_predictions` is 20 at every length, which is 4 % of 512 tokens; ours is 15 %.
    """

    makes: ClassVar = MaskedInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 512
    masked_share: Share = 0.15
    max_predictions: int = 77
    short_share: float = 0.1
    sentence_order: bool = True
    pair_lone: bool = True
    longest_ngram: int = 3
    favour_short: bool = True
    cross_segments: bool = False
    whole_word: bool = True
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
                f"{name}.max_predictions is {self.max_predictions}; give at least 1, e.g. 77 at length 512"
            )
        if not 1 <= self.longest_ngram <= 16:
            raise ValueError(f"{name}.longest_ngram is {self.longest_ngram}; it must be 1 to 16, e.g. 3")

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> MaskedInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either
        way.
        """
        noise = partial(self.noise, share=share_at(self.masked_share, pass_number))
        return corrupt_rows(
            shard, marks, self.segments, noise, seed=seed, pass_number=pass_number, documents=documents
        )

    def segments(self, shard: TokenShard, documents: Ints, stream: Stream) -> RowRanges:
        """Which tokens a row holds."""
        if self.sentence_order:
            make = partial(make_ordered, room=self.max_seq_len - 3, pair_lone=self.pair_lone)
        else:
            make = partial(make_singles, room=self.max_seq_len - 2)
        return make(shard, documents, stream=stream, short_share=self.short_share).ranges()

    def noise(self, rows: Rows, *, share: float) -> Targets:
        """Hide n-grams of rows already laid out."""
        made = rows.ranges
        bounds_U = (
            bounds_of(rows.word_start_C()) if self.whole_word else np.arange(made.candidate_offsets[-1] + 1)
        )
        units_B = units_in(bounds_U, made.candidates_B)
        groups = units_B if self.cross_segments else units_in(bounds_U, made.length_K)
        taken_U, heads_U = choose_ngrams(
            bounds_U,
            units_B,
            np.minimum(budgets(made.lengths_B, share, self.max_predictions), made.candidates_B),
            room_for(self.longest_ngram, groups),
            ngram_shares(self.longest_ngram, self.favour_short),
            rows.stream.fold(PICK),
        )
        taken_M, words = tokens_of(taken_U, bounds_U)
        return put(rows, taken_M, self.replacement, words[heads_U[taken_U]])


def albert_published() -> AlbertObjective:
    """ALBERT base to xxlarge, as the original code makes its pairs and n-grams."""
    return AlbertObjective(cross_segments=True)
