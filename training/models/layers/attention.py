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
lengths per power of two: a tile reaches over the first tokens of its right neighbour, which are one more block
of it, and what it writes there is written over when the neighbour's turn comes. Only the last tile of a batch
is as long as it happens to be. (8 heads of 64, 16 sequences around 75 tokens: 16 CPU-ms instead of 42.)

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

On a GPU it is `torch.nn.attention.varlen.varlen_attn` (16-bit precision, no attention dropout), else SDPA on
a padded copy.

Letters: `B` sequences, `L` tokens of one tile, `T` tokens of all, `D` hidden size, `N` heads, `H` size per
head.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.layers.dropout import keep_mask, kept_share
from training.models.layers.shapes import round_up

TILE_TOKENS = 64


@dataclass(frozen=True)
class Spans:
    """Where the sequences of a batch lie: worked out once a step, read by every layer."""

    cu_seqlens: Tensor  # int32 (B + 1,)
    max_seq_len: int
    tiles: list[tuple[int, int]]  # the tokens of each tile, [begin, end); empty on a GPU
    tile_masks: list[Tensor | None]  # float32 (L, L), 0 where seen, else -inf; None: everything is seen
    causal: bool = False


def find_spans(cu_seqlens: Tensor, max_seq_len: int, filler: int = 0, *, causal: bool = False) -> Spans:
    """`filler` rows behind the last sequence (training/models/layers/shapes.py) are attended like one more."""
    if cu_seqlens.device.type != "cpu":
        return Spans(cu_seqlens, max_seq_len, [], [], causal)
    groups: list[list[int]] = []
    room = 0
    for length in [*cu_seqlens.diff().tolist(), *([filler] if filler else [])]:
        if length <= room:
            groups[-1].append(length)
        else:
            groups.append([length])
            room = TILE_TOKENS
        room -= length
    tiles, masks = [], []
    begin, tokens = 0, sum(map(sum, groups))
    for lengths in groups:
        own = sum(lengths)
        end = min(tokens, begin + round_up(own, per_octave=4, least=16))
        if end > begin + own:
            lengths = [*lengths, end - begin - own]
        tiles.append((begin, end))
        masks.append(_tile_mask(lengths, causal))
        begin += own
    return Spans(cu_seqlens, max_seq_len, tiles, masks, causal)


def _tile_mask(lengths: list[int], causal: bool) -> Tensor | None:
    if len(lengths) == 1:
        return _seen_from_left(lengths[0]) if causal else None
    size = sum(lengths)
    mask = torch.full((size, size), -torch.inf)
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        mask[end - length : end, end - length : end] = _seen_from_left(length) if causal else 0
    return mask


@lru_cache(maxsize=64)  # tiles come in few lengths
def _seen_from_left(size: int) -> Tensor:
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
        qkv_T3NH = self.qkv(x_TD).unflatten(-1, (3, self.num_heads, -1))
        mixed_TNH = attend(qkv_T3NH, spans, self.dropout if self.training else 0.0)
        return self.out(mixed_TNH.flatten(1))


