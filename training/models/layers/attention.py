"""Self-attention over a flat stream (Vaswani et al. 2017, section 3.2): a token sees its own sequence,
nothing else; in a causal model only itself and what is to its left.

    stream   aaaaaaaa bbb cc ddd eeeeee...          a tile is a run of the stream: a long sequence by itself,
    tiles    [------] [--------] [-----...          or neighbours that together have at most 64 tokens

    inside a tile of several   b b b c c d d d      scores outside the squares are -inf before the softmax:
                             b x x x . . . . .      weights, and gradients through them, are exactly zero
                             c . . . x x . . .
                             d . . . . . x x x

On a CPU every tile is attended on its own, straight from its slice of the projected stream and straight into
its slice of the output and of the gradient: no gathering, the tile's weights stay in cache, dropout bits are
drawn once a layer. Short neighbours share a tile because below some 64 tokens the calls cost more than the
arithmetic; what is computed outside the squares is less than one 64-token sequence per tile.

oneDNN compiles a kernel for every new shape, which costs more than running it, so tiles have one of four
lengths per power of two: a tile reaches over the first tokens of its right neighbour, which are one more
block of it, and what it writes there is written over when the neighbour's turn comes. Only the last tile of a
batch is as long as it happens to be. (8 heads of 64, 16 sequences around 75 tokens: 16 CPU-ms instead of 42.)

Forward and backward are written out (`_TileAttention`), because torch's CPU attention leaves bfloat16, and
its fast kernel, as soon as there is dropout. CPU-milliseconds of forward and backward, 4 heads of 64, dropout
.1, one core of an EPYC 9004 (tests/benchmarks/bench_attention.py):

                                       32 x 5..128       32 x 128         8 x 512
                                    float32  bf16    float32  bf16    float32  bf16
    one padded batch, SDPA               81   116         87    81        318   331
    sorted, padded by 4, SDPA            44    52         94    82        256   332
    groups of equal length, SDPA         63    79         84    80        294   284
    each sequence alone, SDPA            36    42         79    68        238   232
    tiles                                20    27         49    31        140    79

In a causal model, half of the square of a long sequence is to the right of its queries. So its queries go in
blocks of 256, each a tile of its own that ends where its keys end; from the last block to the first, because
the last has all keys, and their gradients are written by it and only added to by the others. (4 sequences of
1,024, 12 heads of 64, forward and backward: 467 CPU-ms in float32 and 242 in bfloat16, where the whole
squares took 1,045 and 389 and torch's own causal attention takes 512 and 424; with dropout .1 574 and 290,
1,187 and 542, 1,741 and 1,769.)

On a GPU it is `torch.nn.attention.varlen.varlen_attn` (16-bit precision, no attention dropout), else SDPA on
a padded copy.

Letters: `B` sequences, `L` tokens of one tile, `T` tokens of all, `D` hidden size, `N` heads, `H` size per
head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.layers.dropout import keep_mask, kept_share
from training.models.layers.shapes import round_up

TILE_TOKENS = 64
QUERY_BLOCK = 256


@dataclass(frozen=True)
class Spans:
    """Where the sequences of a batch lie: worked out once a step, read by every layer."""

    cu_seqlens: Tensor  # int32 (B + 1,)
    max_seq_len: int
    tiles: list[tuple[int, int]]  # the queries of each tile, [begin, end); empty on a GPU
    tile_masks: list[Tensor | None]  # float32, queries x keys: 0 where seen, else -inf; None: all seen
    key_begins: list[int]  # the keys of each tile are [this, end of its queries)
    causal: bool = False


def find_spans(cu_seqlens: Tensor, max_seq_len: int, filler: int = 0, *, causal: bool = False) -> Spans:
    """`filler` rows behind the last sequence (training/models/layers/shapes.py) are attended like one more."""
    if cu_seqlens.device.type != "cpu":
        return Spans(cu_seqlens, max_seq_len, [], [], [], causal)
    groups: list[list[int]] = []
    room = 0
    for length in [*cu_seqlens.diff().tolist(), *([filler] if filler else [])]:
        if length <= room:
            groups[-1].append(length)
        else:
            groups.append([length])
            room = TILE_TOKENS
        room -= length
    tiles, masks, key_begins = [], [], []
    begin, tokens = 0, sum(map(sum, groups))
    for lengths in groups:
        own = sum(lengths)
        end = min(tokens, begin + round_up(own, per_octave=4, least=16))
        if end > begin + own:
            lengths = [*lengths, end - begin - own]
        for first in _query_blocks(end - begin, causal):
            last = min(first + QUERY_BLOCK, end - begin) if causal else end - begin
            tiles.append((begin + first, begin + last))
            masks.append(_tile_mask(lengths, first, last, causal))
            key_begins.append(begin)
        begin += own
    return Spans(cu_seqlens, max_seq_len, tiles, masks, key_begins, causal)


def _query_blocks(size: int, causal: bool) -> list[int]:
    """Where blocks of queries begin in a tile, from the last to the first: the last sees all keys."""
    return list(range(0, size, QUERY_BLOCK))[::-1] if causal else [0]


def _tile_mask(lengths: list[int], first: int, last: int, causal: bool) -> Tensor | None:
    """What queries [first, last) of a tile see of its keys [0, last); `lengths` are of its sequences."""
    if last <= lengths[0]:
        return _seen_from_left(last)[first:] if causal else None
    mask = torch.full((last - first, last), -torch.inf)
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        begin, top, stop = end - length, max(end - length, first), min(end, last)
        if top < stop:
            seen = _seen_from_left(stop - begin)[top - begin :] if causal else 0
            mask[top - first : stop - first, begin:stop] = seen
    return mask


def _seen_from_left(size: int) -> Tensor:
    return _triangle(1 << max(7, (size - 1).bit_length()))[:size, :size]


@lru_cache
def _triangle(size: int) -> Tensor:
    return torch.full((size, size), -torch.inf).triu_(1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values; `x_TD -> x_TD`."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_TD: Tensor, spans: Spans) -> Tensor:
        return self.through(x_TD, lambda qkv_T3NH, dropout: attend(qkv_T3NH, spans, dropout))

    def through(self, x_TD: Tensor, look: Callable[[Tensor, float], Tensor]) -> Tensor:
        """The same with another attention: `look(qkv_T3NH, dropout) -> mixed_TNH`, e.g. one that has a cache."""
        qkv_T3NH = self.qkv(x_TD).unflatten(-1, (3, self.num_heads, -1))
        mixed_TNH = look(qkv_T3NH, self.dropout if self.training else 0.0)
        return self.out(mixed_TNH.flatten(1))


def attend(qkv_T3NH: Tensor, spans: Spans, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(H)) v within each sequence, `T,N,H`; `dropout` is of the weights."""
    if qkv_T3NH.device.type == "cpu":
        return _TileAttention.apply(qkv_T3NH, spans, dropout)  # type: ignore[no-untyped-call]
    if not dropout and has_flash(qkv_T3NH):
        return _attend_varlen(qkv_T3NH, spans)
    return attend_padded(qkv_T3NH, spans, dropout)


