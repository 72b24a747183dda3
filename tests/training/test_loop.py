import math
import time

import pytest
import torch

from infra.folder_local import LocalFolder
from infra.report import SILENT
from infra.storage import StoreUnreachable
from tests.training.tiny import CarryingModel, FragileModel, TinyModel, batch_at, poisoned
from training.budget import Budget
from training.checkpoint import LEASE, Checkpoints, Keep
from training.guard import Diverged, Guard
from training.held_out import HeldOut, losses_on
from training.loop import TrainConfig, train
from training.memory import OutOfMemory
from training.optim import Lamb
from training.schedule import WarmupStableDecay, factor_at

SMALL = {"steps": 20, "batch_size": 8, "warmup_steps": 3, "checkpoint_every_steps": 4, "precision": "float32"}


class Killed(BaseException):
    pass


def dying_at(step, *, batch_size=8, batches=batch_at):
    """Batches that end the run when step `step` asks for its samples."""

    def batch(numbers):
        if numbers.start >= step * batch_size:
            raise Killed
        return batches(numbers)

    return batch


IDENTITY = {"TrainConfig": {"steps": 20}}


def run(folder=None, batches=batch_at, kind=TinyModel, **changes):
    trained, model = run_whole(folder, batches, kind, **changes)
    return trained.history, model


def run_whole(
    folder=None, batches=batch_at, kind=TinyModel, *, held_out=None, keep=None, report=SILENT, **changes
):
    config = TrainConfig(**{**SMALL, **changes})
    model = kind()
    kept = {} if keep is None else {"keep": keep}
    checkpoints = None if folder is None else Checkpoints(folder, IDENTITY, **kept)
    return train(model, batches, config, checkpoints=checkpoints, held_out=held_out, report=report), model


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


class Heard(type(SILENT)):
    def __init__(self):
        self.notes, self.progressed, self.measured = [], [], []

    def note(self, message):
        self.notes.append(message)

    def progress(self, done, total, unit, **figures):
        self.progressed.append((done, total, unit, figures))

    def metrics(self, step, values):
        self.measured.append((step, dict(values)))


def contents(folder):
    return {name: folder.read(name) for name in folder.names() if name != LEASE}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"zero_stage": 2, "micro_batch_size": 4},
        {"zero_stage": 3, "micro_batch_size": 4},
        {"kind": CarryingModel, "micro_batch_size": 2},
        {"kind": CarryingModel, "micro_batch_size": 4, "zero_stage": 1, "optimizer": Lamb()},
    ],
    ids=["plain", "bfloat16", "zero2", "zero3", "carrying", "carrying lamb zero1"],
)
@pytest.mark.parametrize("killed_at", [2, 10, 19])
def test_a_killed_run_goes_on_bitwise(tmp_path, changes, killed_at):
    whole, broken = LocalFolder(tmp_path / "whole"), LocalFolder(tmp_path / "broken")
    expected, model = run(whole, **changes)
    with pytest.raises(Killed):
        run(broken, dying_at(killed_at), **changes)
    history, resumed = run(broken, **changes)
    assert history.columns == expected.columns
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))
    assert contents(broken) == contents(whole)


def test_a_finished_run_does_nothing_again(tmp_path):
    folder = LocalFolder(tmp_path)
    expected, model = run(folder)
    history, again = run(folder, dying_at(0))
    assert history.columns == expected.columns
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_it_learns():
    history, _ = run(steps=150, learning_rate=3e-2)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["masked_lm_accuracy"][-1] > history["masked_lm_accuracy"][0]


def test_every_step_is_in_the_history_with_each_part_and_the_rate_used():
    history, _ = run(learning_rate=4e-3)
    table = history.to_table()
    assert table["step"].to_pylist() == list(range(20))
    assert set(table.column_names) > {
        "loss",
        "masked_lm",
        "next_sentence",
        "learning_rate",
        "tokens",
        "gradient_norm",
    }
    assert history["learning_rate"][:5] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3 * 16 / 17])
    for row in table.to_pylist():
        assert row["loss"] == pytest.approx(row["masked_lm"] + row["next_sentence"])


def test_samples_are_read_once_each_in_order():
    seen = []

    def batches(numbers):
        seen.extend(numbers)
        return batch_at(numbers)

    run(batches=batches, micro_batch_size=2)
    assert seen == list(range(160))