def attend(qkv_T3NH: Tensor, spans: Spans, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(H)) v within each sequence, `T,N,H`; `dropout` is of the weights."""
    if qkv_T3NH.device.type == "cpu":
        return _TileAttention.apply(qkv_T3NH, spans, dropout)  # type: ignore[no-untyped-call]
    if not dropout and _has_flash(qkv_T3NH):
        return _attend_varlen(qkv_T3NH, spans)
    return attend_padded(qkv_T3NH, spans, dropout)


def _has_flash(x: Tensor) -> bool:
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
        ctx.tiles, ctx.kept, ctx.scale = spans.tiles, kept_share(dropout), size**-0.5
        mixed_TNH = qkv_T3NH.new_empty(tokens, heads, size)
        keeps = _keep_tiles([end - begin for begin, end in ctx.tiles], heads, dropout, qkv_T3NH.dtype)
        softmaxes, weights = [], []
        with torch.autocast("cpu", enabled=False):  # it would widen the softmax
            tiles = zip(
                _slices(qkv_T3NH, ctx.tiles),
                _slices(mixed_TNH, ctx.tiles),
                spans.tile_masks,
                keeps,
                strict=True,
            )
            for qkv_L3NH, mixed_LNH, mask_LL, keep_NLL in tiles:
                q, k, v = qkv_L3NH.permute(1, 2, 0, 3).unbind()
                scores = _scaled_product(q, k.transpose(1, 2), ctx.scale, mask_LL)
                softmax_NLL = torch.softmax(scores, -1)
                softmaxes.append(softmax_NLL)
                if keep_NLL is not None:
                    weights.append(torch.mul(softmax_NLL, keep_NLL, out=scores))
                torch.bmm(weights[-1] if weights else softmax_NLL, v, out=mixed_LNH.transpose(0, 1))
            if weights:
                mixed_TNH.mul_(1 / ctx.kept)
        ctx.save_for_backward(qkv_T3NH, mixed_TNH, *softmaxes, *weights)
        return mixed_TNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TNH: Tensor) -> tuple[Tensor, None, None]:
        qkv_T3NH, mixed_TNH, *saved = ctx.saved_tensors
        tiles = len(ctx.tiles)
        softmaxes, weights = saved[:tiles], saved[-tiles:]  # one and the same without dropout
        grad_qkv_T3NH = torch.empty_like(qkv_T3NH)
        with torch.autocast("cpu", enabled=False):
            row_TN1 = (grad_TNH * mixed_TNH).sum(-1, keepdim=True)
            if ctx.kept < 1:
                grad_TNH = grad_TNH * (1 / ctx.kept)
            slices = (_slices(whole, ctx.tiles) for whole in (qkv_T3NH, grad_qkv_T3NH, grad_TNH, row_TN1))
            for softmax_NLL, weights_NLL, qkv_L3NH, grad_qkv_L3NH, grad_LNH, row_LN1 in zip(
                softmaxes, weights, *slices, strict=True
            ):
                q, k, v = qkv_L3NH.permute(1, 2, 0, 3).unbind()
                grad_q, grad_k, grad_v = grad_qkv_L3NH.permute(1, 2, 0, 3).unbind()
                grad_NLH = grad_LNH.transpose(0, 1)
                grad_scores = torch.bmm(grad_NLH, v.transpose(1, 2)).mul_(weights_NLL)
                grad_scores.addcmul_(softmax_NLL, row_LN1.transpose(0, 1), value=-1)
                torch.bmm(weights_NLL.transpose(1, 2), grad_NLH, out=grad_v)
                _scaled_product(grad_scores, k, ctx.scale, out=grad_q)
                _scaled_product(grad_scores.transpose(1, 2), q, ctx.scale, out=grad_k)
        return grad_qkv_T3NH, None, None


def _slices(whole_T: Tensor, tiles: list[tuple[int, int]]) -> list[Tensor]:
    """Views; they overlap where a tile reaches over its right neighbour, so they are written from left to right."""
    return [whole_T[begin:end] for begin, end in tiles]


def _keep_tiles(
    sizes: list[int], heads: int, dropout: float, dtype: torch.dtype
) -> list[Tensor] | list[None]:
    if kept_share(dropout) == 1:
        return [None] * len(sizes)
    areas = [heads * size * size for size in sizes]
    keep = torch.split(keep_mask(sum(areas), dropout).to(dtype), areas)
    return [tile.view(heads, size, size) for tile, size in zip(keep, sizes, strict=True)]


def _scaled_product(
    a: Tensor, b: Tensor, scale: float, add: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """`scale * (a @ b) + add`, batched; into `out`, of any strides, if given."""
    if add is None:
        return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)
    return torch.baddbmm(add.to(a.dtype), a, b, alpha=scale, out=out)
