import math

import pytest
import torch

from infra.folder_local import LocalFolder
from infra.report import SILENT
from tests.training.tiny import TinyModel, batch_at
from training.checkpoint import Checkpoints
from training.loop import NotFinite, TrainConfig, train

SMALL = {"steps": 20, "batch_size": 8, "warmup_steps": 3, "checkpoint_every_steps": 4, "precision": "float32"}


class Killed(BaseException):
    pass


def dying_at(step, *, batch_size=8):
    """Batches that end the run when step `step` asks for its samples."""

    def batch(numbers):
        if numbers.start >= step * batch_size:
            raise Killed
        return batch_at(numbers)

    return batch


def run(folder=None, batches=batch_at, **changes):
    config = TrainConfig(**{**SMALL, **changes})
    model = TinyModel()
    checkpoints = None if folder is None else Checkpoints(folder, {"TrainConfig": {"steps": config.steps}})
    trained = train(model, batches, config, checkpoints=checkpoints)
    return trained.history, model


def contents(folder):
    return {name: folder.read(name) for name in folder.names()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"micro_batch_size": 2}, {"precision": "bfloat16"}, {"zero_stage": 2, "micro_batch_size": 4}],
    ids=["plain", "pieces", "bfloat16", "zero2"],
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


def test_a_loss_that_is_not_finite_stops_with_the_evidence(tmp_path):
    folder = LocalFolder(tmp_path)
    with pytest.raises(
        NotFinite,
        match=r"step \d+ \(samples \d+ to \d+\): .*(nan|inf) at learning rate .*lower learning_rate",
    ) as info:
        run(folder, learning_rate=1e30, clip_norm=None)
    assert "\n" not in str(info.value)
    for name in folder.folders():
        kept = Checkpoints(folder, {"TrainConfig": {"steps": 20}}).load(int(name[5:]))
        assert all(math.isfinite(loss) for loss in kept.history["loss"])


def test_progress_ends_at_the_last_step_and_carries_loss_and_speed():
    events = []

    class Listening(type(SILENT)):
        def progress(self, done, total, unit, **figures):
            events.append((done, total, unit, figures))

        def metrics(self, step, values):
            events.append((step, dict(values)))

    train(TinyModel(), batch_at, TrainConfig(**SMALL), report=Listening())
    done, total, unit, figures = events[-2]
    assert (done, total, unit) == (20, 20, "steps")
    assert figures["tokens_per_second"] > 0
    assert events[-1][0] == 20
    assert events[-1][1]["loss"] == figures["loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps 0: it is a count; give 1 or more"),
        ({"warmup_steps": 20}, "warmup_steps 20: warm-up must end before step 20, the last"),
        ({"micro_batch_size": 3}, "micro_batch_size 3: it must divide batch_size 8"),
        ({"learning_rate": -1.0}, "learning_rate -1.0: it must be positive"),
        ({"clip_norm": 0.0}, "clip_norm 0.0: it must be positive; use None not to clip"),
        ({"precision": "float16"}, "precision 'float16': choose 'float32' or 'bfloat16'"),
        ({"zero_stage": 3}, "zero_stage 3: stages 0, 1 and 2 are supported"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**SMALL, **changes})
