"""Examples and a pretrained encoder (or none) -> a classifier, several times over, and how well it does.

Every seed draws its own classifier weights, order of examples and dropout (without a pretrained encoder also its own
encoder), is scored on dev and test, and is kept over a restart. The model of the seed with the best dev accuracy is the
result; test is never used to choose. All seeds run in one training process, whose start costs more than a small seed.
A batch is one flat stream of its texts' tokens: nothing is padded, so nothing has to be sorted by length.
"""

import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from corpus.order import Order
from corpus.ragged import Ints
from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, CorruptFile, Counts
from infra.config import differences, plain
from infra.output import WORK, Output
from infra.report import Report
from infra.storage import Folder
from training import launch
from training.batches import ClassificationBatch
from training.checkpoint import LOSSES, commit, verify
from training.engine import Precision
from training.loop import TrainConfig, Trained, train
from training.models.family import require_vocabulary, useful_threads
from training.saved import LABELS, MODEL_CONFIG, TASK_CONFIG, WEIGHTS
from training.start import pretrained_config, pretrained_weights
from training.tasks.classify import (
    Classifiable,
    Classifier,
    ClassifyConfig,
    classifier_of,
    load_encoder,
    require_classifiable,
    score,
)
from training.tasks.examples import Examples, encode

SPLITS = ("train", "dev", "test")
SCORES, PREDICTIONS = "scores.json", "predictions.parquet"
SCORE_BATCH = 64  # texts; beyond it a larger batch is no faster on CPU


