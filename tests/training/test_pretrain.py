import os
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import safetensors.torch

from infra.config import plain
from infra.materialize import run_step
from infra.storage import open_folder
from tests.training import prepared
from training import launch
from training.launch import Place, TrainingFailed
from training.loop import TrainConfig
from training.models.bert import BertConfig, BertForPretraining
from training.pretrain import MeasureConfig, PretrainConfig, pretrain, samples

MODEL = BertConfig(
    vocab_size=8000, hidden_size=16, num_layers=1, num_heads=2, feed_forward_size=32, max_seq_len=48
)
TRAIN = TrainConfig(steps=12, batch_size=8, micro_batch_size=4, checkpoint_every_steps=3, learning_rate=1e-2)
CONFIG = PretrainConfig(model=MODEL, train=TRAIN)


class Killer:
    """A report that kills the training process (kill -9) the first times `at` steps are reported."""

    def __init__(self, deaths=1):
        self.deaths, self.notes = deaths, []

    def note(self, message):
        self.notes.append(message)

    def progress(self, done, total, unit, **figures):
        if self.deaths:
            self.deaths -= 1
            for pid in children():
                os.kill(pid, signal.SIGKILL)

    def metrics(self, step, values):
        pass


def children():
    own = [int(p) for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()]
    return [pid for pid in own if b"training.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def train_in(store, config=CONFIG, report=None, **objective):
    inputs = {
        "instances": (prepared.instances(store, **objective),),
        "vocabulary": prepared.vocabulary(store),
    }
    with launch.at(Place(threads=1)):
        return run_step(pretrain, config, store=store, **inputs, **({"report": report} if report else {}))


def test_a_killed_trainer_leaves_the_same_artifact_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.REPORT_SECONDS", 0.0)
    steps = 100  # so many that a killer on a busy machine is not too late
    long = replace(CONFIG, train=replace(TRAIN, steps=steps))
    whole = train_in(open_folder(tmp_path / "whole"), long)
    killer = Killer(deaths=2)
    killed = train_in(open_folder(tmp_path / "killed"), long, report=killer)
    assert killer.deaths == 0
    assert any("killed by SIGKILL" in note for note in killer.notes)
    assert killed.manifest.content == whole.manifest.content
    assert whole.names() == ["ledger.json", "losses.arrow", "model.json", "model.safetensors"]
    assert whole.read_json("model.json") == plain(MODEL)
    assert whole.counts["steps"] == steps
    assert whole.counts["sequences"] == 8 * steps
    assert whole.manifest.made["measured"]["tokens_per_second"] > 0
    losses = pa.ipc.open_file(whole.path("losses.arrow")).read_all()
    assert losses["step"].to_pylist() == list(range(steps))
    assert sum(losses["tokens"].to_pylist()) == whole.counts["tokens"]
    weights = safetensors.torch.load_file(whole.path("model.safetensors"))
    assert weights.keys() == {name for name, _ in BertForPretraining(MODEL).named_parameters()}


def test_samples_are_a_function_of_their_numbers(store):
    batch_at = samples(CONFIG, (prepared.instances(store),)).batch
    whole, part = batch_at(range(8)), batch_at(range(4, 8))
    start = int(whole.tokens.cu_seqlens[4])
    assert whole.tokens.tokens_T[start:].equal(part.tokens.tokens_T)
    assert whole.pair_label_B[4:].equal(part.pair_label_B)
    later = samples(CONFIG, (prepared.instances(store),)).batch(range(4, 8))
    assert part.target_tokens_M.equal(later.target_tokens_M)


def test_held_out_losses_are_measured_on_the_way(store):
    config = replace(CONFIG, measure=MeasureConfig(every_steps=5, sequences=9, batch_size=4))
    made = prepared.instances(store)
    inputs = {"instances": (made,), "vocabulary": prepared.vocabulary(store)}
    with launch.at(Place(threads=1)):
        measured = run_step(pretrain, config, store=store, unseen=(made,), **inputs)
        plain_run = run_step(pretrain, CONFIG, store=store, unseen=None, **inputs)
    rows = measured.read_json("held_out.json")
    assert [row["step"] for row in rows] == [5, 10, 12]
    assert all(row["loss"] == pytest.approx(row["masked_lm"] + row["next_sentence"]) for row in rows)
    assert measured.read("model.safetensors") == plain_run.read("model.safetensors")
    assert measured.read("losses.arrow") == plain_run.read("losses.arrow")


def test_without_next_sentence_there_is_no_such_loss(store):
    artifact = train_in(store, next_sentence=False)
    losses = pa.ipc.open_file(artifact.path("losses.arrow")).read_all()
    assert "masked_lm" in losses.column_names
    assert "next_sentence" not in losses.column_names


def test_a_model_that_does_not_fit_its_input_is_refused_in_a_sentence(store):
    narrow = PretrainConfig(model=BertConfig(**{**vars(MODEL), "vocab_size": 100}), train=TRAIN)
    with pytest.raises(ValueError, match=r"model.vocab_size 100: with this vocabulary it is 8000"):
        train_in(store, narrow)
    short = PretrainConfig(model=BertConfig(**{**vars(MODEL), "max_seq_len": 32}), train=TRAIN)
    with pytest.raises(
        TrainingFailed, match=r"model.max_seq_len 32: the longest instance has 4\d tokens; give"
    ):
        train_in(store, short)
