"""Attention from one flat stream to another (Vaswani et al. 2017, section 3.2.3): a token of sequence i of a decoder
sees all of sequence i of the encoder's output, and nothing of any other.

                       memory  a a a a b b b c        a tile is a long pair of sequences by itself, or neighbours
    decoder tokens  a          x x x x . . . .        with at most 64 tokens on either side; scores outside the
                    a          x x x x . . . .        rectangles are -inf before the softmax: weights, and
                    b          . . . . x x x .        gradients through them, are exactly zero
                    c          . . . . . . . x
                    c          . . . . . . . x

It is what layers/attention.py does, with rectangles for its squares: tiles straight from slices of the projected
streams into slices of the output and of the gradients, few shapes, forward and backward written out. A tile reaches over
the first tokens of its right neighbours (queries only where there are keys for them to see), and what it writes there
is written over when the neighbours' turn comes. Filler behind the last sequences is not attended: its rows of the
output and of the gradients are zero.

CPU-milliseconds of forward and backward, 4 heads of 64, dropout .1, one core
(tests/benchmarks/bench_cross_attention.py):

                                   32 x 5..128     32 x 5..128
                                   source .8       target .5       32 x 128       8 x 512
                                float32  bf16   float32  bf16   float32  bf16  float32  bf16
    one padded batch, SDPA           57    61        45    47        61    64      225   264
    each sequence alone, SDPA        24    28        20    20        54    55      179   192
    tiles                            16    17        13    15        34    28      112    59

On a GPU it is `torch.nn.attention.varlen.varlen_attn` with two `cu_seqlens` (16-bit precision, no attention dropout),
else SDPA on padded copies.

Letters: `B` sequences, `T` tokens that look (the decoder's), `S` tokens that are looked at (the memory), `L` and `K` those
of one tile, `D` hidden size, `N` heads, `H` size per head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.layers.attention import TILE_TOKENS, has_flash, scaled_product
from training.models.layers.dropout import keep_mask, kept_share
from training.models.layers.shapes import round_up

LookThere = Callable[[Tensor, float], Tensor]  # (queries T,N,H; dropout of weights) -> what is seen, T,N,H
Tile = tuple[int, int, int, int]  # queries [begin, end), keys [begin, end)


@dataclass(frozen=True)
class CrossSpans:
    """Where the pairs of sequences lie: worked out once a step, read by every layer."""

    cu_seqlens: Tensor  # int32 (B + 1,), of the stream that looks
    max_seq_len: int
    memory_cu_seqlens: Tensor  # int32 (B + 1,), of the stream that is looked at
    memory_max_seq_len: int  # or a larger number
    tiles: list[Tile]  # empty on a GPU
    tile_masks: list[Tensor | None]  # float32 (L, K), 0 where seen, else -inf; None: everything is seen


def find_cross_spans(
    cu_seqlens: Tensor, max_seq_len: int, memory_cu_seqlens: Tensor, memory_max_seq_len: int
) -> CrossSpans:
    """Sequence i of the one stream looks at sequence i of the other; neither is empty."""
    if cu_seqlens.shape != memory_cu_seqlens.shape:
        raise ValueError(
            f"{len(cu_seqlens) - 1} sequences look at {len(memory_cu_seqlens) - 1}: sequence i looks at sequence i; "
            "give as many of the one as of the other"
        )
    sides = cu_seqlens, max_seq_len, memory_cu_seqlens, memory_max_seq_len
    if cu_seqlens.device.type != "cpu":
        return CrossSpans(*sides, [], [])
    groups: list[list[tuple[int, int]]] = []
    room = room_there = 0
    for pair in zip(cu_seqlens.diff().tolist(), memory_cu_seqlens.diff().tolist(), strict=True):
        if min(pair) < 1:
            raise ValueError(
                f"a sequence of {pair[0]} tokens looks at {pair[1]}: neither may be empty; leave the pair out"
            )
        if pair[0] <= room and pair[1] <= room_there:
            groups[-1].append(pair)
        else:
            groups.append([pair])
            room = room_there = TILE_TOKENS
        room, room_there = room - pair[0], room_there - pair[1]
    tiles, masks = [], []
    begin = begin_there = 0
    tokens, tokens_there = int(cu_seqlens[-1]), int(memory_cu_seqlens[-1])
    for pairs in groups:
        own, own_there = (sum(side) for side in zip(*pairs, strict=True))
        end_there = min(tokens_there, begin_there + round_up(own_there, per_octave=4, least=16))
        more = end_there - begin_there - own_there
        end = min(tokens, begin + round_up(own, per_octave=4, least=16)) if more else begin + own
        if more:
            pairs = [*pairs, (end - begin - own, more)]
        tiles.append((begin, end, begin_there, end_there))
        masks.append(_tile_mask(pairs))
        begin, begin_there = begin + own, begin_there + own_there
    return CrossSpans(*sides, tiles, masks)


def _tile_mask(pairs: list[tuple[int, int]]) -> Tensor | None:
    if len(pairs) == 1:
        return None
    ends, ends_there = (list(accumulate(side)) for side in zip(*pairs, strict=True))
    mask = torch.full((ends[-1], ends_there[-1]), -torch.inf)
    for (length, length_there), end, end_there in zip(pairs, ends, ends_there, strict=True):
        mask[end - length : end, end_there - length_there : end_there] = 0
    return mask


class CrossAttention(nn.Module):
    """Queries of one stream, keys and values (one fused projection) of another; `x_TD, memory_SD -> x_TD`."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_TD: Tensor, memory_SD: Tensor, spans: CrossSpans) -> Tensor:
        kv_S2NH = self.keys_values(memory_SD)
        return self.through(x_TD, lambda q_TNH, dropout: attend_across(q_TNH, kv_S2NH, spans, dropout))

    def through(self, x_TD: Tensor, look: LookThere) -> Tensor:
        """The same with another attention, e.g. one that has a cache."""
        q_TNH = self.query(x_TD).unflatten(-1, (self.num_heads, -1))
        mixed_TNH = look(q_TNH, self.dropout if self.training else 0.0)
        return self.out(mixed_TNH.flatten(1))

    def keys_values(self, memory_SD: Tensor) -> Tensor:
        """What is looked at, `S,2,N,H`."""
        return self.key_value(memory_SD).unflatten(-1, (2, self.num_heads, -1))


