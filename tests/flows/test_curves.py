"""Curves of several runs are compared by what they consumed."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from flows import cli
from flows.curves import read_curve, smooth
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder


@dataclass(frozen=True, kw_only=True)
class TrainedConfig:
    steps: int
    rate: float = 0.0


def trained(config: TrainedConfig, *, out: Output) -> Counts:
    """What `pretrain` leaves: losses.arrow and a rate."""
    table = pa.table({"loss": np.linspace(9, 2, config.steps), "tokens": np.full(config.steps, 100.0)})
    with (
        out.writer("losses.arrow") as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as file,
    ):
        file.write_table(table)
    if config.rate:
        out.measure(tokens_per_second=config.rate)
    return {"steps": config.steps, "sequences": 4 * config.steps}


def run(store: Folder, steps: int, rate: float = 0.0) -> Artifact:
    return run_step(trained, TrainedConfig(steps=steps, rate=rate), store=store)


def test_every_cost_counts_what_was_consumed_after_a_step(store):
    curve = read_curve(run(store, 10, rate=50.0), "loss")
    assert curve.by("samples").tolist() == [4 * n for n in range(1, 11)]
    assert curve.by("tokens")[-1] == 1000
    assert curve.by("seconds")[-1] == 20


def test_a_smoothed_curve_keeps_its_end_and_its_mean():
    values = np.random.default_rng(0).random(1000)
    places, means = smooth(values, np.arange(1, 1001.0), points=20)
    assert len(places) == len(means) == 20
    assert places[-1] == 1000
    assert means.mean() == pytest.approx(values.mean())


def test_what_cannot_be_compared_is_said_in_a_sentence(store):
    with pytest.raises(ValueError, match="no measured rate"):
        read_curve(run(store, 10), "loss").by("seconds")
    with pytest.raises(ValueError, match="has no figure 'los'; it has loss, tokens"):
        read_curve(run(store, 10), "los")


def test_the_command_prints_a_table_and_draws_a_picture(tmp_path, capsys, store):
    names = [run(store, steps).address for steps in (10, 200)]
    picture = tmp_path / "both.png"
    assert cli.main(["compare", *names, "--store", str(tmp_path / "store"), "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert all(name[: len("trained/") + 12] in out for name in names)
    assert "20,000" in out
