"""Rows `[CLS] range [SEP] range [SEP] ...` as token ranges of a shard, before a token is touched.

Who makes rows (pairs.py, packing.py) only says which ranges; rows.py fills them in and applies the noise.
What is not a special token is a candidate. Candidates of all rows are numbered on, one range after the other:

    candidate        0  1  2        3  4                 5  6  7
    index      [CLS] x  x  x [SEP]  x  x [SEP]     [CLS] x  x  x [SEP] ...
    number k, b      k=0, b=0       k=1, b=0             k=2, b=1

so a candidate of range k in row b lies k + b + 1 places behind its number: after the [SEP] of each range
before it, and the [CLS] of each row so far.

Letters: B rows, K ranges of all of them, C candidates, T tokens with the special ones, M of them hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from corpus.instance_kinds import NO_PAIR, Small
from corpus.ragged import Ints, offsets_of, rows_of, sums


@dataclass(frozen=True, kw_only=True)
class RowRanges:
    """B rows, ordered by (document, chunk); every row has a range, and every range a token."""

    start_K: Ints  # into the shard's tokens
    length_K: Ints
    ranges_B: Ints  # how many ranges a row has
    pair_label_B: Small  # as in MaskedInstances; a row with a label has two ranges, segments A and B
    document_B: Ints  # index among the documents asked for: where the row begins
    chunk_B: Ints  # number in the document and pass

    def __len__(self) -> int:
        return len(self.ranges_B)

    def at(self, first: int, last: int) -> RowRanges:
        """The rows [first, last)."""
        ranges, rows = slice(*self.range_offsets[[first, last]].tolist()), slice(first, last)
        return RowRanges(
            start_K=self.start_K[ranges],
            length_K=self.length_K[ranges],
            ranges_B=self.ranges_B[rows],
            pair_label_B=self.pair_label_B[rows],
            document_B=self.document_B[rows],
            chunk_B=self.chunk_B[rows],
        )

    @cached_property
    def range_offsets(self) -> Ints:
        """(B + 1,) into the ranges."""
        return offsets_of(self.ranges_B)

    @cached_property
    def candidate_offsets(self) -> Ints:
        """(K + 1,) into the candidates."""
        return offsets_of(self.length_K)

    @cached_property
    def candidates_B(self) -> Ints:
        """(B,) tokens that are not special."""
        return sums(self.length_K, self.range_offsets)

    @cached_property
    def lengths_B(self) -> Ints:
        """(B,) tokens, special ones included."""
        return self.candidates_B + self.ranges_B + 1

    @cached_property
    def offsets(self) -> Ints:
        """(B + 1,) into the tokens of all rows."""
        return offsets_of(self.lengths_B)

    @cached_property
    def ends_K(self) -> Ints:
        """(K,) the index of each range's [SEP]."""
        return self.candidate_offsets[1:] + np.arange(len(self.length_K)) + rows_of(self.ranges_B) + 1

    @property
    def segment_b_B(self) -> Ints:
        """(B,) where in its row segment B begins; the row's length where there is none."""
        paired = self.pair_label_B != NO_PAIR
        found = self.lengths_B.copy()
        found[paired] = self.length_K[self.range_offsets[:-1][paired]] + 2
        return found

    def index_of(self, candidates_M: Ints) -> tuple[Ints, Ints]:
        """(M,) ascending candidates -> their indices among all tokens, and (B,) how many of them each row
        has.
        """
        count_K = np.diff(np.searchsorted(candidates_M, self.candidate_offsets))
        shift_K = np.arange(1, len(count_K) + 1) + rows_of(self.ranges_B)
        return candidates_M + np.repeat(shift_K, count_K), sums(count_K, self.range_offsets)