@dataclass(frozen=True, kw_only=True)
class EpochsConfig:
    """TrainConfig for a set of examples: the number of steps follows from theirs. `batch_size` is examples."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 2e-4
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    precision: Precision = "bfloat16"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs {self.epochs}: it is a count; give 1 or more")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(
                f"warmup_share {self.warmup_share}: it is a share of all steps; give 0 to below 1"
            )
        self.steps(examples=1, seed=0)

    def steps(self, *, examples: int, seed: int) -> TrainConfig:
        steps = math.ceil(self.epochs * examples / self.batch_size)
        return TrainConfig(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=int(self.warmup_share * steps),
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            seed=seed,
            precision=self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """`model` is the encoder, pretrained or not: the same network and the same budget either way."""

    task: ClassifyConfig
    model: Classifiable
    train: EpochsConfig = EpochsConfig()
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        require_classifiable(self.model)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: give at least one, each once")


def finetune(
    config: FinetuneConfig,
    *,
    examples: Artifact,
    vocabulary: Artifact,
    pretrained: Artifact | None,
    out: Output,
) -> Counts:
    """Write the best seed's model (training/saved.py), scores.json, predictions.parquet and losses.arrow of all seeds.

    scores.json: "seeds" (seed, dev_accuracy, dev_macro_f1, test_accuracy, test_macro_f1 each), their "mean" and
    "spread" (sample standard deviation), "best" (the kept seed's). Counts: train, dev, test (examples), seeds, steps.
    Raises ValueError if labels, pretrained model and config do not belong together.
    """
    labels = examples.read_json(LABELS)
    if len(labels) != config.task.num_labels:
        raise ValueError(
            f"task.num_labels {config.task.num_labels}: {examples.short} has {len(labels)}; give {len(labels)}"
        )
    require_vocabulary(config.model, encoder_of(vocabulary))
    if pretrained is not None:
        changed = differences(plain(pretrained_config(pretrained)), plain(config.model))
        if changed := [line for line in changed if "dropout" not in line]:
            raise ValueError(
                f"model is not the one pretrained in {pretrained.short}: {'; '.join(changed[:3])}; make them equal"
            )
    work = out.folder.child(WORK, "seeds")
    inputs = (config, examples, vocabulary, pretrained, work)
    threads = useful_threads(config.model)
    result = launch.run(train_seeds, *inputs, report=out.report, check=out.check, useful_threads=threads)
    folders = {seed: work.child(f"seed-{seed}") for seed in config.seeds}
    records = [{"seed": seed, **json.loads(folders[seed].read(SCORES))} for seed in config.seeds]
    best = max(records, key=lambda r: (r["dev_accuracy"], -config.seeds.index(r["seed"])))
    with out.writer(WEIGHTS) as path:
        shutil.copyfile(folders[best["seed"]].local(WEIGHTS), path)
    out.write_json(MODEL_CONFIG, plain(config.model))
    out.write_json(TASK_CONFIG, plain(config.task))
    out.write_json(LABELS, labels)
    out.write_json(SCORES, summary(records, best))
    with out.writer(PREDICTIONS) as path:
        pq.write_table(_together(folders, PREDICTIONS), path, compression="zstd")
    with out.writer(LOSSES) as path, pa.OSFile(str(path), "wb") as sink:
        losses = _together(folders, LOSSES)
        with pa.ipc.new_file(sink, losses.schema) as file:
            file.write_table(losses)
    out.measure(**result["measured"])
    return {**result["counts"], "seeds": len(config.seeds)}


def summary(records: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and spread over seeds of every score."""
    names = [name for name in records[0] if name != "seed"]
    values = {name: [record[name] for record in records] for name in names}
    return {
        "seeds": list(records),
        "mean": {name: statistics.fmean(values[name]) for name in names},
        "spread": {name: statistics.stdev(values[name]) if len(records) > 1 else 0.0 for name in names},
        "best": dict(best),
    }


def train_seeds(
    config: FinetuneConfig,
    examples: Artifact,
    vocabulary: Artifact,
    pretrained: Artifact | None,
    folder: Folder,
    *,
    report: Report,
) -> dict[str, Any]:
    """What a training process does: every seed that is not finished, one after another."""
    encoder = encoder_of(vocabulary)
    splits = {split: read_examples(examples, split, encoder, config.task) for split in SPLITS}
    weights = None if pretrained is None else pretrained_weights(pretrained)
    plan = config.train.steps(examples=len(splits["train"]), seed=0)
    measured = {"training_seconds": 0.0, "seeds_trained": 0.0}
    for number, seed in enumerate(config.seeds):
        if finished(folder.child(f"seed-{seed}")):
            report.note(f"seed {seed} was finished before")
            continue
        model = classifier_of(config.model, config.task, seed=seed)
        if weights is not None:
            load_encoder(model, weights)
        seen = _Part(report, number * plan.steps, len(config.seeds) * plan.steps)
        trained = train_seed(
            model, splits["train"], config.train.steps(examples=len(splits["train"]), seed=seed), seen
        )
        measured["training_seconds"] += trained.seconds
        measured["seeds_trained"] += 1
        if trained.rank == 0:
            keep_seed(folder.child(f"seed-{seed}"), seed, model, splits, trained)
    counts = {split: len(splits[split]) for split in SPLITS}
    return {"counts": {**counts, "steps": plan.steps * len(config.seeds)}, "measured": measured}


def train_seed(model: Classifier, examples: Examples, config: TrainConfig, report: Report) -> Trained:
    order = Order(seed=config.seed, count=len(examples))

    def batch_at(numbers: range) -> ClassificationBatch:
        return examples.batch(order.index(numbers))

    return train(model, batch_at, config, report=report)


def keep_seed(
    folder: Folder, seed: int, model: Classifier, splits: Mapping[str, Examples], trained: Trained
) -> None:
    """Score a trained seed and write it down, its commit record last."""
    scores: dict[str, float] = {}
    tables = []
    for split in ("dev", "test"):
        predicted, confidence = predict(model, splits[split])
        result = score(predicted, splits[split].labels, model.task.num_labels)
        scores |= {f"{split}_accuracy": result.accuracy, f"{split}_macro_f1": result.macro_f1}
        columns = {"label": splits[split].labels, "predicted": predicted, "confidence": confidence}
        tables.append(
            pa.table({"split": [split] * len(predicted), "example": range(len(predicted)), **columns})
        )
    with commit(folder) as write:
        write.tensors(WEIGHTS, dict(model.named_parameters()))
        write.table(PREDICTIONS, _with_seed(pa.concat_tables(tables), seed))
        write.table(LOSSES, _with_seed(trained.history.to_table(), seed))
        write.json(SCORES, scores)


def finished(folder: Folder) -> bool:
    """Whether a seed was kept whole."""
    try:
        verify(folder)
    except (FileNotFoundError, CorruptFile):
        return False
    return True


@torch.inference_mode()
def predict(model: Classifier, examples: Examples) -> tuple[Ints, npt.NDArray[np.float32]]:
    """(B,) the most probable class of every example and its probability, in float32, as the served model computes it."""
    model.eval()
    device = next(model.parameters()).device
    parts = [
        np.arange(start, min(start + SCORE_BATCH, len(examples)))
        for start in range(0, len(examples), SCORE_BATCH)
    ]
    logits = [model.logits(examples.batch(part).tokens.to(device)).float().cpu() for part in parts]
    confidence, predicted = torch.cat(logits).softmax(-1).max(-1)
    return predicted.numpy(), confidence.numpy()


def read_examples(artifact: Artifact, split: str, encoder: Encoder, task: ClassifyConfig) -> Examples:
    """The encoded texts and labels of one split. Raises ValueError if it is empty."""
    table = pq.read_table(artifact.path(f"{split}.parquet"), columns=["text", "label"])
    if not len(table):
        raise ValueError(f"{split}.parquet of {artifact.short} has no examples; make a larger split")
    texts = table["text"].combine_chunks().cast(pa.large_string())
    return encode(texts, table["label"].to_numpy(), encoder=encoder, config=task)


class _Part:
    """The report of one seed's training, as a part of all seeds' steps."""

    def __init__(self, report: Report, first: int, total: int) -> None:
        self._report, self._first, self._total = report, first, total

    def note(self, message: str) -> None:
        self._report.note(message)

    def progress(self, done: int, total: int, unit: str, **figures: float) -> None:
        self._report.progress(self._first + done, self._total, unit, **figures)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._report.metrics(self._first + step, values)


def _with_seed(table: pa.Table, seed: int) -> pa.Table:
    return table.add_column(0, "seed", pa.array([seed] * len(table), pa.int64()))


def _together(folders: Mapping[int, Folder], name: str) -> pa.Table:
    return pa.concat_tables(pa.ipc.open_file(folder.local(name)).read_all() for folder in folders.values())
