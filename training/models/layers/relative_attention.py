"""Attention with relative positions and relative segments (Dai et al. 2019, arXiv:1901.02860, section 3.3; Yang et al.
2019, arXiv:1906.08237, sections 2.4 and 2.5), over the streams of relative_spans.py.

    score of query i and key j = [(q_i + w) k_j + (q_i + r) R_(i-j) + (q_i + s) S_(same segment or not)] / sqrt(H)

w, r and s are biases of each layer, R the projected sinusoids of distances, S two vectors a head. Since the softmax of a
row does not change when all its scores do, the last term is computed as (q_i + s)(S_other - S_same) where segments differ.
So more segments than in pretraining change nothing.

On a CPU tiles are attended one after the other, as in attention.py, forward and backward written out: no padding, and
queries of the query stream at targets only. A tile has three products where plain attention has two (the third with its
window of the table, (K + Q) / K as long as the keys), and moves each score once to its place. With the projections of
queries, keys and distances a step takes 0.4 of transformers' CPU time (2.4 to 2.7 times as many tokens a second in float32
and bfloat16: 4 layers x 256, rows of 512, 85 targets, memory of 384; tests/benchmarks/bench_permutation.py). Elsewhere it
is torch's SDPA on one padded batch, with the other two terms as its mask.

Letters: `Q` queries, `S` keys, `R` distances, `W` of a window, `N` heads, `H` size per head, `D` hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.layers.dropout import keep_mask, kept_share
from training.models.layers.relative_spans import Padded, Tile

Spans = list[Tile] | Padded


class RelativeAttention(nn.Module):
    """Queries `x_QD` look at keys `x_SD` over a table of distances `r_RD`; `-> x_QD`. Projections have no biases."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        size = hidden_size // num_heads
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.distance = nn.Linear(hidden_size, hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)
        self.content_bias = nn.Parameter(torch.empty(num_heads, size))  # r_w_bias
        self.distance_bias = nn.Parameter(torch.empty(num_heads, size))  # r_r_bias
        self.segment_bias = nn.Parameter(torch.empty(num_heads, size))  # r_s_bias
        self.segment = nn.Parameter(torch.empty(2, num_heads, size))  # of the same segment, of another

    def forward(self, x_QD: Tensor, keys_SD: Tensor, table_RD: Tensor, spans: Spans) -> Tensor:
        heads = (self.num_heads, -1)
        q_QNH = self.query(x_QD).unflatten(-1, heads)
        scale = q_QNH.shape[-1] ** -0.5
        segment_NH = self.segment[1] - self.segment[0]
        mixed_QNH = attend(
            (q_QNH + self.content_bias.to(q_QNH.dtype)) * scale,
            (q_QNH + self.distance_bias.to(q_QNH.dtype)) * scale,
            ((q_QNH + self.segment_bias.to(q_QNH.dtype)) * (segment_NH * scale).to(q_QNH.dtype)).sum(-1),
            self.key_value(keys_SD).unflatten(-1, (2, *heads)),
            self.distance(table_RD).unflatten(-1, heads),
            spans,
            self.dropout if self.training else 0.0,
        )
        return self.out(mixed_QNH.flatten(1))


def attend(
    content_QNH: Tensor,
    distance_QNH: Tensor,
    segment_QN: Tensor,
    kv_S2NH: Tensor,
    r_RNH: Tensor,
    spans: Spans,
    dropout: float = 0.0,
) -> Tensor:
    """`Q,N,H`, zero at queries of no tile; the first three are scaled. `dropout` is of the weights."""
    if isinstance(spans, Padded):
        return attend_padded(content_QNH, distance_QNH, segment_QN, kv_S2NH, r_RNH, spans, dropout)
    mixed_QNH: Tensor = _TileAttention.apply(  # type: ignore[no-untyped-call]
        content_QNH, distance_QNH, segment_QN, kv_S2NH, r_RNH, spans, dropout
    )
    return mixed_QNH