def test_a_loss_that_is_never_finite_stops_with_the_evidence(tmp_path):
    folder = LocalFolder(tmp_path)
    with pytest.raises(
        Diverged,
        match=r"step \d+ \(samples \d+ to \d+\): .*(nan|inf) at learning rate .*lower learning_rate",
    ) as info:
        run(folder, learning_rate=1e30, clip_norm=None)
    assert "\n" not in str(info.value)
    for name in folder.folders():
        kept = Checkpoints(folder, {"TrainConfig": {"steps": 20}}).load(int(name[5:]))
        assert all(t.isfinite().all() for t in kept.state.weights.values())


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tmp_path):
    heard = Heard()
    trained, model = run_whole(batches=poisoned(range(41, 42), math.nan), kind=FragileModel, report=heard)
    assert trained.history["skipped"] == [float(step == 5) for step in range(20)]
    assert math.isnan(trained.history["loss"][5])
    assert trained.measured["skipped_steps"] == 1
    assert trained.measured["roll_backs"] == 0
    assert all(p.isfinite().all() for p in model.parameters())
    [note] = heard.notes
    assert note.startswith("step 5 changed nothing: loss nan, masked_lm nan")
    without, _ = run(kind=FragileModel)
    assert without["loss"][:5] == trained.history["loss"][:5]
    assert without["loss"][6] != trained.history["loss"][6]


def test_a_loss_six_sigmas_off_is_skipped_unless_that_is_switched_off():
    settings = {"batches": poisoned(range(120, 121), 10.0), "kind": FragileModel}
    history, _ = run(**settings, guard=Guard(window_steps=8))
    assert [step for step, skipped in enumerate(history["skipped"]) if skipped] == [15]
    history, _ = run(**settings, guard=Guard(window_steps=8, sigmas=None))
    assert sum(history["skipped"]) == 0


TROUBLE = {  # steps 10, 11 and 12 of 20; the checkpoint before is that of step 8
    "batches": poisoned(range(80, 104), math.inf),
    "kind": FragileModel,
    "guard": Guard(patience_steps=3),
}


def test_repeated_trouble_goes_back_once_and_on_behind_it(tmp_path):
    seen, heard = [], Heard()

    def batches(numbers):
        seen.append(numbers.start)
        return TROUBLE["batches"](numbers)

    trained, model = run_whole(LocalFolder(tmp_path), **{**TROUBLE, "batches": batches}, report=heard)
    assert trained.roll_backs == 1
    assert trained.passed_over_samples == 5 * 8
    assert len(trained.history) == 20
    assert sum(trained.history["skipped"]) == 0
    assert all(p.isfinite().all() for p in model.parameters())
    assert seen == [8 * step for step in range(25)]  # thirteen steps, then twelve from step 8 on
    assert "the run goes back to its checkpoint at step 8, and on with sample 104" in heard.notes[-1]


@pytest.mark.parametrize("killed_at", [11, 12, 13, 14, 19, 22])
def test_a_run_killed_near_its_trouble_ends_as_if_it_had_not_been(tmp_path, killed_at):
    whole, broken = LocalFolder(tmp_path / "whole"), LocalFolder(tmp_path / "broken")
    expected, model = run(whole, **TROUBLE)
    dying = dying_at(killed_at, batches=TROUBLE["batches"])
    with pytest.raises(Killed):
        run(broken, **{**TROUBLE, "batches": dying})
    history, resumed = run(broken, **TROUBLE)
    assert history.columns == expected.columns
    assert same_weights(model, resumed)
    assert contents(broken) == contents(whole)


def test_trouble_after_going_back_stops_with_the_evidence(tmp_path):
    settings = {**TROUBLE, "batches": poisoned(range(80, 1000), math.inf)}
    with pytest.raises(
        Diverged,
        match=r"step 10 \(samples 120 to 127\): loss inf.*3 steps in a row.*the loss before them was \d.*"
        r"it had gone back to a checkpoint for the same reason already; lower learning_rate",
    ):
        run(LocalFolder(tmp_path), **settings)
    with pytest.raises(Diverged, match="there is no checkpoint from before to go back to"):
        run(**settings)


def test_two_runs_on_one_folder_are_refused_in_a_sentence(tmp_path):
    folder = LocalFolder(tmp_path)
    with (
        Checkpoints(folder, IDENTITY).claimed(SILENT),
        pytest.raises(
            ValueError, match=r"is where process \d+ on .* keeps its checkpoints at this moment; wait"
        ),
    ):
        run(folder)
    history, _ = run(folder)
    assert len(history) == 20


