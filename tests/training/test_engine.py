import pytest
import torch

from tests.training.tiny import TinyModel, batch_at
from training.checkpoint import check_fits
from training.engine import Engine, noise_key
from training.optim import adamw, decay_groups


def optimizer(model, **changes):
    # eps is large, so that a rounding error in a gradient near zero does not become a whole step of Adam
    settings = {"learning_rate": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.999), "eps": 1e-3}
    return adamw(model, **{**settings, **changes})


def run(steps=4, *, batch=8, pieces=1, dropout=0.1, model=None, **settings):
    """Losses and final weights of a few steps."""
    model = model or TinyModel(dropout=dropout)
    size = batch // pieces
    with Engine(model, optimizer(model), micro_batches=pieces, **settings) as engine:
        figures = [
            engine.step(
                [batch_at(range(s * batch + q * size, s * batch + (q + 1) * size)) for q in engine.share],
                learning_rate=1e-2,
                noise=lambda q, s=s: noise_key(0, s, q),
            )
            for s in range(steps)
        ]
        state = engine.state()
    return figures, state


def losses(figures):
    return [f["loss"] for f in figures]


def bare_loop(steps=4, batch=8, clip_norm=None):
    """The same training in ten lines of torch."""
    model = TinyModel(dropout=0.1).train()
    adam = optimizer(model)
    out = []
    for s in range(steps):
        torch.manual_seed(noise_key(0, s, 0))
        loss = model(batch_at(range(s * batch, (s + 1) * batch))).total
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        adam.step()
        adam.zero_grad()
        out.append(loss.item())
    return out, dict(model.named_parameters())


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_one_process_is_bitwise_a_bare_torch_loop(clip_norm):
    expected, weights = bare_loop(clip_norm=clip_norm)
    figures, (ours, _, updates) = run(clip_norm=clip_norm)
    assert losses(figures) == pytest.approx(expected, abs=1e-6)
    assert all(torch.equal(ours[name], weights[name]) for name in weights)
    assert updates == 4


@pytest.mark.parametrize("stage", [1, 2])
def test_zero_stages_learn_the_same(stage):
    expected, _ = run(clip_norm=0.5)
    figures, _ = run(clip_norm=0.5, zero_stage=stage)
    assert losses(figures) == pytest.approx(losses(expected), abs=1e-5)
    norms = [[f["gradient_norm"] for f in figs] for figs in (figures, expected)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("pieces", [2, 4])
def test_pieces_with_uneven_targets_weigh_by_their_targets(pieces, stage):
    expected, (whole, *_) = run(dropout=0.0)
    figures, (cut, *_) = run(dropout=0.0, pieces=pieces, zero_stage=stage)
    for name in ("loss", "masked_lm", "next_sentence", "masked_lm_accuracy", "gradient_norm", "tokens"):
        assert [f[name] for f in figures] == pytest.approx([f[name] for f in expected], rel=1e-4), name
    assert all(torch.allclose(whole[name], cut[name], atol=1e-5) for name in whole)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_restored_engine_goes_on_bitwise_and_its_state_comes_back_unchanged(stage):
    undisturbed, end = run(steps=6, zero_stage=stage, clip_norm=1.0)
    model = TinyModel()
    first, state = run(steps=3, zero_stage=stage, clip_norm=1.0, model=model)
    state = (
        {k: v.clone() for k, v in state[0].items()},
        {k: v.clone() for k, v in state[1].items()},
        state[2],
    )
    model = TinyModel()
    with Engine(model, optimizer(model), zero_stage=stage, clip_norm=1.0) as engine:
        engine.restore(*state)
        again = engine.state()
        for i in (0, 1):
            assert again[i].keys() == state[i].keys()
            assert all(torch.equal(again[i][name], state[i][name]) for name in state[i])
        rest = [
            engine.step(
                [batch_at(range(s * 8, s * 8 + 8))],
                learning_rate=1e-2,
                noise=lambda q, s=s: noise_key(0, s, q),
            )
            for s in range(3, 6)
        ]
        assert losses(first) + losses(rest) == losses(undisturbed)
        final = engine.state()
    assert final[2] == 6
    for i in (0, 1):
        assert all(torch.equal(final[i][name], end[i][name]) for name in end[i])


def test_a_state_written_at_one_stage_continues_at_another():
    _, state = run(steps=3, zero_stage=2)
    expected, _ = run(steps=4)
    model = TinyModel()
    with Engine(model, optimizer(model)) as engine:
        engine.restore(*state)
        figures = engine.step(
            [batch_at(range(24, 32))],
            learning_rate=1e-2,
            noise=lambda q: noise_key(0, 3, q),
        )
    assert figures["loss"] == pytest.approx(expected[3]["loss"], abs=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights_and_moments():
    exact, _ = run()
    figures, (weights, moments, _) = run(precision="bfloat16")
    assert losses(figures) != losses(exact)
    assert losses(figures) == pytest.approx(losses(exact), rel=2e-2)
    assert {t.dtype for t in (*weights.values(), *moments.values())} == {torch.float32}


def test_dropout_depends_on_seed_step_and_piece_and_on_nothing_before():
    torch.rand(17)
    once, _ = run()
    torch.rand(3)
    twice, _ = run()
    assert once == twice
    assert len({noise_key(a, b, c) for a in range(3) for b in range(3) for c in range(3)}) == 27


def test_layer_norm_and_biases_do_not_decay():
    model = TinyModel()
    decayed, free = decay_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"token.weight", "inner.weight", "pair.weight"}
    assert {names[id(p)] for p in free["params"]} == {"norm.weight", "norm.bias", "inner.bias", "pair.bias"}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_weights_of_another_model_are_refused_naming_the_tensor():
    weights = dict(TinyModel(size=16).named_parameters())
    with pytest.raises(
        ValueError, match=r"tensor 'inner.bias' is \(16,\) in the weights and \(8,\) in the model"
    ):
        check_fits(TinyModel(size=8), weights)
    del weights["pair.bias"]
    with pytest.raises(ValueError, match=r"the weights have no tensor 'pair.bias'"):
        check_fits(TinyModel(size=16), weights)


def test_no_compiler_and_no_network_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    run(steps=1)
    assert not (tmp_path / "extensions").exists()
