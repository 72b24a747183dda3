import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training import jobs
from tests.training.ranks import Ranks
from tests.training.tiny import CarryingModel, TinyModel, batch_at
from training.checkpoint import check_fits
from training.engine import Engine, noise_key
from training.losses import Losses
from training.optim import Adagrad, AdamW, Lamb, StableAdamW, adamw, decay_groups


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
    figures, end = run(clip_norm=clip_norm)
    assert losses(figures) == pytest.approx(expected, abs=1e-6)
    assert all(torch.equal(end.weights[name], weights[name]) for name in weights)
    assert end.updates == 4


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
    expected, whole = run(dropout=0.0)
    figures, cut = run(dropout=0.0, pieces=pieces, zero_stage=stage)
    for name in ("loss", "masked_lm", "next_sentence", "masked_lm_accuracy", "gradient_norm", "tokens"):
        assert [f[name] for f in figures] == pytest.approx([f[name] for f in expected], rel=1e-4), name
    assert all(torch.allclose(whole.weights[n], cut.weights[n], atol=1e-5) for n in whole.weights)


def equal(a, b):
    """Whether two states are the same, bit for bit."""
    pairs = [(a.weights, b.weights), (a.moments, b.moments), (a.carried, b.carried)]
    return a.updates == b.updates and all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x) for x, y in pairs
    )


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_restored_engine_goes_on_bitwise_and_its_state_comes_back_unchanged(stage):
    undisturbed, end = run(steps=6, zero_stage=stage, clip_norm=1.0)
    first, state = run(steps=3, zero_stage=stage, clip_norm=1.0)
    model = TinyModel()
    with Engine(model, optimizer(model), zero_stage=stage, clip_norm=1.0) as engine:
        engine.restore(state)
        assert equal(engine.state(), state)
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
    assert final.updates == 6
    assert equal(final, end)


