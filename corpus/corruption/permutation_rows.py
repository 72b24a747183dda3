"""Rows for a permutation language model: laid out, their targets chosen, factorised, block by block in the cache.

A row is `A <sep> B <sep> <cls>`, or `A <sep> <cls>`; its first `reuse_len` tokens, all of them A's, are one part, the rest
another. Quotas are shared between the two by their lengths: 43 and 42 of 85 for two halves, as in the original.

Letters: `B` rows, `P` parts (two a row, the first maybe empty), `T` tokens, `N` tokens of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools
from corpus.corruption.masking import Marks
from corpus.corruption.partial_prediction import Spans, choose_targets, factorise
from corpus.corruption.partial_prediction import counts as counts_of
from corpus.instance_kinds import PermutationInstances
from corpus.ragged import Ints, blocks, offsets_of, ranges, rows_of
from corpus.stream import Stream

# All parts of a block walk together: 2^16 is half as slow again (more calls), and so is 2^19 (memory, not cache).
BLOCK_TOKENS = 1 << 18
_SEGMENTS = np.array([0, 0, 1, 1, 2], np.uint8)  # of A, <sep>, B, <sep>, <cls>
_TARGETS, _ORDER = 0, 1  # folds of a part's stream


@dataclass(frozen=True, kw_only=True)
class Rows:
    """B rows as ranges of a text, in whichever direction that is read."""

    tokens_N: npt.NDArray[Any]
    word_start_N: Bools
    backward: bool
    reuse_len: int
    a_start: Ints  # (B,), as all that follow
    a_length: Ints
    b_start: Ints
    b_length: Ints  # 0: there is no B
    pair_label: Ints
    continues: Bools
    document: Ints
    instance_id: npt.NDArray[np.uint64]

    @property
    def lengths(self) -> Ints:
        """(B,) special tokens included."""
        return self.a_length + self.b_length + np.where(self.b_length > 0, 3, 2)


@dataclass(frozen=True, kw_only=True)
class Factorising:
    """What is done to rows; see PermutationObjective."""

    spans: Spans
    num_predict: int
    max_seq_len: int
    perm_size: int


def factorised(
    groups: Sequence[Rows], how: Factorising, marks: Marks, *, seed: int, pass_number: int
) -> PermutationInstances:
    """The instances of all rows, one group after the other. Not visible in the result is where blocks are cut."""
    lengths = np.concatenate([rows.lengths for rows in groups])
    offsets = offsets_of(lengths)
    tokens_T = np.empty(offsets[-1], groups[0].tokens_N.dtype)
    segments_T = np.empty(offsets[-1], np.uint8)
    order_T = np.empty(offsets[-1], np.int16)
    positions, targets, counts = [], [], [np.zeros(0, np.int64)]
    base = 0
    for rows in groups:
        source = np.concatenate([rows.tokens_N, np.array([marks.sep_id, marks.cls_id], rows.tokens_N.dtype)])
        starts = np.concatenate([rows.word_start_N, [False, False]])
        draws = Stream.of(seed, "permutation", pass_number, rows.instance_id)
        for first, last in blocks(offsets_of(rows.lengths), BLOCK_TOKENS):
            place = slice(offsets[base + first], offsets[base + last])
            index_T, segments_T[place] = _layout(rows, slice(first, last))
            np.take(source, index_T, out=tokens_T[place], mode="clip")
            special_T = index_T >= len(rows.tokens_N)
            row_lengths = rows.lengths[first:last]
            chosen_T, order_T[place] = _choose(
                how, row_lengths, rows, starts[index_T], special_T, draws.at(slice(first, last))
            )
            chosen = np.flatnonzero(chosen_T)
            count = counts_of(chosen, row_lengths)
            positions.append((chosen - np.repeat(offsets_of(row_lengths)[:-1], count)).astype(np.int32))
            targets.append(tokens_T[place][chosen])
            counts.append(count)
        base += len(rows.lengths)
    return PermutationInstances(
        tokens=tokens_T,
        segments=segments_T,
        order=order_T,
        offsets=offsets,
        target_positions=np.concatenate([np.zeros(0, np.int32), *positions]),
        target_tokens=np.concatenate([tokens_T[:0], *targets]),
        target_offsets=offsets_of(np.concatenate(counts)),
        reuse_len=np.concatenate([np.full(len(rows.lengths), rows.reuse_len, np.int32) for rows in groups]),
        continues=np.concatenate([rows.continues.astype(np.uint8) for rows in groups]),
        backward=np.concatenate([np.full(len(rows.lengths), rows.backward, np.uint8) for rows in groups]),
        pair_label=np.concatenate([rows.pair_label.astype(np.uint8) for rows in groups]),
        instance_id=np.concatenate([rows.instance_id for rows in groups]),
        document=np.concatenate([rows.document.astype(np.int32) for rows in groups]),
    )


def _layout(rows: Rows, block: slice) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """(T,) which token of the text, <sep> and <cls> behind it; (T,) of which segment."""
    a, b = rows.a_length[block], rows.b_length[block]
    one, size = np.ones_like(a), len(rows.tokens_N)
    starts = np.stack([rows.a_start[block], one * size, rows.b_start[block], one * size, one * (size + 1)], 1)
    lengths = np.stack([a, one, b, b > 0, one], 1).ravel()
    return ranges(starts.ravel(), lengths), np.repeat(np.tile(_SEGMENTS, len(a)), lengths)


def _choose(
    how: Factorising, lengths_B: Ints, rows: Rows, word_start_T: Bools, special_T: Bools, draws: Stream
) -> tuple[Bools, npt.NDArray[np.int16]]:
    """(T,) whether a token is predicted, (T,) the ranks of these and the special tokens, -1 for others."""
    lengths_P = np.stack([np.full_like(lengths_B, rows.reuse_len), lengths_B - rows.reuse_len], 1).ravel()
    quotas_P = _quotas(how, lengths_B, rows.reuse_len)
    ordinary_P = lengths_P - counts_of(np.flatnonzero(special_T), lengths_P)
    quotas_P = np.minimum(quotas_P, np.maximum(ordinary_P - 1, 0))  # one is left for all to see
    streams = draws.at(rows_of(np.full_like(lengths_B, 2))).fold(np.arange(len(lengths_P)) % 2)
    if rows.backward:  # spans are sampled in the order of the text
        first = offsets_of(lengths_P)
        turned_T = np.repeat(first[:-1] + first[1:] - 1, lengths_P) - np.arange(first[-1])
        word_start_T, special_there_T = word_start_T[turned_T], special_T[turned_T]
        chosen_T = choose_targets(
            how.spans, lengths_P, quotas_P, word_start_T, special_there_T, streams.fold(_TARGETS)
        )[turned_T]
    else:
        chosen_T = choose_targets(
            how.spans, lengths_P, quotas_P, word_start_T, special_T, streams.fold(_TARGETS)
        )
    order_T = factorise(chosen_T | special_T, lengths_P, how.perm_size, streams.fold(_ORDER))
    return chosen_T, order_T


def _quotas(how: Factorising, lengths_B: Ints, reuse_len: int) -> Ints:
    """(P,) targets of each part, in proportion to its length."""
    total_B = np.maximum(1, how.num_predict * lengths_B // how.max_seq_len)
    second_B = total_B * (lengths_B - reuse_len) // lengths_B
    return np.stack([total_B - second_B, second_B], 1).ravel()
