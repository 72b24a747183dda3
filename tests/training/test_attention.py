"""Attention on the flat stream: equal to SDPA on each sequence alone, blind across borders, exact in its
gradients.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.layers.attention import TILE_TOKENS, attend, attend_padded, find_spans
from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.dropout import add_dropped, drop, keep_mask, kept_share
from training.models.layers.shapes import round_up

MIXES = [[5, 3, 9, 70, 2, 1, 40, 30, 64, 65], [128], [1], [TILE_TOKENS, 1, TILE_TOKENS - 1, 1]]


def spans_of(lengths: list[int], *, causal: bool = False):
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return find_spans(cu_seqlens, max(lengths), causal=causal)


def random_qkv(
    lengths: list[int], *, heads: int = 2, size: int = 8, dtype: torch.dtype = torch.float32
) -> Tensor:
    return torch.randn(
        sum(lengths), 3, heads, size, dtype=dtype, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()


def each_alone(qkv_T3NH: Tensor, lengths: list[int], *, causal: bool = False) -> Tensor:
    rows = []
    for part in qkv_T3NH.split(lengths):
        q, k, v = part.permute(1, 2, 0, 3).unbind()
        rows.append(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(0, 1))
    return torch.cat(rows)


@pytest.mark.parametrize("lengths", MIXES)
@pytest.mark.parametrize(
    "ours", [attend, lambda qkv, spans: attend_padded(qkv, spans, 0.0)], ids=["tiles", "padded"]
)
@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "left only"])
def test_the_stream_equals_each_sequence_alone(lengths, ours, causal, monkeypatch):
    """Exactly, in float64; in float32 it is as near to that as torch's own attention on each sequence."""
    monkeypatch.setattr("training.models.layers.attention.QUERY_BLOCK", 32)
    weight = torch.randn(sum(lengths), 2, 8, dtype=torch.float64)

    def outcome(attention, dtype):
        qkv = random_qkv(lengths, dtype=torch.float64).detach().to(dtype).requires_grad_()
        mixed = attention(qkv)
        (mixed * weight.to(dtype)).sum().backward()
        return torch.cat([mixed.detach().flatten(), qkv.grad.flatten()]).double()

    def alone(qkv):
        return each_alone(qkv, lengths, causal=causal)

    def stream(qkv):
        return ours(qkv, spans_of(lengths, causal=causal))

    exact = outcome(alone, torch.float64)

    torch.testing.assert_close(outcome(stream, torch.float64), exact, atol=1e-13, rtol=1e-12)
    error = (outcome(stream, torch.float32) - exact).abs().mean()
    assert error <= 2 * (outcome(alone, torch.float32) - exact).abs().mean()


@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "left only"])
def test_gradients_are_exact_with_dropout_too(causal, monkeypatch):
    monkeypatch.setattr("training.models.layers.attention.QUERY_BLOCK", 4)
    lengths = [3, 2, 4]

    def mixed(qkv):
        torch.manual_seed(3)  # the same mask at every call
        return attend(qkv, spans_of(lengths, causal=causal), 0.4)

    assert torch.autograd.gradcheck(mixed, random_qkv(lengths, size=4, dtype=torch.float64))


def test_no_gradient_crosses_a_border():
    lengths = [5, 3, 70, 9, 2]
    edges = torch.tensor([0, *lengths]).cumsum(0).tolist()
    for begin, end in pairwise(edges):
        qkv = random_qkv(lengths)
        attend(qkv, spans_of(lengths), 0.1)[begin:end].square().sum().backward()
        assert qkv.grad[begin:end].abs().sum() > 0
        assert torch.count_nonzero(qkv.grad[:begin]) == torch.count_nonzero(qkv.grad[end:]) == 0