def has_flash(x: Tensor) -> bool:
    """Whether torch's flash kernels take it: 16 bits on an NVIDIA GPU of compute capability 8.0 or more."""
    return (
        x.is_cuda
        and x.dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )


def _attend_varlen(qkv_T3NH: Tensor, spans: Spans) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # needs a CUDA build of torch to run

    q, k, v = qkv_T3NH.unbind(1)
    cu, longest = spans.cu_seqlens, spans.max_seq_len
    mixed = varlen_attn(q, k, v, cu, cu, longest, longest, window_size=(-1, 0 if spans.causal else -1))
    assert isinstance(mixed, Tensor)  # a pair only when the log-sum-exp is asked for
    return mixed


def attend_padded(qkv_T3NH: Tensor, spans: Spans, dropout: float) -> Tensor:
    """The same through torch's SDPA on a padded copy: any device, any precision, dropout, at the price of the
    padding.
    """
    starts_B = spans.cu_seqlens[:-1].long()
    column_L = torch.arange(spans.max_seq_len, device=starts_B.device)
    real_BL = column_L < spans.cu_seqlens.diff()[:, None]
    index_BL = torch.where(real_BL, starts_B[:, None] + column_L, 0)
    q, k, v = qkv_T3NH[index_BL].permute(2, 0, 3, 1, 4).unbind()
    seen = real_BL[:, None, None]
    if spans.causal:
        seen = seen & (column_L <= column_L[:, None])
    mixed_BNLH = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
    return mixed_BNLH.transpose(1, 2)[real_BL]  # row-major order of the mask is the order of the stream


