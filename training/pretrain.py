"""Prepared instances -> a pretrained model. Killed at any moment, it goes on from its last checkpoint, bit for bit.

Which instance is sample number n is arithmetic (sample_order.py), by default a shuffle of its own for every epoch.
The result is what can be used further: weights, their config and the losses. The optimizer's state is not kept: a
finished schedule has brought the rate to its end, and a longer run is another config, whose schedule differs from the
first step; going on from here would equal neither.
"""

import shutil
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from corpus.instances import Instances, InstanceShard
from corpus.lanes import Lanes
from corpus.order import Order
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts
from infra.config import Plain, plain
from infra.output import WORK, Output
from infra.report import Report
from infra.storage import Folder
from training import launch
from training.checkpoint import LOSSES, MODEL, Checkpoints
from training.held_out import HeldOut, losses_on
from training.loop import TrainConfig, train
from training.models.family import Family, give_words, reads_in_order, require_vocabulary, useful_threads
from training.pretraining_batches import PretrainingBatch, batch_of
from training.sample_order import Index, SampleOrder, Shuffled, in_lanes, index_of, ledger_of
from training.saved import MODEL_CONFIG
from training.start import ReleasedFolder, keep_start, load_start

LEDGER, HELD_OUT, START = "ledger.json", "held_out.json", "start"


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Losses on text that is not trained on, while training goes on: `sequences` instances, always the same ones."""

    every_steps: int
    sequences: int = 256
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("every_steps", "sequences", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"measure.{name} {getattr(self, name)}: it is a count; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The network, and how it is trained; `train.seed` is also that of the first weights and of the order.

    `start`: a released model to go on from, whose tokenizer is the vocabulary.
    """

    model: Family
    train: TrainConfig
    order: SampleOrder = field(default_factory=Shuffled)
    measure: MeasureConfig | None = None
    start: ReleasedFolder | None = None


def pretrain(
    config: PretrainConfig,
    *,
    instances: tuple[Artifact, ...],
    unseen: tuple[Artifact, ...] | None = None,
    vocabulary: Artifact,
    out: Output,
) -> Counts:
    """`instances` are those of all generations, `unseen` what `config.measure` measures on. Write model.safetensors,
    model.json, losses.arrow (one row a step: loss, each part and its accuracy, rate), ledger.json (what was read, by
    language) and, if it was measured, held_out.json.

    Counts: steps, sequences, tokens (read, over all steps), parameters. Raises ValueError if the model does not fit
    the vocabulary or the instances; Diverged and other errors of training come as TrainingFailed.
    """
    require_vocabulary(config.model, encoder_of(vocabulary))
    require_instances(instances, "add text")
    folder = out.folder.child(WORK, "checkpoints")
    if config.start is not None:
        keep_start(config.start, config.model, encoder_of(vocabulary), folder.child(START))
    result = launch.run(
        train_on_instances,
        config,
        instances,
        unseen,
        vocabulary,
        folder,
        report=out.report,
        check=out.check,
        useful_threads=useful_threads(config.model),
    )
    steps: int = result["steps"]  # fewer than asked for where a budget of seconds was used up
    last = folder.child(f"step-{steps:08d}")
    for name in (MODEL, LOSSES):
        with out.writer(name) as path:
            shutil.copyfile(last.local(name), path)
    out.write_json(MODEL_CONFIG, plain(config.model))
    read = steps * config.train.batch_size
    out.write_json(
        LEDGER, ledger_of(config.order, instances, config.train.seed, read + result["passed_over"])
    )
    if result["held_out"]:
        out.write_json(HELD_OUT, result["held_out"])
    out.measure(**result["measured"])
    return {
        "steps": steps,
        "sequences": read,
        "tokens": result["tokens"],
        "parameters": result["parameters"],
    }


def require_instances(instances: tuple[Artifact, ...], advice: str) -> None:
    """Raise ValueError if there is not one."""
    if not any(artifact.counts["instances"] for artifact in instances):
        names = ", ".join(artifact.short for artifact in instances)
        raise ValueError(f"{names} holds no instance, so there is nothing to read; {advice}")


def train_on_instances(
    config: PretrainConfig,
    instances: tuple[Artifact, ...],
    unseen: tuple[Artifact, ...] | None,
    vocabulary: Artifact,
    folder: Folder,
    *,
    report: Report,
) -> dict[str, Any]:
    """What a training process does, on each of its ranks; its last checkpoint is the result."""
    model = config.model.network(seed=config.train.seed)
    give_words(model, encoder_of(vocabulary).vocabulary)
    if config.start is not None:
        load_start(model, folder.child(START))
    identity: Plain = {"config": plain(config), "instances": [artifact.digest for artifact in instances]}
    checkpoints = Checkpoints(folder, identity)
    trained = train(
        model,
        samples(config, instances).batch,
        config.train,
        checkpoints=checkpoints,
        held_out=None if config.measure is None else held_out(config.measure, unseen),
        report=report,
    )
    return {
        "steps": len(trained.history),
        "passed_over": trained.passed_over_samples,
        "held_out": trained.held_out,
        "tokens": int(sum(trained.history["tokens"])),
        "parameters": sum(p.numel() for p in model.parameters()),
        "measured": trained.measured,
    }


def held_out(config: MeasureConfig, unseen: tuple[Artifact, ...] | None) -> HeldOut:
    """The same instances at every measurement. Raises ValueError if there are none."""
    require_instances(
        unseen or (), "raise hold_out.dev_share or hold_out.test_share, or set pretrain.measure=null"
    )
    instances = Instances(*(unseen or ()))
    count = min(config.sequences, len(instances))
    chosen = np.sort(Order(seed=0, count=len(instances)).index(range(count)))
    batches = [
        batch_of(instances.gather(chosen[first : first + config.batch_size]))
        for first in range(0, count, config.batch_size)
    ]
    return HeldOut(measure=losses_on(batches), every_steps=config.every_steps)


@dataclass(frozen=True)
class Samples:
    """Sample numbers -> what is read, a pure function of them."""

    instances: Instances
    index: Index
    lanes: Lanes | None = None  # where the network carries state from step to step

    def taken(self, numbers: range) -> InstanceShard:
        if self.lanes is not None:
            return self.lanes.gather(self.instances, numbers)
        return self.instances.gather(self.index(numbers))

    def batch(self, numbers: range) -> PretrainingBatch:
        return batch_of(self.taken(numbers))


def samples(config: PretrainConfig, artifacts: tuple[Artifact, ...]) -> Samples:
    """What a run reads. Raises ValueError if an instance is longer than the model can read."""
    instances = Instances(*artifacts)
    longest = instances.longest
    if longest > config.model.max_seq_len:
        raise ValueError(
            f"model.max_seq_len {config.model.max_seq_len}: the longest instance has {longest} tokens; give {longest} "
            "or more, or prepare instances with a smaller max_seq_len"
        )

    if reads_in_order(config.model):
        lanes = in_lanes(config.order, instances, lanes=config.train.batch_size, seed=config.train.seed)
        return Samples(instances, lanes.index, lanes)
    read = config.train.steps * config.train.batch_size
    index = index_of(config.order, artifacts, instances, seed=config.train.seed, samples=read)
    return Samples(instances, index)