def attend_across(q_TNH: Tensor, kv_S2NH: Tensor, spans: CrossSpans, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(H)) v of each sequence over its memory, `T,N,H`; `dropout` is of the weights."""
    if q_TNH.device.type == "cpu":
        return _CrossTileAttention.apply(q_TNH, kv_S2NH, spans, dropout)  # type: ignore[no-untyped-call]
    if not dropout and has_flash(q_TNH):
        return _attend_varlen(q_TNH, kv_S2NH, spans)
    return attend_across_padded(q_TNH, kv_S2NH, spans, dropout)


def _attend_varlen(q_TNH: Tensor, kv_S2NH: Tensor, spans: CrossSpans) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # needs a CUDA build of torch to run

    k, v = kv_S2NH.unbind(1)
    cu, cu_there = spans.cu_seqlens, spans.memory_cu_seqlens
    mixed = varlen_attn(q_TNH, k, v, cu, cu_there, spans.max_seq_len, spans.memory_max_seq_len)
    assert isinstance(mixed, Tensor)  # a pair only when the log-sum-exp is asked for
    return mixed


def attend_across_padded(q_TNH: Tensor, kv_S2NH: Tensor, spans: CrossSpans, dropout: float) -> Tensor:
    """The same through torch's SDPA on padded copies: any device, any precision, dropout."""
    index_BL, real_BL = padded_index(spans.cu_seqlens, spans.max_seq_len)
    index_BK, real_BK = padded_index(spans.memory_cu_seqlens, spans.memory_max_seq_len)
    q_BNLH = q_TNH[index_BL].transpose(1, 2)
    k, v = kv_S2NH[index_BK].permute(2, 0, 3, 1, 4).unbind()
    mixed_BNLH = F.scaled_dot_product_attention(q_BNLH, k, v, real_BK[:, None, None], dropout_p=dropout)
    return mixed_BNLH.transpose(1, 2)[real_BL]  # row-major order of the mask is the order of the stream


def padded_index(cu_seqlens: Tensor, max_seq_len: int) -> tuple[Tensor, Tensor]:
    """Of each place of a padded batch the row of the stream, and whether it is a real one; both `B, max_seq_len`."""
    column_L = torch.arange(max_seq_len, device=cu_seqlens.device)
    real_BL = column_L < cu_seqlens.diff()[:, None]
    return torch.where(real_BL, cu_seqlens[:-1].long()[:, None] + column_L, 0), real_BL


