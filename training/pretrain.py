"""Prepared instances -> a pretrained model. Killed at any moment, it goes on from its last checkpoint, bit for bit.

Sample number n is instance `Order(seed, count).index(n)`: every epoch has each instance once, in an order of its own.
The result is what can be used further: weights, their config and the losses. The optimizer's state is not kept: a
finished schedule has brought the rate to its end, and a longer run is another config, whose schedule differs from the
first step; going on from here would equal neither.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from corpus.instances import Instances
from corpus.order import Order
from corpus.wordpiece.files import VOCABULARY_FILE, read_vocabulary
from infra.artifacts import Artifact, Counts
from infra.config import Plain, plain
from infra.output import WORK, Output
from infra.report import Report
from infra.storage import Folder
from training import launch
from training.checkpoint import LOSSES, MODEL, Checkpoints
from training.loop import TrainConfig, train
from training.models.family import Family, useful_threads
from training.pretraining_batches import PretrainingBatch, batch_of
from training.saved import MODEL_CONFIG


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The network, and how it is trained; `train.seed` is also that of the first weights and of the order."""

    model: Family
    train: TrainConfig


def pretrain(
    config: PretrainConfig, *, instances: tuple[Artifact, ...], vocabulary: Artifact, out: Output
) -> Counts:
    """`instances` are those of all generations. Write model.safetensors, model.json and losses.arrow (one row a step: loss, each part and its accuracy, rate).

    Counts: steps, sequences, tokens (read, over all steps), parameters. Raises ValueError if the model does not fit
    the vocabulary or the instances; NotFinite and other errors of training come as TrainingFailed.
    """
    words = len(read_vocabulary(vocabulary.path(VOCABULARY_FILE)))
    if config.model.vocab_size != words:
        raise ValueError(
            f"model.vocab_size {config.model.vocab_size}: the vocabulary has {words} tokens; give {words}"
        )
    require_instances(instances, "add text")
    folder = out.folder.child(WORK, "checkpoints")
    result = launch.run(
        train_on_instances,
        config,
        instances,
        folder,
        report=out.report,
        check=out.check,
        useful_threads=useful_threads(config.model),
    )
    last = folder.child(f"step-{config.train.steps:08d}")
    for name in (MODEL, LOSSES):
        with out.writer(name) as path:
            shutil.copyfile(last.local(name), path)
    out.write_json(MODEL_CONFIG, plain(config.model))
    out.measure(**result["measured"])
    return {
        "steps": config.train.steps,
        "sequences": config.train.steps * config.train.batch_size,
        "tokens": result["tokens"],
        "parameters": result["parameters"],
    }


def require_instances(instances: tuple[Artifact, ...], advice: str) -> None:
    """Raise ValueError if there is not one."""
    if not any(artifact.counts["instances"] for artifact in instances):
        names = ", ".join(artifact.short for artifact in instances)
        raise ValueError(f"{names} holds no instance, so there is nothing to read; {advice}")


def train_on_instances(
    config: PretrainConfig, instances: tuple[Artifact, ...], folder: Folder, *, report: Report
) -> dict[str, Any]:
    """What a training process does, on each of its ranks; its last checkpoint is the result."""
    model = config.model.network(seed=config.train.seed)
    identity: Plain = {"config": plain(config), "instances": [artifact.digest for artifact in instances]}
    checkpoints = Checkpoints(folder, identity)
    trained = train(
        model,
        samples(config, instances),
        config.train,
        checkpoints=checkpoints,
        report=report,
    )
    return {
        "tokens": int(sum(trained.history["tokens"])),
        "parameters": sum(p.numel() for p in model.parameters()),
        "measured": trained.measured,
    }


def samples(config: PretrainConfig, artifacts: tuple[Artifact, ...]) -> Callable[[range], PretrainingBatch]:
    """The batch of given sample numbers, a pure function of them.

    Raises ValueError if an instance is longer than the model can read.
    """
    instances = Instances(*artifacts)
    order = Order(seed=config.train.seed, count=len(instances))
    longest = instances.longest
    if longest > config.model.max_seq_len:
        raise ValueError(
            f"model.max_seq_len {config.model.max_seq_len}: the longest instance has {longest} tokens; give {longest} "
            "or more, or prepare instances with a smaller max_seq_len"
        )

    def batch_at(numbers: range) -> PretrainingBatch:
        return batch_of(instances.gather(order.index(numbers)))

    return batch_at
