"""Fine-tuning on made-up texts whose class can be read off one word."""

import statistics
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from corpus.wordpiece.files import SPECIAL_TOKENS as SPECIAL
from corpus.wordpiece.files import vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.config import plain
from infra.materialize import run_step
from infra.output import Output
from infra.storage import open_folder
from tests.training.test_pretrain import Killer
from training import launch
from training.checkpoint import save_tensors
from training.evaluate import EvaluateConfig, evaluate
from training.finetune import EpochsConfig, FinetuneConfig, finetune
from training.launch import Place
from training.models.bert import BertConfig
from training.models.family import Family
from training.models.gpt2 import Gpt2Config
from training.saved import read_model
from training.tasks.classify import BertForClassification, ClassifyConfig

LABELS = ["one", "two", "three"]
WORDS = [*LABELS, *"abcdefghij"]
SHAPE = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "feed_forward_size": 32, "max_seq_len": 32}
MODEL = BertConfig(
    vocab_size=len(SPECIAL) + len(WORDS),
    initializer_std=0.1,
    **SHAPE,
)
CONFIG = FinetuneConfig(
    task=ClassifyConfig(num_labels=3, max_seq_len=16),
    model=MODEL,
    train=EpochsConfig(epochs=8, batch_size=8, learning_rate=2e-2, precision="float32"),
    seeds=(5, 3),
)


def make_vocabulary(config: None, *, out: Output) -> Counts:
    for name, data in vocabulary_files([*SPECIAL, *WORDS], lowercase=True).items():
        out.write(name, data)
    return {}


def make_examples(config: dict[str, int], *, out: Output) -> Counts:
    for split, count in config.items():
        noise = np.random.default_rng(len(split))
        labels = noise.integers(0, 3, count)
        texts = [
            " ".join([*noise.choice(list("abcdefghij"), noise.integers(1, 5)), LABELS[k]]) for k in labels
        ]
        table = pa.table({"text": pa.array(texts, pa.large_string()), "label": pa.array(labels, pa.int32())})
        with out.writer(f"{split}.parquet") as path:
            pq.write_table(table, path)
    out.write_json("labels.json", LABELS)
    return {}


def make_pretrained(config: Family, *, vocabulary: Artifact, out: Output) -> Counts:
    model = config.network(seed=9)
    with out.writer("model.safetensors") as path:
        save_tensors(dict(model.named_parameters()), path)
    out.write_json("model.json", plain(config))
    return {}


def inputs(store) -> dict[str, Artifact]:
    sizes = {"train": 120, "dev": 30, "test": 40}
    return {
        "examples": run_step(make_examples, sizes, store=store),
        "vocabulary": run_step(make_vocabulary, None, store=store),
    }


def tuned(store, config=CONFIG, pretrained=None, report=None) -> Artifact:
    settings = {"report": report} if report else {}
    with launch.at(Place(threads=1)):
        return run_step(finetune, config, store=store, pretrained=pretrained, **inputs(store), **settings)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    store = open_folder(tmp_path_factory.mktemp("shared"))
    return store, tuned(store)


def test_it_learns_and_its_scores_agree_with_its_predictions(shared):
    _, artifact = shared
    scores = artifact.read_json("scores.json")
    assert [s["seed"] for s in scores["seeds"]] == [5, 3]
    assert scores["mean"]["test_accuracy"] > 0.9
    assert scores["mean"]["test_accuracy"] == pytest.approx(
        statistics.fmean(s["test_accuracy"] for s in scores["seeds"])
    )
    best = max(scores["seeds"], key=lambda s: s["dev_accuracy"])
    assert scores["best"]["dev_accuracy"] == best["dev_accuracy"]
    rows = pq.read_table(artifact.path("predictions.parquet")).to_pylist()
    for record in scores["seeds"]:
        for split, size in (("dev", 30), ("test", 40)):
            mine = [r for r in rows if r["seed"] == record["seed"] and r["split"] == split]
            assert len(mine) == size
            right = sum(r["label"] == r["predicted"] for r in mine)
            assert record[f"{split}_accuracy"] == right / size
    assert artifact.counts == {"train": 120, "dev": 30, "test": 40, "steps": 240, "seeds": 2}
    losses = pa.ipc.open_file(artifact.path("losses.arrow")).read_all()
    assert losses["seed"].to_pylist() == [5] * 120 + [3] * 120