class _CrossTileAttention(torch.autograd.Function):
    """Tile by tile on a CPU; the gradients are those of layers/attention.py's `_TileAttention`."""

    @staticmethod
    def forward(ctx: Any, q_TNH: Tensor, kv_S2NH: Tensor, spans: CrossSpans, dropout: float) -> Tensor:
        ctx.spans, ctx.kept, ctx.scale = spans, kept_share(dropout), q_TNH.shape[-1] ** -0.5
        mixed_TNH = torch.empty_like(q_TNH)
        keeps = _keep_tiles(spans.tiles, q_TNH.shape[1], dropout, q_TNH.dtype)
        softmaxes, weights = [], []
        with torch.autocast("cpu", enabled=False):  # it would widen the softmax
            for (q0, q1, k0, k1), mask_LK, keep_NLK in zip(spans.tiles, spans.tile_masks, keeps, strict=True):
                q, (k, v) = q_TNH[q0:q1].transpose(0, 1), kv_S2NH[k0:k1].permute(1, 2, 0, 3).unbind()
                scores = scaled_product(q, k.transpose(1, 2), ctx.scale, mask_LK)
                softmaxes.append(torch.softmax(scores, -1))
                if keep_NLK is not None:
                    weights.append(torch.mul(softmaxes[-1], keep_NLK, out=scores))
                torch.bmm((weights or softmaxes)[-1], v, out=mixed_TNH[q0:q1].transpose(0, 1))
            if weights:
                mixed_TNH.mul_(1 / ctx.kept)
        mixed_TNH[spans.cu_seqlens[-1] :] = 0
        ctx.save_for_backward(q_TNH, kv_S2NH, mixed_TNH, *softmaxes, *weights)
        return mixed_TNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TNH: Tensor) -> tuple[Tensor, Tensor, None, None]:
        q_TNH, kv_S2NH, mixed_TNH, *saved = ctx.saved_tensors
        tiles = ctx.spans.tiles
        softmaxes, weights = saved[: len(tiles)], saved[-len(tiles) :]  # one and the same without dropout
        grad_q_TNH, grad_kv_S2NH = torch.empty_like(q_TNH), torch.empty_like(kv_S2NH)
        with torch.autocast("cpu", enabled=False):
            row_TN1 = (grad_TNH * mixed_TNH).sum(-1, keepdim=True)
            if ctx.kept < 1:
                grad_TNH = grad_TNH * (1 / ctx.kept)
            for (q0, q1, k0, k1), softmax_NLK, weights_NLK in zip(tiles, softmaxes, weights, strict=True):
                q, (k, v) = q_TNH[q0:q1].transpose(0, 1), kv_S2NH[k0:k1].permute(1, 2, 0, 3).unbind()
                grad_q, (grad_k, grad_v) = (
                    grad_q_TNH[q0:q1].transpose(0, 1),
                    grad_kv_S2NH[k0:k1].permute(1, 2, 0, 3).unbind(),
                )
                grad_NLH = grad_TNH[q0:q1].transpose(0, 1)
                grad_scores = torch.bmm(grad_NLH, v.transpose(1, 2)).mul_(weights_NLK)
                grad_scores.addcmul_(softmax_NLK, row_TN1[q0:q1].transpose(0, 1), value=-1)
                torch.bmm(weights_NLK.transpose(1, 2), grad_NLH, out=grad_v)
                scaled_product(grad_scores, k, ctx.scale, out=grad_q)
                scaled_product(grad_scores.transpose(1, 2), q, ctx.scale, out=grad_k)
        grad_q_TNH[ctx.spans.cu_seqlens[-1] :] = 0
        grad_kv_S2NH[ctx.spans.memory_cu_seqlens[-1] :] = 0
        return grad_q_TNH, grad_kv_S2NH, None, None


def _keep_tiles(
    tiles: list[Tile], heads: int, dropout: float, dtype: torch.dtype
) -> list[Tensor] | list[None]:
    if kept_share(dropout) == 1:
        return [None] * len(tiles)
    shapes = [(heads, q1 - q0, k1 - k0) for q0, q1, k0, k1 in tiles]
    areas = [heads * queries * keys for _, queries, keys in shapes]
    keep = torch.split(keep_mask(sum(areas), dropout).to(dtype), areas)
    return [tile.view(shape) for tile, shape in zip(keep, shapes, strict=True)]