def test_a_state_written_at_one_stage_continues_at_another():
    _, state = run(steps=3, zero_stage=2)
    expected, _ = run(steps=4)
    model = TinyModel()
    with Engine(model, optimizer(model)) as engine:
        engine.restore(state)
        figures = engine.step(
            [batch_at(range(24, 32))],
            learning_rate=1e-2,
            noise=lambda q: noise_key(0, 3, q),
        )
    assert figures["loss"] == pytest.approx(expected[3]["loss"], abs=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights_and_moments():
    exact, _ = run()
    figures, end = run(precision="bfloat16")
    assert losses(figures) != losses(exact)
    assert losses(figures) == pytest.approx(losses(exact), rel=2e-2)
    assert {t.dtype for t in (*end.weights.values(), *end.moments.values())} == {torch.float32}


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


OPTIMIZERS = [AdamW(), AdamW(bias_correction=False), Lamb(), StableAdamW(), Adagrad()]
CASES = [(o, {"zero_stage": 2, "clip_norm": 1.0}) for o in OPTIMIZERS]
CASES += [(o, {"zero_stage": z, "clip_norm": 1.0}) for o, z in ((AdamW(), 0), (Lamb(), 0), (Lamb(), 1))]
CASES += [(AdamW(), {"zero_stage": 3, "clip_norm": 1.0, "size": 15})]  # odd sizes, so slices are padded
CASES += [(AdamW(), {"zero_stage": z, "offload": True}) for z in (2, 3)]
CARRYING = [(AdamW(), {"zero_stage": z, "carrying": True}) for z in (0, 2)]


@pytest.fixture(scope="module")
def two_ranks():
    ranks = Ranks(2)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def on_two(two_ranks):
    return two_ranks(jobs.resumed_runs, CASES + CARRYING)


def close(a, b, tolerance=1e-5):
    return all(torch.allclose(a.weights[n], b.weights[n], atol=tolerance) for n in a.weights)


def test_two_ranks_resume_bitwise_with_every_optimizer_at_every_stage(on_two):
    for (figures, end), (again, end_again), _ in on_two[0]:
        assert again == figures
        assert equal(end_again, end)
    for (figures, end), _, _ in on_two[1]:
        assert end is None  # rank 0 alone holds a state
        assert len(figures) == 4
    assert [run[0][0] for run in on_two[0]] == [run[0][0] for run in on_two[1]]


def test_two_ranks_learn_what_one_learns_and_go_on_from_each_other(on_two):
    for (optimizer, settings), ((figures, end), _, middle) in zip(CASES + CARRYING, on_two[0], strict=True):
        alone, alone_end = jobs.engine_steps(optimizer, range(4), **settings)
        assert losses(figures) == pytest.approx(losses(alone), abs=2e-5), (optimizer, settings)
        assert close(end, alone_end, 2e-5), (optimizer, settings)
        rest, last = jobs.engine_steps(optimizer, range(2, 4), middle, **settings)
        assert losses(rest) == pytest.approx(losses(alone)[2:], abs=2e-5), (optimizer, settings)
        assert close(last, alone_end, 2e-5), (optimizer, settings)
        assert last.updates == 4


def test_whole_tensors_are_whole_at_every_stage():
    """LAMB and StableAdamW scale by figures of whole tensors, which ZeRO cuts into pieces."""
    for optimizer in (Lamb(), StableAdamW()):
        _, end = jobs.engine_steps(optimizer, range(4))
        for stage in (1, 2):
            _, cut = jobs.engine_steps(optimizer, range(4), zero_stage=stage)
            assert close(cut, end, 1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("stage", [0, 2])
def test_one_process_resumes_bitwise_with_every_optimizer(optimizer, stage):
    figures, end = jobs.engine_steps(optimizer, range(4), zero_stage=stage)
    first, middle = jobs.engine_steps(optimizer, range(2), zero_stage=stage)
    rest, end_again = jobs.engine_steps(optimizer, range(2, 4), middle, zero_stage=stage)
    assert first + rest == figures
    assert equal(end_again, end)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("pieces", [1, 4])
def test_a_dropped_step_leaves_everything_as_it_was(stage, pieces):
    settings = {"zero_stage": stage, "pieces": pieces, "clip_norm": 0.5, "carrying": True}
    _, before = jobs.engine_steps(AdamW(), range(3), **settings)
    _, after = jobs.engine_steps(AdamW(), range(4), dropped=[3], **settings)
    assert equal(after, before)
    assert after.updates == 3
    _, skipped = jobs.engine_steps(AdamW(), [0, 1, 2, 3, 4, 5], dropped=[3], **settings)
    _, never_seen = jobs.engine_steps(AdamW(), [0, 1, 2, 4, 5], **settings)
    assert equal(skipped, never_seen)


def test_what_a_model_carries_comes_back_to_the_same_piece():
    seen = {}

    class Watched(CarryingModel):
        def forward(self, batch):
            result = super().forward(batch)
            seen[int(batch.target_tokens_M.sum()), len(seen)] = batch.carried, result.carried
            return result

    model = Watched()
    with Engine(model, optimizer(model), micro_batches=2) as engine:
        for s in range(3):
            engine.step(
                [batch_at(range(s * 8 + 4 * q, s * 8 + 4 * q + 4)) for q in (0, 1)],
                learning_rate=1e-2,
                noise=lambda q: q,
            )
        state = engine.state()
    given, returned = zip(*seen.values(), strict=True)
    assert given[:2] == ((), ())
    for call in range(2, 6):
        assert all(torch.equal(a, b) for a, b in zip(given[call], returned[call - 2], strict=True))
    assert not torch.equal(given[2][0], given[3][0])
    assert state.carried.keys() == {"0/0", "0/1", "1/0", "1/1"}
    assert int(state.carried["0/1"]) == 3
    assert torch.equal(state.carried["1/0"], returned[-1][0])


def test_a_model_that_does_not_read_in_order_is_handed_nothing():
    _, state = jobs.engine_steps(AdamW(), range(2))
    assert state.carried == {}


@pytest.mark.parametrize("stage", [0, 2])
def test_a_state_is_a_copy_that_training_does_not_write_to(stage):
    model = CarryingModel()
    with Engine(model, optimizer(model), zero_stage=stage) as engine:
        pieces = [batch_at(range(8))]
        engine.step(pieces, learning_rate=1e-2, noise=lambda q: q)
        first, kept = engine.state(), copy.deepcopy(engine.state())
        engine.step(pieces, learning_rate=1e-2, noise=lambda q: q)
        assert equal(first, kept)
        assert not equal(engine.state(), kept)


class BlockModel(TinyModel):
    """Two blocks with dropout of their own, and a matrix that another module reads (the tied head of a language model)."""

    def __init__(self, dropout=0.1):
        super().__init__(dropout=dropout)
        with torch.random.fork_rng():
            torch.manual_seed(8)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout(dropout)) for _ in range(2)
            )
        self.ran = 0
        for block in self.blocks:
            block.register_forward_hook(self.count)

    def count(self, *_):
        self.ran += 1

    def forward(self, batch):
        x_TD = self.token(batch.tokens.tokens_T)
        for block in self.blocks:
            x_TD = x_TD + block(x_TD)
        logits_MV = x_TD[batch.target_index_M] @ self.token.weight.T
        logits_B2 = self.pair(x_TD[batch.tokens.cu_seqlens[:-1].long()])
        parts = {
            "masked_lm": F.cross_entropy(logits_MV.float(), batch.target_tokens_M),
            "next_sentence": F.cross_entropy(logits_B2.float(), batch.next_sentence_B),
        }
        zero = torch.zeros((), dtype=torch.int64)
        counts = {"masked_lm_correct": zero, "next_sentence_correct": zero}
        return Losses(total=parts["masked_lm"] + parts["next_sentence"], parts=parts, counts=counts)