class _TileAttention(torch.autograd.Function):
    """Attention tile by tile on a CPU, weights kept for the backward pass in the stream's own precision.

    With P the softmax, K the dropout mask over the kept share, W = P * K and O = W v, the gradient of the
    scores is dS = P * (K * dW - rowsum(P * K * dW)) = W * dW - P * rowsum(dO * O): as in FlashAttention, the
    row sum needs no weights, and K is not kept.
    """

    @staticmethod
    def forward(ctx: Any, qkv_T3NH: Tensor, spans: Spans, dropout: float) -> Tensor:
        tokens, _, heads, size = qkv_T3NH.shape
        ctx.spans, ctx.kept, ctx.scale = spans, kept_share(dropout), size**-0.5
        mixed_TNH = qkv_T3NH.new_empty(tokens, heads, size)
        softmaxes, weights = [], []
        with torch.autocast("cpu", enabled=False):  # it would widen the softmax
            keeps = _keep_tiles(spans, heads, dropout, qkv_T3NH.dtype)
            for number, keep_NLK in enumerate(keeps):
                q, k, v = _of_tile(qkv_T3NH, spans, number)
                begin, end = spans.tiles[number]
                scores = scaled_product(q, k.transpose(1, 2), ctx.scale, spans.tile_masks[number])
                softmax_NLK = torch.softmax(scores, -1)
                softmaxes.append(softmax_NLK)
                if keep_NLK is not None:
                    weights.append(torch.mul(softmax_NLK, keep_NLK, out=scores))
                mixed_NLH = mixed_TNH[begin:end].transpose(0, 1)
                torch.bmm(weights[-1] if weights else softmax_NLK, v, out=mixed_NLH)
            if weights:
                mixed_TNH.mul_(1 / ctx.kept)
        ctx.save_for_backward(qkv_T3NH, mixed_TNH, *softmaxes, *weights)
        return mixed_TNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TNH: Tensor) -> tuple[Tensor, None, None]:
        qkv_T3NH, mixed_TNH, *saved = ctx.saved_tensors
        spans, scale = ctx.spans, ctx.scale
        tiles = len(spans.tiles)
        softmaxes, weights = saved[:tiles], saved[-tiles:]  # one and the same without dropout
        grad_qkv_T3NH = torch.empty_like(qkv_T3NH)
        with torch.autocast("cpu", enabled=False):
            row_TN1 = (grad_TNH * mixed_TNH).sum(-1, keepdim=True)
            if ctx.kept < 1:
                grad_TNH = grad_TNH * (1 / ctx.kept)
            written = -1  # where the keys begin whose gradients hold something already
            for number, (softmax_NLK, weights_NLK) in enumerate(zip(softmaxes, weights, strict=True)):
                q, k, v = _of_tile(qkv_T3NH, spans, number)
                grad_q, grad_k, grad_v = _of_tile(grad_qkv_T3NH, spans, number)
                begin, end = spans.tiles[number]
                grad_NLH = grad_TNH[begin:end].transpose(0, 1)
                grad_scores = torch.bmm(grad_NLH, v.transpose(1, 2)).mul_(weights_NLK)
                grad_scores.addcmul_(softmax_NLK, row_TN1[begin:end].transpose(0, 1), value=-1)
                more = float(spans.key_begins[number] == written)  # an earlier block of the same keys
                grad_v.baddbmm_(weights_NLK.transpose(1, 2), grad_NLH, beta=more)
                grad_k.baddbmm_(grad_scores.transpose(1, 2), q, beta=more, alpha=scale)
                scaled_product(grad_scores, k, scale, out=grad_q)
                written = spans.key_begins[number]
        return grad_qkv_T3NH, None, None


def _of_tile(whole_T3NH: Tensor, spans: Spans, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a tile, `N,L,H`: views. They overlap where a tile reaches over its right
    neighbour, so tiles are written from left to right.
    """
    begin, end = spans.tiles[number]
    q, k, v = whole_T3NH[spans.key_begins[number] : end].permute(1, 2, 0, 3).unbind()
    return q[:, begin - end :], k, v


def _keep_tiles(spans: Spans, heads: int, dropout: float, dtype: torch.dtype) -> list[Tensor] | list[None]:
    if kept_share(dropout) == 1:
        return [None] * len(spans.tiles)
    shapes = [
        (heads, end - begin, end - keys)
        for (begin, end), keys in zip(spans.tiles, spans.key_begins, strict=True)
    ]
    keep = torch.split(keep_mask(sum(map(prod, shapes)), dropout).to(dtype), list(map(prod, shapes)))
    return [tile.view(shape) for tile, shape in zip(keep, shapes, strict=True)]


def scaled_product(
    a: Tensor, b: Tensor, scale: float, add: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """`scale * (a @ b) + add`, batched; into `out`, of any strides, if given."""
    if add is None:
        return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)
    return torch.baddbmm(add.to(a.dtype), a, b, alpha=scale, out=out)
