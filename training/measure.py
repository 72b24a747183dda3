"""What a language model knows about text it has never seen: loss and accuracy of each pretraining objective.

Measured in float32 without dropout on instances made from held-out files, so the figure does not flatter a model that
has seen its test, and does not depend on the training precision.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from corpus.instances import Instances
from corpus.order import Order
from infra.artifacts import Artifact, Counts
from infra.output import Output
from infra.report import Report
from training import launch
from training.finetune import SCORES
from training.models.family import useful_threads
from training.pretrain import require_instances
from training.pretraining_batches import batch_of
from training.saved import MODEL_CONFIG, read_config, read_language_model


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """`sequences` instances (all, if there are fewer) chosen by `seed`, `batch_size` at a time."""

    sequences: int = 1000
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.batch_size < 1:
            raise ValueError(
                f"sequences {self.sequences}, batch_size {self.batch_size}: each must be 1 or more"
            )


def measure_language_model(
    config: HeldOutConfig, *, model: Artifact, instances: tuple[Artifact, ...], out: Output
) -> Counts:
    """Write scores.json: `<part>_loss` (nats a prediction) and `<part>_accuracy` per objective, and perplexity (e to the
    loss of the first, which is the one over words). Counts: sequences, and predictions per objective.
    """
    require_instances(instances, "raise hold_out.dev_share or hold_out.test_share")
    result = launch.run(
        score_instances,
        config,
        model,
        instances,
        report=out.report,
        check=out.check,
        alone=True,
        useful_threads=useful_threads(read_config(model, MODEL_CONFIG)),
    )
    out.write_json(SCORES, result["scores"])
    counts: Counts = result["counts"]
    return counts


@torch.inference_mode()
def score_instances(
    config: HeldOutConfig, model: Artifact, instances: tuple[Artifact, ...], *, report: Report
) -> dict[str, Any]:
    """What the measuring process does."""
    network = read_language_model(model).eval()
    samples = Instances(*instances)
    count = min(config.sequences, len(samples))
    chosen = np.sort(Order(seed=config.seed, count=len(samples)).index(range(count)))
    losses: dict[str, float] = {}
    counts: dict[str, int] = {}
    for first in range(0, count, config.batch_size):
        result = network(batch_of(samples.gather(chosen[first : first + config.batch_size])))
        for name, value in result.counts.items():
            counts[name] = counts.get(name, 0) + int(value)
        for name, value in result.parts.items():
            losses[name] = losses.get(name, 0.0) + float(value) * int(result.counts[f"{name}_count"])
        report.progress(min(first + config.batch_size, count), count, "sequences")
    scores = {f"{name}_loss": losses[name] / counts[f"{name}_count"] for name in losses}
    scores |= {f"{name}_accuracy": counts[f"{name}_correct"] / counts[f"{name}_count"] for name in losses}
    scores["perplexity"] = math.exp(min(700.0, scores[f"{next(iter(losses))}_loss"]))
    return {
        "scores": scores,
        "counts": {"sequences": count, **{name: counts[f"{name}_count"] for name in losses}},
    }
