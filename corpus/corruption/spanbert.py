"""SpanBERT's objective: hidden spans in single segments (Joshi et al. 2020, section 3).

What is read is `[CLS] sentences [SEP]` of one document; predicted are the hidden tokens, from the token in
their place and from the two beside the span (span-boundary objective). No pairs. Which spans is in spans.py,
which rows in packing.py.

A hidden span is a run of hidden tokens: spans that touch are one, for the 80 / 10 / 10 too, thrown once for
all tokens of a span. So a model finds spans and their outer neighbours in the target positions alone: a run
from p to q has them at p - 1 and q + 1. Where one of these is [CLS] or [SEP], that is where a span touches
the edge of its row, the original has no boundary target.

Semantics: the original's command line sets what the paper says (`Replacement.together`, p = 0.2; its defaults
are 80 / 10 / 10 for every piece and p = 0.3). It cuts the last span within a word when the budget is used up
(`cut_words`); complete words hide a little more than 15 %. A random token is drawn from the running text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import PICK, Marks, Targets, put
from corpus.corruption.packing import DocSentences
from corpus.corruption.replacement import Replacement, TokenOfTheText
from corpus.corruption.rows import Rows, corrupt_rows
from corpus.corruption.shares import Share, check_share, share_at
from corpus.corruption.spans import choose_spans, span_shares, spans_of
from corpus.instance_kinds import MaskedInstances
from corpus.ragged import Ints
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class SpanBertObjective:
    """Published values are the defaults; `stop_share` is the p of the geometric lengths, in words."""

    makes: ClassVar = MaskedInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 512
    packing: DocSentences = field(default_factory=lambda: DocSentences(drop_long=True))
    masked_share: Share = 0.15
    stop_share: float = 0.2
    longest_span: int = 10
    cut_words: bool = True
    replacement: Replacement = field(
        default_factory=lambda: Replacement(other=TokenOfTheText(), together=True)
    )

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 3 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{name}.max_seq_len is {self.max_seq_len}; it must be 3 to 65536 (two tokens are special)"
            )
        check_share(self.masked_share, f"{name}.masked_share")
        if not 0.0 < self.stop_share < 1.0:
            raise ValueError(f"{name}.stop_share is {self.stop_share}; it must lie between 0 and 1, e.g. 0.2")
        if not 1 <= self.longest_span <= 100:
            raise ValueError(f"{name}.longest_span is {self.longest_span}; it must be 1 to 100, e.g. 10")

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> MaskedInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either
        way.
        """
        noise = partial(self.noise, share=share_at(self.masked_share, pass_number))
        return corrupt_rows(
            shard, marks, self.sentences, noise, seed=seed, pass_number=pass_number, documents=documents
        )

    def sentences(self, shard: TokenShard, documents: Ints, stream: Stream) -> RowRanges:
        """Which tokens a row holds; nothing is drawn for it."""
        return self.packing.pack(shard, documents, self.max_seq_len - 2)

    def noise(self, rows: Rows, *, share: float) -> Targets:
        """Hide spans of rows already laid out; the budget is rounded up, and special tokens do not count."""
        candidates_B = rows.ranges.candidates_B
        taken_C = choose_spans(
            rows.word_start_C(),
            candidates_B,
            np.ceil(share * candidates_B).astype(np.int64),
            span_shares(self.stop_share, self.longest_span),
            rows.stream.fold(PICK),
            cut_words=self.cut_words,
        )
        taken_M = np.flatnonzero(taken_C)
        return put(rows, taken_M, self.replacement, spans_of(taken_M, candidates_B))


def spanbert_published() -> SpanBertObjective:
    """SpanBERT base and large, by the command of its README."""
    return SpanBertObjective()