def attend_padded(
    content_QNH: Tensor,
    distance_QNH: Tensor,
    segment_QN: Tensor,
    kv_S2NH: Tensor,
    r_RNH: Tensor,
    padded: Padded,
    dropout: float,
) -> Tensor:
    """The same through torch's SDPA: any device and precision, at the price of the padding."""
    q_BNQH = content_QNH[padded.query_BQ].transpose(1, 2)
    k_BNKH, v_BNKH = kv_S2NH[padded.key_BK].permute(2, 0, 3, 1, 4).unbind()
    products_BNQR = torch.einsum("bqnh,rnh->bnqr", distance_QNH[padded.query_BQ], r_RNH)
    column_BNQK = padded.column_BQK[:, None].expand(-1, q_BNQH.shape[1], -1, -1)
    segment_BNQ1 = segment_QN[padded.query_BQ].transpose(1, 2)[..., None]
    bias_BNQK = products_BNQR.gather(-1, column_BNQK) + segment_BNQ1 * padded.differs_BQK[:, None]
    bias_BNQK = bias_BNQK.masked_fill(padded.hidden_BQK[:, None], -torch.inf)
    mixed_BNQH = F.scaled_dot_product_attention(
        q_BNQH, k_BNKH, v_BNKH, attn_mask=bias_BNQK.to(q_BNQH.dtype), dropout_p=dropout, scale=1.0
    )
    mixed_QNH = torch.zeros_like(content_QNH, dtype=mixed_BNQH.dtype)
    real_BQ = padded.real_BQ
    return mixed_QNH.index_copy(0, padded.query_BQ[real_BQ], mixed_BNQH.transpose(1, 2)[real_BQ])