def test_the_kept_model_is_the_best_seed_and_evaluates_to_its_scores(shared):
    store, artifact = shared
    made = inputs(store)
    with launch.at(Place(threads=1)):
        scored = run_step(evaluate, EvaluateConfig(split="test"), store=store, model=artifact, **made)
    best = artifact.read_json("scores.json")["best"]
    scores = scored.read_json("scores.json")
    assert (scores["accuracy"], scores["macro_f1"]) == (best["test_accuracy"], best["test_macro_f1"])
    assert scores["classes"].keys() == set(LABELS)
    assert sum(map(sum, scores["confusion"])) == scored.counts["examples"] == 40
    model = read_model(artifact)
    assert isinstance(model, BertForClassification)
    assert model.task == CONFIG.task
    assert artifact.read_json("labels.json") == LABELS


def test_a_killed_run_keeps_its_finished_seeds_and_ends_with_the_same_bytes(tmp_path, shared, monkeypatch):
    monkeypatch.setattr("training.loop.REPORT_SECONDS", 0.0)

    class KillInTheSecondSeed(Killer):
        def progress(self, done, total, unit, **figures):
            if done > 140:
                super().progress(done, total, unit, **figures)

    killer = KillInTheSecondSeed()
    again = tuned(open_folder(tmp_path), report=killer)
    assert killer.deaths == 0
    assert "seed 5 was finished before" in killer.notes
    assert again.manifest.content == shared[1].manifest.content


def test_a_pretrained_encoder_is_what_training_starts_from(tmp_path):
    store = open_folder(tmp_path)
    pretrained = run_step(make_pretrained, MODEL, store=store, vocabulary=inputs(store)["vocabulary"])
    still = FinetuneConfig(
        task=CONFIG.task, model=MODEL, train=EpochsConfig(epochs=1, learning_rate=1e-12), seeds=(0,)
    )
    started = read_model(tuned(store, still, pretrained))
    assert torch.allclose(
        started.bert.embeddings.token.weight, read_model(pretrained).bert.embeddings.token.weight
    )
    fresh = BertForClassification(MODEL, CONFIG.task, seed=0)
    assert torch.allclose(started.classifier.weight, fresh.classifier.weight)


def test_what_does_not_belong_together_is_refused_in_a_sentence(tmp_path):
    store = open_folder(tmp_path)
    wider = BertConfig(**{**vars(MODEL), "feed_forward_size": 64})
    pretrained = run_step(make_pretrained, wider, store=store, vocabulary=inputs(store)["vocabulary"])
    with pytest.raises(
        ValueError,
        match=r"model is not the one pretrained in .*: feed_forward_size: 64 -> 32; make them equal",
    ):
        tuned(store, pretrained=pretrained)
    few = FinetuneConfig(task=ClassifyConfig(num_labels=2, max_seq_len=16), model=MODEL)
    with pytest.raises(ValueError, match=r"task.num_labels 2: .* has 3; give 3"):
        tuned(store, few)
    with pytest.raises(ValueError, match=r"seeds \[1, 1\]: give at least one, each once"):
        FinetuneConfig(task=CONFIG.task, model=MODEL, seeds=(1, 1))
    with pytest.raises(ValueError, match=r"a Gpt2Config does not classify texts; fine-tuned are BertConfig"):
        FinetuneConfig(task=CONFIG.task, model=Gpt2Config(vocab_size=9, **SHAPE))
    with pytest.raises(ValueError, match=r"model.vocab_size 9: with this vocabulary it is 18; set"):
        tuned(store, replace(CONFIG, model=replace(MODEL, vocab_size=9)))
    with pytest.raises(ValueError, match=r"warmup_share 1.5: it is a share of all steps"):
        EpochsConfig(warmup_share=1.5)