def test_no_gradient_comes_from_the_right(monkeypatch):
    monkeypatch.setattr("training.models.layers.attention.QUERY_BLOCK", 16)
    lengths = [5, 70, 3, 9]
    for begin, end in pairwise(torch.tensor([0, *lengths]).cumsum(0).tolist()):
        for last in {begin, (begin + end) // 2, end - 1}:
            qkv = random_qkv(lengths)
            attend(qkv, spans_of(lengths, causal=True), 0.1)[last].square().sum().backward()
            assert torch.count_nonzero(qkv.grad[:begin]) == torch.count_nonzero(qkv.grad[last + 1 :]) == 0
            own = qkv.grad[begin : last + 1]
            assert torch.count_nonzero(own[:-1, 0]) == 0  # only the last query is asked
            assert (own[:, 2].abs().sum((1, 2)) > 0).sum() >= len(
                own
            ) // 2  # dropout hides some of the values


def test_a_long_causal_sequence_is_a_tile_for_each_block_of_its_queries():
    spans = spans_of([600, 70, 10, 20], causal=True)
    assert spans.tiles == [(512, 640), (256, 512), (0, 256), (600, 680), (670, 700)]
    assert spans.key_begins == [0, 0, 0, 600, 670]
    assert [tuple(mask.shape) for mask in spans.tile_masks][:3] == [(128, 640), (256, 512), (256, 256)]


def test_bfloat16_is_within_twice_the_error_of_torchs_attention_which_computes_in_float32():
    lengths = [100, 20, 30, 7]
    exact = each_alone(qkv := random_qkv(lengths, size=64), lengths)
    exact.square().sum().backward()
    errors = {}
    for name, attention in (
        ("ours", lambda x: attend(x, spans_of(lengths))),
        ("torch", lambda x: each_alone(x, lengths)),
    ):
        rounded = random_qkv(lengths, size=64).detach().bfloat16().requires_grad_()
        mixed = attention(rounded)
        assert mixed.dtype == torch.bfloat16
        mixed.float().square().sum().backward()
        errors[name] = ((mixed - exact).abs().mean(), (rounded.grad - qkv.grad).abs().mean())
    assert errors["ours"][0] < 2 * errors["torch"][0]
    assert errors["ours"][1] < 2 * errors["torch"][1]


def test_long_sequences_have_a_tile_of_their_own_and_short_neighbours_share_one():
    spans = spans_of([70, 10, 20, 30, 20, 64, 1])
    assert spans.tiles == [(0, 80), (70, 134), (130, 162), (150, 214), (214, 215)]
    assert [mask is None for mask in spans.tile_masks] == [False, False, False, True, True]


def test_tiles_and_rows_have_few_lengths():
    assert {round_up(n, per_octave=4, least=16) for n in range(65, 129)} == {80, 96, 112, 128}
    assert {round_up(n, per_octave=4, least=16) for n in range(257, 513)} == {320, 384, 448, 512}
    rows = {round_up(n, per_octave=8, least=16) for n in range(1025, 2049)}
    assert rows == set(range(1152, 2049, 128))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(share):
    torch.manual_seed(0)
    kept = keep_mask(1_000_001, share).double().mean()
    assert abs(kept - kept_share(share)) < 4 * (share * (1 - share) / 1e6) ** 0.5
    assert abs(kept_share(share) - (1 - share)) <= 2**-17
    x = torch.full((1000, 100), 2.0)
    assert drop(x, share).unique().tolist() == pytest.approx([0.0, 2 / kept_share(share)])


def test_dropout_is_a_function_of_torchs_generator_and_its_gradient_has_the_same_mask():
    x, residual = torch.randn(50, 7).requires_grad_(), torch.randn(50, 7).requires_grad_()
    torch.manual_seed(5)
    first = add_dropped(residual, x, 0.3)
    second = add_dropped(residual, x, 0.3)
    torch.manual_seed(5)
    again = add_dropped(residual, x, 0.3)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    first.sum().backward()
    torch.testing.assert_close(first - residual, x * x.grad)
    assert torch.equal(residual.grad, torch.ones_like(residual))
    assert torch.equal(drop(x, 0.0), x)
    assert torch.equal(add_dropped(residual, x, 0.0), residual + x)


@pytest.mark.parametrize("chunk_scores", [1 << 25, 200], ids=["one chunk", "several"])
@pytest.mark.parametrize("targets", [0, 1, 23])
def test_cross_entropy_without_scores_equals_torchs(targets, chunk_scores, monkeypatch):
    monkeypatch.setattr("training.models.layers.cross_entropy.CHUNK_SCORES", chunk_scores)
    monkeypatch.setattr("training.models.layers.cross_entropy.BLOCK_SCORES", 150)
    noise = torch.Generator().manual_seed(2)
    x, embedding, bias = (torch.randn(*shape, generator=noise) for shape in ((targets, 8), (50, 8), (50,)))
    target = torch.randint(50, (targets,), generator=noise)
    ours = [tensor.clone().requires_grad_() for tensor in (x, embedding, bias)]
    theirs = [tensor.clone().requires_grad_() for tensor in (x, embedding, bias)]
    loss, correct = vocabulary_cross_entropy(*ours, target)
    scores = F.linear(theirs[0], theirs[1], theirs[2])
    expected = F.cross_entropy(scores, target, reduction="sum") / max(1, targets)
    torch.testing.assert_close(loss, expected)
    assert correct == (scores.argmax(-1) == target).sum()
    (loss * 3).backward()
    (expected * 3).backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(vocabulary_cross_entropy(*ours, target)[0], expected)


def test_equal_scores_are_not_counted_as_right():
    flat = torch.zeros(4, 3), torch.zeros(5, 3), torch.zeros(5)
    assert vocabulary_cross_entropy(*flat, torch.tensor([0, 1, 2, 3]))[1] == 1  # argmax takes the first
