"""The sampled softmax: its draws, its estimate of the whole, and its loss word by word."""

import math

import pytest
import torch
import torch.nn.functional as F

from training.models.initialize import generator_for
from training.models.layers.sampled_softmax import SampledSoftmax, draw_candidates

D, V = 8, 300


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny draws: two threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(candidates: int | None) -> SampledSoftmax:
    softmax = SampledSoftmax(hidden_size=D, vocab_size=V, num_candidates=candidates)
    softmax.first_weights(lambda name: generator_for(0, name))
    with torch.no_grad():
        softmax.bias.normal_(generator=generator_for(0, "bias"))
    return softmax


def targets(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    frequent = (torch.rand(2, count) ** 4 * V).long()
    return torch.randn(2, count, D), frequent


def test_candidates_are_distinct_ascending_and_a_function_of_torchs_generator():
    torch.manual_seed(5)
    first, second = draw_candidates(V, 50), draw_candidates(V, 50)
    torch.manual_seed(5)
    again = draw_candidates(V, 50)
    assert torch.equal(first.words_S, again.words_S)
    assert first.draws == again.draws >= 50
    assert not torch.equal(first.words_S, second.words_S)
    assert (first.words_S.diff() > 0).all()
    assert first.words_S[0] >= 0
    assert first.words_S[-1] < V


def test_a_word_is_drawn_as_often_as_its_expected_count_says():
    rounds, drawn, expected = 1500, torch.zeros(V), torch.zeros(V)
    for _ in range(rounds):
        candidates = draw_candidates(V, 40)
        drawn[candidates.words_S] += 1
        expected += candidates.log_expected(torch.arange(V)).exp()
    drawn, expected = drawn / rounds, expected / rounds
    deviation = (expected * (1 - expected) / rounds).sqrt()
    assert ((drawn - expected).abs() < 5 * deviation + 0.01).all()
    assert drawn[0] > 0.95 > 0.05 > drawn[-1]  # frequent words nearly always, rare ones seldom
    chance = math.log(2) / math.log(V + 1)  # of the first word in one draw
    one = draw_candidates(V, 2)
    assert one.log_expected(torch.tensor(0)).exp() == pytest.approx(1 - (1 - chance) ** one.draws)


def test_the_corrected_sum_over_candidates_estimates_the_sum_over_the_vocabulary():
    softmax, (x_KMD, _) = made(40), targets(3)
    scores_V = softmax(x_KMD[0]).detach()[0]
    whole = scores_V.exp().sum()
    estimates = []
    for _ in range(1500):
        candidates = draw_candidates(V, 40)
        words = candidates.words_S
        estimates.append((scores_V[words] - candidates.log_expected(words)).exp().sum() / whole)
    found = torch.stack(estimates)
    assert abs(found.mean() - 1) < 4 * found.std() / 1500**0.5 + 0.01
    uncorrected = scores_V[draw_candidates(V, 40).words_S].exp().sum() / whole
    assert uncorrected < 0.5


def test_the_loss_equals_the_plain_formula_for_every_target():
    softmax, (x_KMD, target_KM) = made(60).train(), targets()
    torch.manual_seed(3)
    found = softmax.losses(x_KMD, target_KM)
    torch.manual_seed(3)
    hits = 0
    for (loss, correct), x_MD, target_M in zip(found, x_KMD, target_KM, strict=True):
        candidates, losses, best = draw_candidates(V, 60), [], 0
        for x_D, target in zip(x_MD, target_M.tolist(), strict=True):
            scores_V = softmax(x_D)
            others = [word for word in candidates.words_S.tolist() if word != target]
            hits += len(others) < 60
            row = scores_V[[target, *others]] - candidates.log_expected(torch.tensor([target, *others]))
            losses.append(F.cross_entropy(row[None], torch.tensor([0])))
            best += int(scores_V[target] > scores_V[others].max())
        torch.testing.assert_close(loss, torch.stack(losses).mean())
        assert correct == best
    assert 0 < hits < 80


def test_gradients_equal_the_plain_formula():
    softmax, (x_KMD, target_KM) = made(60).train().double(), targets(12)
    x_KMD = x_KMD.double().requires_grad_()
    torch.manual_seed(3)
    total = torch.stack([loss for loss, _ in softmax.losses(x_KMD, target_KM)]).sum()
    ours = torch.autograd.grad(total, [x_KMD, softmax.weight, softmax.bias])
    torch.manual_seed(3)
    rows = []
    for x_MD, target_M in zip(x_KMD, target_KM, strict=True):
        candidates = draw_candidates(V, 60)
        adjusted_MV = softmax(x_MD) - candidates.log_expected(torch.arange(V))
        seen_MV = torch.zeros(len(target_M), V, dtype=torch.bool)
        seen_MV[:, candidates.words_S] = True
        seen_MV.scatter_(1, target_M[:, None], True)
        rows.append(F.cross_entropy(adjusted_MV.masked_fill(~seen_MV, -torch.inf), target_M))
    theirs = torch.autograd.grad(torch.stack(rows).sum(), [x_KMD, softmax.weight, softmax.bias])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)  # Q is kept in float32


def test_the_more_candidates_the_nearer_to_the_full_softmax():
    x_KMD, target_KM = targets(200)
    exact = F.cross_entropy(made(None)(x_KMD[0]), target_KM[0]).item()
    errors = []
    for candidates in (20, 80, 290):
        softmax = made(candidates).train()
        found = [softmax.losses(x_KMD[:1], target_KM[:1])[0][0].item() for _ in range(20)]
        errors.append(abs(sum(found) / len(found) - exact))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03 < 3 < exact


@pytest.mark.parametrize(("candidates", "training"), [(20, False), (None, True), (None, False)])
def test_evaluation_and_no_candidates_mean_the_whole_vocabulary(candidates, training):
    softmax, (x_KMD, target_KM) = made(candidates).train(training), targets()
    for (loss, correct), x_MD, target_M in zip(
        softmax.losses(x_KMD, target_KM), x_KMD, target_KM, strict=True
    ):
        logits_MV = softmax(x_MD)
        torch.testing.assert_close(loss, F.cross_entropy(logits_MV, target_M))
        assert correct == (logits_MV.argmax(1) == target_M).sum()


def test_without_targets_the_loss_is_zero():
    softmax = made(20).train()
    for loss, correct in softmax.losses(torch.empty(2, 0, D), torch.empty(2, 0, dtype=torch.int64)):
        assert loss == correct == 0
