"""Every optimizer against its formula, written out here tensor by tensor in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from training.loop import TrainConfig
from training.optim import Adagrad, AdamW, Lamb, Moments, StableAdamW, decay_groups

RATE, DECAY, MOMENTS = 0.05, 0.1, Moments(betas=(0.9, 0.98), eps=1e-6)
SHAPES = {"a.weight": (7, 5), "a.bias": (7,), "b.weight": (3, 7), "b.bias": (3,)}


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)


def gradients(step):
    """Of very different sizes, and a sudden jump at step 4."""
    noise = np.random.default_rng(step)
    scale = 100.0 if step == 4 else 1.0
    return {n: scale * noise.normal(size=s) * (0.01 if "bias" in n else 1.0) for n, s in SHAPES.items()}


def ours(optimizer, steps=6):
    model = TwoLayers()
    start = {n: p.detach().numpy().astype(np.float64) for n, p in model.named_parameters()}
    built = optimizer.build(decay_groups(model, DECAY), RATE, MOMENTS)
    for step in range(steps):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.tensor(gradients(step)[name], dtype=torch.float32)
        built.step()
    return start, {n: p.detach().numpy() for n, p in model.named_parameters()}


def by_formula(start, update, steps=6):
    """`update(x, g, t, memory, decay, matrix)` is what is subtracted from x, over the rate."""
    weights, memory = {n: x.copy() for n, x in start.items()}, {n: {} for n in start}
    for step in range(steps):
        for name, x in weights.items():
            decay = DECAY if x.ndim > 1 else 0.0
            x -= RATE * update(x, gradients(step)[name], step + 1, memory[name], decay)
    return weights


def averages(g, memory):
    b1, b2 = MOMENTS.betas
    memory["m"] = b1 * memory.get("m", 0.0) + (1 - b1) * g
    memory["v"] = b2 * memory.get("v", 0.0) + (1 - b2) * g**2
    return memory["m"], memory["v"]


def corrected(g, t, memory):
    m, v = averages(g, memory)
    return m / (1 - MOMENTS.betas[0] ** t), v / (1 - MOMENTS.betas[1] ** t)


def adamw(x, g, t, memory, decay):
    m, v = corrected(g, t, memory)
    return m / (np.sqrt(v) + MOMENTS.eps) + decay * x


def bert_adam(x, g, t, memory, decay):
    m, v = averages(g, memory)
    return m / (np.sqrt(v) + MOMENTS.eps) + decay * x


def lamb(x, g, t, memory, decay):
    r = adamw(x, g, t, memory, decay)
    return np.linalg.norm(x) / np.linalg.norm(r) * r


def albert_lamb(x, g, t, memory, decay):
    r = bert_adam(x, g, t, memory, decay)
    return np.linalg.norm(x) / np.linalg.norm(r) * r if x.ndim > 1 else r


def stable_adamw(x, g, t, memory, decay):
    m, v = corrected(g, t, memory)
    surprise = np.sqrt(np.mean(g**2 / np.maximum(v, MOMENTS.eps**2)))
    memory.setdefault("surprises", []).append(surprise)
    return (m / (np.sqrt(v) + MOMENTS.eps) + decay * x) / max(1.0, surprise)


def adagrad(x, g, t, memory, decay):
    memory["sum"] = memory.get("sum", 2.0) + g**2
    return g / np.sqrt(memory["sum"]) + decay * x


FORMULAS = [
    (AdamW(), adamw),
    (AdamW(bias_correction=False), bert_adam),
    (Lamb(), lamb),
    (Lamb(bias_correction=False, adapt_vectors=False), albert_lamb),
    (StableAdamW(), stable_adamw),
    (Adagrad(initial_accumulator=2.0), adagrad),
]


@pytest.mark.parametrize(("optimizer", "formula"), FORMULAS, ids=[f.__name__ for _, f in FORMULAS])
def test_an_optimizer_is_its_formula(optimizer, formula):
    start, end = ours(optimizer)
    expected = by_formula(start, formula)
    for name in SHAPES:
        np.testing.assert_allclose(end[name], expected[name], rtol=2e-4, atol=2e-6, err_msg=name)
    others = [by_formula(start, f) for _, f in FORMULAS if f is not formula]
    for (
        other
    ) in others:  # the formulas differ by far more than the tolerance, so the comparison tells them apart
        assert any(not np.allclose(end[n], other[n], rtol=2e-3, atol=2e-5) for n in SHAPES)


def test_adagrad_without_decay_is_torchs_with_the_same_start():
    models = [TwoLayers(), TwoLayers()]
    models[1].load_state_dict(models[0].state_dict())
    built = [
        Adagrad(initial_accumulator=1.0).build(decay_groups(models[0], 0.0), RATE, MOMENTS),
        torch.optim.Adagrad(models[1].parameters(), lr=RATE, initial_accumulator_value=1.0, eps=0.0),
    ]
    for step in range(5):
        for model, optimizer in zip(models, built, strict=True):
            for name, parameter in model.named_parameters():
                parameter.grad = torch.tensor(gradients(step)[name], dtype=torch.float32)
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_trust_ratio_of_nothing_is_one():
    model = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(model.weight)
    built = Lamb().build(decay_groups(model, DECAY), RATE, MOMENTS)
    model.weight.grad = torch.ones(2, 3)
    built.step()
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 3), -RATE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TrainConfig(steps=1, betas=(0.9, 1.0)),
            r"betas \[0.9, 1.0\]: each is the share an average keeps",
        ),
        (lambda: TrainConfig(steps=1, eps=0.0), "eps 0.0: it keeps a division finite"),
        (
            lambda: TrainConfig(steps=1, weight_decay=-0.1),
            "weight_decay -0.1: it shrinks weights; give 0 or more",
        ),
        (lambda: Adagrad(initial_accumulator=0.0), "initial_accumulator 0.0: .*; give a positive number"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
