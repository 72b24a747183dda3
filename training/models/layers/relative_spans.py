"""Who looks at whom in attention with relative positions, memory and two streams: worked out once a step.

Queries are one stream: the T tokens (content stream), then the M targets (query stream). Keys are another: before the
tokens of each sequence lie the states it remembers.

    queries    aaaaaaaa bbb | a.a. b            keys    mmmmm aaaaaaaa mm bbb
               tokens         targets                   memory of a, a, memory of b, b

The score of a query and a key has a term of their distance: the product of the query with a row of a table of distances,

    far, far - 1, ..., 1, 0, -1, ..., -near     row number `far - distance`

Going one key to the right is one row down, going one query down is one row up. So for a block of neighbouring queries the
products with one window of the table hold all that is needed, each row shifted by one against the next (`rel_shift` in
Transformer-XL), and a window is as long as the keys and the block together. Targets are no neighbours: theirs are picked
by index. A text that is read from its end has distances of the other sign: the table, which then has both signs, upside
down.

Letters: `B` sequences, `L` tokens of one, `Q` queries, `K` keys of one sequence, `T` tokens, `M` targets, `R` distances.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

BLOCK_QUERIES = (
    128  # of a content tile; 64 and 256 are alike at 512 tokens, whole sequences take a fifth longer
)


@dataclass(frozen=True, kw_only=True)
class TwoStreams:
    """What queries may see: key j if query_rank[i] > key_rank[j] (corpus/corruption/two_stream.py), tokens themselves too."""

    key_rank_T: Tensor
    query_rank_T: Tensor
    target_index_M: Tensor  # ascending, into the tokens


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie, as lists on the host; `memory` and `lengths` are tokens of each sequence."""

    lengths: list[int]
    memory: list[int]
    backward: list[bool]
    segments_T: Tensor  # the memory is of segment 0
    streams: TwoStreams | None  # None: every token sees its whole sequence and its memory
    target_counts: list[int]  # of each sequence

    @property
    def far(self) -> int:
        return max(m + n for m, n in zip(self.memory, self.lengths, strict=True)) - 1

    @property
    def table_rows(self) -> int:
        """Of one direction."""
        return self.far + 1 + (self.far if any(self.backward) else max(self.lengths) - 1)

    def distances(self, device: torch.device) -> Tensor:
        """float32 (R,); where some sequences are read from their end, the table and then the same upside down."""
        one_way = self.far - torch.arange(self.table_rows, dtype=torch.float32, device=device)
        return torch.cat([one_way, one_way.flip(0)]) if any(self.backward) else one_way

    def starts(self) -> list[tuple[int, int, int, int]]:
        """Of each sequence: first token, first target, first key, and the table's row of key 0 for a query at 0."""
        far = self.far
        return [
            (token, target, key, far - m + (self.table_rows if turned else 0))
            for token, target, key, m, turned in zip(
                accumulate(self.lengths[:-1], initial=0),
                accumulate(self.target_counts[:-1], initial=0),
                accumulate(
                    (m + n for m, n in zip(self.memory[:-1], self.lengths[:-1], strict=True)), initial=0
                ),
                self.memory,
                self.backward,
                strict=True,
            )
        ]