@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recomputed_activations_are_the_same_bit_for_bit(stage, precision):
    plain, again = BlockModel(), BlockModel()
    expected, end = run(model=plain, zero_stage=stage, precision=precision)
    figures, end_again = run(model=again, zero_stage=stage, precision=precision, recompute=True)
    assert figures == expected
    assert equal(end_again, end)
    assert plain.ran == 8
    assert "forward" not in vars(again.blocks[0])
    with pytest.raises(ValueError, match="recompute: TinyModel keeps no blocks in a ModuleList"):
        run(recompute=True)


@pytest.mark.parametrize("small_stay_whole", [True, False])
def test_stage_3_learns_the_same_and_resumes_bitwise(small_stay_whole, monkeypatch):
    if not small_stay_whole:
        monkeypatch.setattr("training.engine.PERSISTENT_VALUES", 0)
    settings = {"clip_norm": 0.5, "pieces": 2}
    expected, whole = run(model=BlockModel(), **settings)
    model = BlockModel()
    figures, end = run(model=model, zero_stage=3, **settings)
    assert losses(figures) == pytest.approx(losses(expected), abs=1e-5)
    assert [f["gradient_norm"] for f in figures] == pytest.approx(
        [f["gradient_norm"] for f in expected], rel=1e-4
    )
    assert close(end, whole)
    assert end.updates == 4
    # the model is whole again, and can be used
    assert all(torch.equal(p, end.weights[n]) for n, p in model.named_parameters())
    assert model(batch_at(range(4))).total.isfinite()
    _, middle = run(2, model=BlockModel(), zero_stage=3, **settings)
    for stage, tolerance in ((3, 0.0), (2, 1e-5), (0, 1e-5)):
        model = BlockModel()
        with Engine(model, optimizer(model), micro_batches=2, clip_norm=0.5, zero_stage=stage) as engine:
            engine.restore(middle)
            assert equal(engine.state(), middle)
            for s in (2, 3):
                pieces = [batch_at(range(s * 8 + 4 * q, s * 8 + 4 * q + 4)) for q in (0, 1)]
                engine.step(pieces, learning_rate=1e-2, noise=lambda q, s=s: noise_key(0, s, q))
            assert close(engine.state(), end, tolerance)