class _TileAttention(torch.autograd.Function):
    """Tile by tile on a CPU; softmax P and dropped weights W are kept for the backward pass, in the streams' precision.

    Gradients of the scores as in attention.py: dS = W * dW - P * rowsum(dO * O). Tiles share keys and the table, so their
    gradients are sums over tiles; those are made in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        content_QNH: Tensor,
        distance_QNH: Tensor,
        segment_QN: Tensor,
        kv_S2NH: Tensor,
        r_RNH: Tensor,
        tiles: list[Tile],
        dropout: float,
    ) -> Tensor:
        ctx.tiles, ctx.kept = tiles, kept_share(dropout)
        mixed_QNH = torch.zeros_like(content_QNH)
        softmaxes, weights = [], []
        keeps = _keep_tiles(tiles, content_QNH.shape[1], dropout, content_QNH.dtype)
        with torch.autocast("cpu", enabled=False):
            for tile, keep_NQK in zip(tiles, keeps, strict=True):
                queries, keys = slice(*tile.queries), slice(*tile.keys)
                k_NHK, v_NKH = kv_S2NH[keys, 0].permute(1, 2, 0), kv_S2NH[keys, 1].transpose(0, 1)
                r_NHW = r_RNH[slice(*tile.window)].permute(1, 2, 0)
                product_NQW = torch.bmm(distance_QNH[queries].transpose(0, 1), r_NHW)
                bias_NQK = _shifted(product_NQW, tile)
                if tile.mask_QK is not None:
                    bias_NQK = bias_NQK + tile.mask_QK.to(bias_NQK.dtype)
                scores_NQK = torch.baddbmm(bias_NQK, content_QNH[queries].transpose(0, 1), k_NHK)
                if tile.differs_QK is not None:
                    segment_NQ1 = segment_QN[queries].t().unsqueeze(-1)
                    scores_NQK.addcmul_(segment_NQ1, tile.differs_QK.to(scores_NQK.dtype))
                softmaxes.append(torch.softmax(scores_NQK, -1))
                if keep_NQK is not None:
                    weights.append(torch.mul(softmaxes[-1], keep_NQK, out=scores_NQK))
                torch.bmm((weights or softmaxes)[-1], v_NKH, out=mixed_QNH[queries].transpose(0, 1))
            if weights:
                mixed_QNH.mul_(1 / ctx.kept)
        ctx.save_for_backward(
            content_QNH, distance_QNH, segment_QN, kv_S2NH, r_RNH, mixed_QNH, *softmaxes, *weights
        )
        return mixed_QNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_QNH: Tensor) -> tuple[Tensor | None, ...]:
        content_QNH, distance_QNH, segment_QN, kv_S2NH, r_RNH, mixed_QNH, *saved = ctx.saved_tensors
        softmaxes, weights = saved[: len(ctx.tiles)], saved[-len(ctx.tiles) :]  # the same without dropout
        by_content, by_distance, by_segment = (
            torch.zeros_like(x) for x in (content_QNH, distance_QNH, segment_QN)
        )
        by_kv, by_r = (_zeros_for_sums(x) for x in (kv_S2NH, r_RNH))
        with torch.autocast("cpu", enabled=False):
            row_QN1 = (grad_QNH * mixed_QNH).sum(-1, keepdim=True)
            if ctx.kept < 1:
                grad_QNH = grad_QNH * (1 / ctx.kept)
            for tile, softmax_NQK, weights_NQK in zip(ctx.tiles, softmaxes, weights, strict=True):
                queries, keys, window = slice(*tile.queries), slice(*tile.keys), slice(*tile.window)
                grad_NQH = grad_QNH[queries].transpose(0, 1)
                k_NKH, v_NHK = kv_S2NH[keys, 0].transpose(0, 1), kv_S2NH[keys, 1].permute(1, 2, 0)
                scores_NQK = torch.bmm(grad_NQH, v_NHK).mul_(weights_NQK)  # the gradient of the scores
                scores_NQK.addcmul_(softmax_NQK, row_QN1[queries].transpose(0, 1), value=-1)
                product_NQW = _shifted_back(scores_NQK, tile)
                torch.bmm(scores_NQK, k_NKH, out=by_content[queries].transpose(0, 1))
                r_NWH = r_RNH[window].transpose(0, 1)
                torch.bmm(product_NQW, r_NWH, out=by_distance[queries].transpose(0, 1))
                _add_product(by_kv[keys, 0], scores_NQK, content_QNH[queries])
                _add_product(by_kv[keys, 1], weights_NQK, grad_QNH[queries])
                _add_product(by_r[window], product_NQW, distance_QNH[queries])
                if tile.differs_QK is not None:
                    differs_QK = tile.differs_QK.to(scores_NQK.dtype)
                    by_segment[queries] = scores_NQK.mul_(differs_QK).sum(-1).t()
        grads = by_content, by_distance, by_segment, by_kv.to(kv_S2NH.dtype), by_r.to(r_RNH.dtype)
        return *grads, None, None


def _shifted(product_NQW: Tensor, tile: Tile) -> Tensor:
    """`N,Q,K` of the products with a window: the score of each query and key; a view where queries are neighbours."""
    heads, queries, width = product_NQW.shape
    if tile.column_QK is not None:
        return product_NQW.gather(-1, tile.column_QK.expand(heads, -1, -1))
    shape = (heads, queries, tile.keys[1] - tile.keys[0])
    return product_NQW.as_strided(shape, (queries * width, width - 1, 1), queries - 1)


def _shifted_back(scores_NQK: Tensor, tile: Tile) -> Tensor:
    """`N,Q,W`, zero where no score came from."""
    heads, queries, keys = scores_NQK.shape
    width = tile.window[1] - tile.window[0]
    product_NQW = scores_NQK.new_zeros(heads, queries, width)
    if tile.column_QK is not None:
        return product_NQW.scatter_(-1, tile.column_QK.expand(heads, -1, -1), scores_NQK)
    product_NQW.as_strided((heads, queries, keys), (queries * width, width - 1, 1), queries - 1).copy_(
        scores_NQK
    )
    return product_NQW


def _zeros_for_sums(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))


def _add_product(total_KNH: Tensor, a_NQK: Tensor, b_QNH: Tensor) -> None:
    """`total += a^T b` for each head."""
    a_NKQ, b_NQH, total_NKH = a_NQK.transpose(1, 2), b_QNH.transpose(0, 1), total_KNH.transpose(0, 1)
    if total_KNH.dtype == a_NQK.dtype:
        total_NKH.baddbmm_(a_NKQ, b_NQH)
    else:
        total_NKH.add_(torch.bmm(a_NKQ, b_NQH))


def _keep_tiles(
    tiles: list[Tile], heads: int, dropout: float, dtype: torch.dtype
) -> list[Tensor] | list[None]:
    if kept_share(dropout) == 1:
        return [None] * len(tiles)
    shapes = [(heads, t.queries[1] - t.queries[0], t.keys[1] - t.keys[0]) for t in tiles]
    areas = [n * q * k for n, q, k in shapes]
    keep = torch.split(keep_mask(sum(areas), dropout).to(dtype), areas)
    return [tile.view(shape) for tile, shape in zip(keep, shapes, strict=True)]


def sinusoids(distances_R: Tensor, hidden_size: int) -> Tensor:
    """`R,D`: sines, then cosines, of distances over wavelengths from 2 pi to 10,000 x 2 pi."""
    even = torch.arange(0, hidden_size, 2, dtype=torch.float32, device=distances_R.device)
    angle_RE = distances_R[:, None] * (1 / 10000 ** (even / hidden_size))
    return torch.cat([angle_RE.sin(), angle_RE.cos()], -1)
