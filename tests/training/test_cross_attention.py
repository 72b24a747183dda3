"""Attention from one flat stream to another: equal to SDPA on each pair of sequences alone, blind across borders, exact
in its gradients.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layers.attention import TILE_TOKENS
from training.models.layers.cross_attention import (
    CrossAttention,
    CrossSpans,
    attend_across,
    attend_across_padded,
    find_cross_spans,
)

Lengths = list[int]
MIXES = {
    "uneven": ([5, 3, 9, 70, 2, 1, 40, 30, 64, 65], [4, 8, 9, 50, 1, 7, 70, 2, 64, 66]),
    "short looks at long": ([1, 2, 3, 1], [100, 64, 65, 1]),
    "long looks at short": ([100, 64, 65, 1], [1, 2, 3, 1]),
    "one token": ([1], [1]),
    "one pair": ([70], [30]),
    "a tile reaches over queries that see nothing of it": ([3, 40, 5], [60, 2, 64]),
}


def spans_of(lengths: Lengths, there: Lengths) -> CrossSpans:
    edges, edges_there = (torch.tensor([0, *side]).cumsum(0).int() for side in (lengths, there))
    return find_cross_spans(edges, max(lengths), edges_there, max(there))


def random_sides(lengths: Lengths, there: Lengths, *, size: int = 8, dtype=torch.float64) -> list[Tensor]:
    """Queries, and keys with values, of two heads."""
    noise = torch.Generator().manual_seed(1)
    shapes = (sum(lengths), 2, size), (sum(there), 2, 2, size)
    return [torch.randn(*shape, dtype=dtype, generator=noise).requires_grad_() for shape in shapes]


def each_alone(q_TNH: Tensor, kv_S2NH: Tensor, lengths: Lengths, there: Lengths) -> Tensor:
    rows = []
    for q, kv in zip(q_TNH.split(lengths), kv_S2NH.split(there), strict=True):
        k, v = kv.permute(1, 2, 0, 3).unbind()
        rows.append(F.scaled_dot_product_attention(q.transpose(0, 1), k, v).transpose(0, 1))
    return torch.cat(rows)


@pytest.mark.parametrize(("lengths", "there"), MIXES.values(), ids=MIXES)
@pytest.mark.parametrize(
    "ours", [attend_across, lambda *sides: attend_across_padded(*sides, 0.0)], ids=["tiles", "padded"]
)
def test_the_streams_equal_each_pair_alone(lengths, there, ours):
    weight = torch.randn(sum(lengths), 2, 8, dtype=torch.float64)
    sides, alone = random_sides(lengths, there), random_sides(lengths, there)
    mixed, expected = ours(*sides, spans_of(lengths, there)), each_alone(*alone, lengths, there)
    torch.testing.assert_close(mixed, expected, atol=1e-13, rtol=1e-12)
    (mixed * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, other in zip(sides, alone, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-13, rtol=1e-12)


def test_gradients_are_exact_with_dropout_too():
    lengths, there = [3, 2, 4], [2, 5, 1]

    def mixed(*sides):
        torch.manual_seed(3)  # the same mask at every call
        return attend_across(*sides, spans_of(lengths, there), 0.4)

    assert torch.autograd.gradcheck(mixed, random_sides(lengths, there, size=4))


def test_no_gradient_crosses_a_border():
    lengths, there = MIXES["uneven"]
    edges, edges_there = (torch.tensor([0, *side]).cumsum(0).tolist() for side in (lengths, there))
    for (begin, end), (from_there, to_there) in zip(pairwise(edges), pairwise(edges_there), strict=True):
        q, kv = random_sides(lengths, there)
        attend_across(q, kv, spans_of(lengths, there), 0.1)[begin:end].square().sum().backward()
        assert kv.grad[from_there:to_there].abs().sum() > 0
        assert torch.count_nonzero(kv.grad[:from_there]) == torch.count_nonzero(kv.grad[to_there:]) == 0
        assert torch.count_nonzero(q.grad[:begin]) == torch.count_nonzero(q.grad[end:]) == 0


@pytest.mark.parametrize("filler", [(0, 9), (9, 0), (90, 90)], ids=["memory's", "queries'", "both"])
def test_filler_is_not_attended(filler):
    lengths, there = MIXES["uneven"]
    plain, filled = random_sides(lengths, there), random_sides(lengths, there)
    longer = [
        torch.cat([side, side.new_ones(more, *side.shape[1:])])
        for side, more in zip(filled, filler, strict=True)
    ]
    expected, mixed = (attend_across(*sides, spans_of(lengths, there)) for sides in (plain, longer))
    tokens = sum(lengths)
    torch.testing.assert_close(mixed[:tokens], expected, atol=1e-13, rtol=1e-12)
    assert torch.count_nonzero(mixed[tokens:]) == 0
    expected.square().sum().backward()
    mixed.square().sum().backward()
    for mine, other in zip(filled, plain, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-12, rtol=1e-10)


def test_bfloat16_is_within_twice_the_error_of_torchs_attention_which_computes_in_float32():
    mix = [100, 20, 30, 7], [80, 30, 30, 9]
    exact = random_sides(*mix, size=64, dtype=torch.float32)
    each_alone(*exact, *mix).square().sum().backward()
    errors = {}
    for name, attention in (
        ("ours", lambda *sides: attend_across(*sides, spans_of(*mix))),
        ("torch", lambda *sides: each_alone(*sides, *mix)),
    ):
        rounded = [side.detach().bfloat16().requires_grad_() for side in exact]
        mixed = attention(*rounded)
        assert mixed.dtype == torch.bfloat16
        mixed.float().square().sum().backward()
        errors[name] = [
            (side.grad - other.grad).abs().mean() for side, other in zip(rounded, exact, strict=True)
        ]
    for ours, torchs in zip(errors["ours"], errors["torch"], strict=True):
        assert ours < 2 * torchs


def test_short_neighbours_share_a_tile_while_both_sides_are_short():
    spans = spans_of([10, 20, 30, 10, 3, 3], [20, 30, 20, 64, 70, 1])
    assert spans.tiles == [
        (0, 32, 0, 64),
        (30, 62, 50, 82),
        (60, 70, 70, 134),
        (70, 76, 134, 205),
        (73, 76, 204, 205),
    ]
    assert [mask is None for mask in spans.tile_masks] == [False, False, True, False, True]
    assert all(end - begin <= TILE_TOKENS for begin, end, _, _ in spans.tiles)


def test_the_layer_equals_torchs_multi_head_attention_with_the_same_weights():
    ours, theirs = CrossAttention(24, 3, 0.0), nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
        for mine, other in zip(
            (ours.query, ours.key_value),
            zip(theirs.in_proj_weight.split([24, 48]), theirs.in_proj_bias.split([24, 48]), strict=True),
            strict=True,
        ):
            mine.weight.copy_(other[0])
            mine.bias.copy_(other[1])
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    lengths, there = [7, 2, 70], [3, 90, 20]
    x, memory = torch.randn(sum(lengths), 24), torch.randn(sum(there), 24)
    mixed = ours(x, memory, spans_of(lengths, there)).split(lengths)
    for one, other, mine in zip(x.split(lengths), memory.split(there), mixed, strict=True):
        torch.testing.assert_close(mine, theirs(one, other, other)[0], atol=1e-5, rtol=1e-5)


def test_pairs_that_do_not_fit_get_one_sentence():
    with pytest.raises(ValueError, match="2 sequences look at 3"):
        spans_of([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="a sequence of 2 tokens looks at 0: neither may be empty"):
        spans_of([1, 2], [1, 0])
