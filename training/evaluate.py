"""How good a classifier is on a split it has not seen: fine-tuned here, exported, or made elsewhere.

Computed in float32 without dropout, in one child process: an exported model is scored as it will be served. (A language
model's held-out scores are in measure.py.)
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts
from infra.output import Output
from infra.report import Report
from training import launch
from training.finetune import PREDICTIONS, SCORES, predict, read_examples
from training.saved import LABELS, read_model
from training.tasks.classify import Classifier, score


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """`split` of the examples to score."""

    split: Literal["train", "dev", "test"] = "test"

    def __post_init__(self) -> None:
        if self.split not in ("train", "dev", "test"):
            raise ValueError(f"split {self.split!r}: choose 'train', 'dev' or 'test'")


def evaluate(
    config: EvaluateConfig, *, model: Artifact, examples: Artifact, vocabulary: Artifact, out: Output
) -> Counts:
    """Write scores.json (accuracy, macro_f1, <class>_f1 in "classes", "confusion": rows labels, columns predictions)
    and predictions.parquet. Counts: examples, correct.
    """
    result = launch.run(
        score_examples, config, model, examples, vocabulary, report=out.report, check=out.check, alone=True
    )
    out.write_json(SCORES, result["scores"])
    with out.writer(PREDICTIONS) as path:
        pq.write_table(pa.table(result["predictions"]), path, compression="zstd")
    counts: Counts = result["counts"]
    return counts


def score_examples(
    config: EvaluateConfig, model: Artifact, examples: Artifact, vocabulary: Artifact, *, report: Report
) -> dict[str, Any]:
    network = read_model(model)
    if not isinstance(network, Classifier):
        raise ValueError(f"{model.short} is a language model; fine-tune it before it can classify examples")
    labels = examples.read_json(LABELS)
    if len(labels) != network.task.num_labels:
        raise ValueError(
            f"{model.short} knows {network.task.num_labels} classes, {examples.short} has {len(labels)}"
        )
    data = read_examples(examples, config.split, encoder_of(vocabulary), network.task)
    predicted, confidence = predict(network, data)
    result = score(predicted, data.labels, len(labels))
    confusion = result.confusion_CC
    appearances = np.maximum(1, confusion.sum(0) + confusion.sum(1))
    f1 = (2 * np.diag(confusion) / appearances).tolist()
    scores = {
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "classes": dict(zip(labels, f1, strict=True)),
        "confusion": confusion.tolist(),
    }
    columns = {
        "label": data.labels.tolist(),
        "predicted": predicted.tolist(),
        "confidence": confidence.tolist(),
    }
    counts = {"examples": len(data), "correct": int(np.diag(confusion).sum())}
    return {"scores": scores, "predictions": columns, "counts": counts}
