"""What a permutation language model may look at: two attention masks from one order (Yang et al. 2019, section 2.3).

    content stream   knows the token itself; is what others look at
    query stream     knows only where it is; computed at targets, and predicts them

In a part of a row a target sees what comes before it in the factorisation; <sep> and <cls> too, and themselves; ordinary
tokens are seen by all and see each other. The content stream sees itself besides. The first part sees nothing of the
second, the second all of the first, both all of the memory. After `_local_perm` of the original's data_utils.py, where
this is five arrays of length x length; here it is one number a token on each side:

    query i sees key j  if  query_rank[i] > key_rank[j]

Letters: `T` tokens, `B` rows, `L` tokens of a row, `K` memory and row together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.instance_kinds import PermutationInstances
from corpus.ragged import Ints

Bools = npt.NDArray[np.bool_]
MEMORY_RANK = -1  # as a key: below every query's


def ranks(rows: PermutationInstances) -> tuple[Ints, Ints]:
    """(T,) of each token as a key, (T,) and as a query.

    Ordinary tokens are -1 as keys; as a query a target has its own rank and sees only what is below it, every other token
    the next one, and sees itself. The second part lies above all ranks of the first.
    """
    lengths = np.diff(rows.offsets)
    second = rows.offsets[:-1] + rows.reuse_len
    position_T = np.arange(rows.offsets[-1])
    above = int(rows.order.max(initial=-1)) + 2
    key_T = rows.order + above * (position_T >= np.repeat(second, lengths))
    query_T = key_T + 1
    query_T[np.repeat(rows.offsets[:-1], np.diff(rows.target_offsets)) + rows.target_positions] -= 1
    return key_T.astype(np.int64), query_T.astype(np.int64)


def seen(query_rank_L: npt.NDArray[Any], key_rank_K: npt.NDArray[Any]) -> Bools:
    """(L, K) True where the query stream at i may look at j.

    Most queries have one of two ranks, those of ordinary tokens, so keys are compared once with each rank there is, in the
    smallest integers that hold them, and rows of the result are copied: a third of the time of comparing all pairs.
    """
    low = int(query_rank_L.min(initial=0))
    high = max(low, int(query_rank_L.max(initial=0)))
    small = np.int8 if high - low < 127 else np.int32
    levels = np.arange(high - low + 1, dtype=small)
    keys = np.clip(key_rank_K - low, -1, high - low).astype(small)
    return (levels[:, None] > keys).take(query_rank_L - low, axis=0)


def masks(rows: PermutationInstances, row: int) -> tuple[Bools, Bools]:
    """(L, L) of one row: what the content stream may look at, what the query stream may (without memory)."""
    one = rows.take(np.array([row]))
    assert isinstance(one, PermutationInstances)
    key_L, query_L = ranks(one)
    query_LL = seen(query_L, key_L)
    return with_itself(query_LL), query_LL


def with_itself(query_LL: Bools) -> Bools:
    """The content stream's mask, from the query stream's."""
    content_LL = query_LL.copy()
    content_LL.ravel()[:: len(content_LL) + 1] = True
    return content_LL