@dataclass(frozen=True)
class Tile:
    """Some queries of one sequence, [begin, end) of each stream."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    window: tuple[int, int]  # rows of the table
    column_QK: Tensor | None  # of the window, for each score; None: row i begins at column Q - 1 - i
    mask_QK: Tensor | None  # 0 where seen, else -inf; None: everything is seen
    differs_QK: Tensor | None  # 1 where query and key are of different segments; None: nowhere


def tiles_of(places: Places, *, content: bool = True) -> list[Tile]:
    """Tiles over all queries, or over targets only, which are then the whole stream of queries (the last layer)."""
    tiles = []
    tokens = sum(places.lengths) if content else 0
    for (token, target, key, row), m, length, count in zip(
        places.starts(), places.memory, places.lengths, places.target_counts, strict=True
    ):
        keys = (key, key + m + length)
        for begin in range(0, length if content else 0, BLOCK_QUERIES):
            end = min(length, begin + BLOCK_QUERIES)
            window = (row - (end - 1), row - begin + m + length)
            index = torch.arange(token + begin, token + end)
            mask_QK, differs_QK = _seen(places, index, token, m, length, itself=True)
            tiles.append(Tile((token + begin, token + end), keys, window, None, mask_QK, differs_QK))
        if count:
            assert places.streams is not None
            index = places.streams.target_index_M[target : target + count]
            mask_QK, differs_QK = _seen(places, index, token, m, length, itself=False)
            first, last = int(index[0]) - token, int(index[-1]) - token
            column_QK = (last + token - index)[:, None] + torch.arange(m + length)
            queries = (tokens + target, tokens + target + count)
            window = (row - last, row - first + m + length)
            tiles.append(Tile(queries, keys, window, column_QK, mask_QK, differs_QK))
    return tiles


def _seen(
    places: Places, index_Q: Tensor, token: int, memory: int, length: int, *, itself: bool
) -> tuple[Tensor | None, Tensor | None]:
    own = slice(token, token + length)
    segment_K = torch.cat([index_Q.new_zeros(memory), places.segments_T[own]])
    differs_QK = places.segments_T[index_Q][:, None] != segment_K
    mask_QK = None
    if places.streams is not None:
        rank_K = torch.cat([index_Q.new_full((memory,), -1), places.streams.key_rank_T[own]])
        hidden_QK = places.streams.query_rank_T[index_Q][:, None] <= rank_K
        if itself:
            hidden_QK.diagonal(memory + int(index_Q[0]) - token).fill_(False)
        elif hidden_QK.all(1).any():
            raise ValueError(
                f"a target of the sequence that begins at token {token} sees nothing, because all before it are targets; "
                "leave one token that is not predicted"
            )
        mask_QK = torch.zeros(hidden_QK.shape).masked_fill_(hidden_QK, -torch.inf)
    return mask_QK, differs_QK.float() if differs_QK.any() else None


@dataclass(frozen=True)
class Padded:
    """The same as one padded batch, for devices on which that is faster."""

    query_BQ: Tensor  # row of the stream of queries; 0 where padded
    real_BQ: Tensor
    key_BK: Tensor
    column_BQK: Tensor  # row of the table
    hidden_BQK: Tensor
    differs_BQK: Tensor


def padded_of(places: Places, *, content: bool = True) -> Padded:
    """All queries, or targets only, as in `tiles_of`."""
    device, streams = places.segments_T.device, places.streams
    own = places.lengths if content else [0] * len(places.lengths)
    columns = zip(*places.starts(), strict=True)
    token_B1, target_B1, key_B1, row_B1 = (torch.tensor(column, device=device)[:, None] for column in columns)
    own_B1, count_B1, m_B1, length_B1 = (
        torch.tensor(column, device=device)[:, None]
        for column in (own, places.target_counts, places.memory, places.lengths)
    )
    slot_Q = torch.arange(
        max(n + count for n, count in zip(own, places.target_counts, strict=True)), device=device
    )
    real_BQ = slot_Q < own_B1 + count_B1
    at_target_BQ = real_BQ & (slot_Q >= own_B1)
    target_BQ = torch.where(at_target_BQ, target_B1 + slot_Q - own_B1, 0)
    query_BQ = torch.where(at_target_BQ, sum(own) + target_BQ, token_B1 + slot_Q)
    token_BQ = torch.where(real_BQ, token_B1 + slot_Q, token_B1)
    if streams is not None and len(streams.target_index_M):
        token_BQ = torch.where(at_target_BQ, streams.target_index_M[target_BQ], token_BQ)

    slot_K = torch.arange(places.far + 1, device=device)
    real_BK, remembered_BK = slot_K < m_B1 + length_B1, slot_K < m_B1
    token_BK = torch.where(real_BK & ~remembered_BK, token_B1 + slot_K - m_B1, 0)
    segment_BK = torch.where(remembered_BK, 0, places.segments_T[token_BK])
    hidden_BQK = (~real_BK)[:, None].expand(-1, len(slot_Q), -1)
    if streams is not None:
        rank_BK = torch.where(remembered_BK, -1, streams.key_rank_T[token_BK])
        later_BQK = streams.query_rank_T[token_BQ][:, :, None] <= rank_BK[:, None]
        itself_BQK = (token_BQ - token_B1 + m_B1)[:, :, None] == slot_K
        hidden_BQK = hidden_BQK | (later_BQK & (at_target_BQ[:, :, None] | ~itself_BQK))
    column_BQK = (row_B1 + token_B1 - token_BQ)[:, :, None] + slot_K
    return Padded(
        query_BQ=torch.where(real_BQ, query_BQ, 0),
        real_BQ=real_BQ,
        key_BK=torch.where(real_BK, key_B1 + slot_K, 0),
        column_BQK=torch.where(real_BK[:, None], column_BQK, 0),
        hidden_BQK=hidden_BQK & real_BQ[:, :, None],  # padded queries see something, or they would spread NaN
        differs_BQK=places.segments_T[token_BQ][:, :, None] != segment_BK[:, None],
    )