class Flaky(LocalFolder):
    """Its store answers nothing while `away`."""

    away = False

    def writer(self, name):
        if Flaky.away:
            raise StoreUnreachable("the store does not answer")
        return super().writer(name)

    def child(self, *parts):
        return Flaky(LocalFolder.child(self, *parts).path)


def test_a_store_that_is_away_for_a_while_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("training.saver.RETRY_SECONDS", 0.01)
    whole, flaky, heard = LocalFolder(tmp_path / "whole"), Flaky(tmp_path / "flaky"), Heard()

    def batches(numbers):
        Flaky.away = 40 <= numbers.start < 120  # steps 5 to 14: the checkpoints at 8 and 12
        return batch_at(numbers)

    expected, model = run(whole)
    trained, unhindered = run_whole(flaky, batches, report=heard)
    assert trained.history.columns == expected.columns
    assert same_weights(model, unhindered)
    assert any("could not be written (the store does not answer); training goes on" in n for n in heard.notes)
    assert any("is written; the store is back" in n for n in heard.notes)
    last = "step-00000020"
    assert {n: b for n, b in contents(flaky).items() if last in n} == {
        n: b for n, b in contents(whole).items() if last in n
    }


def test_a_store_that_never_comes_back_is_the_error_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("training.saver.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("training.saver.PATIENCE_SECONDS", 0.1)
    steps = []

    def batches(numbers):
        steps.append(numbers.start)
        while numbers.start == 40 and not Checkpoints(LocalFolder(tmp_path), IDENTITY).steps():
            time.sleep(0.01)
        Flaky.away = numbers.start >= 40
        return batch_at(numbers)

    try:
        with pytest.raises(StoreUnreachable, match="the store does not answer"):
            run(Flaky(tmp_path), batches)
    finally:
        Flaky.away = False
    assert steps[-1] == 19 * 8
    assert Checkpoints(LocalFolder(tmp_path), IDENTITY).newest() == 4


def held_out_on(numbers, every_steps):
    return HeldOut(measure=losses_on([batch_at(numbers)]), every_steps=every_steps)


def test_held_out_loss_is_measured_on_the_way_and_changes_nothing(tmp_path):
    whole, broken = LocalFolder(tmp_path / "whole"), LocalFolder(tmp_path / "broken")
    expected, _ = run()
    heard, held_out = Heard(), held_out_on(range(1000, 1032), 4)
    trained, model = run_whole(whole, held_out=held_out, report=heard, learning_rate=3e-2)
    plain, _ = run(learning_rate=3e-2)
    assert trained.history.columns == plain.columns != expected.columns
    assert [row["step"] for row in trained.held_out] == [4, 8, 12, 16, 20]
    assert trained.held_out[-1]["loss"] < trained.held_out[0]["loss"]
    assert trained.held_out[-1]["loss"] == float(model.eval()(batch_at(range(1000, 1032))).total.detach())
    assert {"held_out_loss", "held_out_masked_lm_accuracy"} <= heard.measured[-2][1].keys()
    with pytest.raises(Killed):
        run_whole(broken, dying_at(10), held_out=held_out, learning_rate=3e-2)
    resumed, _ = run_whole(broken, held_out=held_out, learning_rate=3e-2)
    assert resumed.held_out == trained.held_out
    assert contents(broken) == contents(whole)


def test_the_best_checkpoint_is_kept_beside_the_last_and_the_regular_ones(tmp_path):
    losses = {4: 3.0, 8: 1.0, 12: 2.0, 16: 2.5, 20: 2.2}
    calls = iter(losses.values())
    held_out = HeldOut(measure=lambda model: {"loss": next(calls)}, every_steps=4)
    folder = LocalFolder(tmp_path)
    run_whole(folder, held_out=held_out, keep=Keep(last=2, best=True))
    assert Checkpoints(folder, IDENTITY).steps() == [20, 16, 8]


class Clock:
    """A second passes with every look."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        self.seconds += 1
        return self.seconds


PLATEAU = {"steps": 500, "decay": WarmupStableDecay(cooldown_share=0.25), "budget": Budget(seconds=40.0)}


def test_a_budget_of_time_ends_with_a_whole_cooldown(tmp_path, monkeypatch):
    monkeypatch.setattr("training.budget.now", Clock())
    trained, _ = run_whole(LocalFolder(tmp_path), **PLATEAU)
    rates = [rate / 1e-3 for rate in trained.history["learning_rate"]]
    plateau = sum(rate == 1 for rate in rates)
    assert 20 < plateau < 30  # of about 30 looks, some of them for checkpoints
    steps = len(rates)
    assert steps == pytest.approx((plateau + 3) / 0.75, abs=2)
    assert rates == [factor_at(s, steps=steps, warmup_steps=3, decay=PLATEAU["decay"]) for s in range(steps)]
    assert Checkpoints(LocalFolder(tmp_path), {"TrainConfig": {"steps": 20}}).steps()[0] == steps


@pytest.mark.parametrize("killed_at", [10, 30])
def test_a_killed_run_keeps_to_the_time_it_has_used_and_to_the_end_it_decided_on(
    tmp_path, monkeypatch, killed_at
):
    monkeypatch.setattr("training.budget.now", Clock())
    with pytest.raises(Killed):
        run(LocalFolder(tmp_path), dying_at(killed_at), **PLATEAU)
    checkpoints = Checkpoints(LocalFolder(tmp_path), IDENTITY)
    before = checkpoints.load(checkpoints.newest()).progress
    monkeypatch.setattr("training.budget.now", Clock())
    trained, _ = run_whole(LocalFolder(tmp_path), **PLATEAU)
    after = checkpoints.load(checkpoints.newest()).progress
    assert before.seconds > 0.7 * before.step
    assert after.seconds - before.seconds == pytest.approx(after.step - before.step, rel=0.4)
    assert len(trained.history) == after.step == after.steps < 60
    assert (before.steps is None) == (killed_at == 10)
    assert before.steps in (None, after.steps)


def test_an_out_of_memory_says_what_to_try():
    class Large(TinyModel):
        def forward(self, batch):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    with pytest.raises(
        OutOfMemory,
        match=r"a micro-batch of 8 sequences does not fit .*20.00 GiB.\); set micro_batch_size to 4, which keeps 2 times less",
    ):
        run(kind=Large)


def test_progress_ends_at_the_last_step_and_says_what_it_costs(tmp_path):
    heard = Heard()
    trained, _ = run_whole(LocalFolder(tmp_path), report=heard)
    done, total, unit, figures = heard.progressed[-1]
    assert (done, total, unit) == (20, 20, "steps")
    assert figures["tokens_per_second"] > 0
    assert 0 <= figures["loader_wait_share"] < 1
    assert figures["checkpoint_pause_seconds"] > 0
    assert heard.measured[-1][0] == 20
    assert heard.measured[-1][1]["loss"] == figures["loss"] == trained.history["loss"][-1]
    costs = trained.measured
    assert costs["tokens_per_second"] == pytest.approx(
        sum(trained.history["tokens"]) / costs["training_seconds"]
    )
    assert costs["matrix_flops_per_second"] == pytest.approx(
        6 * (16 * 16 + 2 * 16) * costs["tokens_per_second"]
    )
    assert 0 < costs["longest_checkpoint_pause_seconds"] <= costs["checkpoint_pause_seconds"]
    assert costs["checkpoint_pause_seconds"] + costs["loader_wait_seconds"] < costs["training_seconds"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps 0: it is a count; give 1 or more"),
        ({"warmup_steps": 20}, "warmup_steps 20: warm-up must end before step 20, the last"),
        ({"micro_batch_size": 3}, "micro_batch_size 3: it must divide batch_size 8"),
        ({"learning_rate": -1.0}, "learning_rate -1.0: it must be positive"),
        ({"clip_norm": 0.0}, "clip_norm 0.0: it must be positive; use None not to clip"),
        ({"precision": "float16"}, "precision 'float16': choose 'float32' or 'bfloat16'"),
        ({"zero_stage": 4}, "zero_stage 4: stages 0, 1, 2 and 3 are supported"),
        (
            {"zero_stage": 3, "optimizer": Lamb()},
            "zero_stage 3: this optimizer needs figures of whole tensors",
        ),
        ({"budget": Budget(seconds=9.0)}, "budget: .* a decay of type Linear cannot wait for; set decay to"),
        ({"offload": True}, "offload: only ZeRO can keep the optimizer's state on the CPU; set zero_stage"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**SMALL, **changes})
