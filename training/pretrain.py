"""Prepared instances -> a pretrained model. Killed at any moment, it goes on from its last checkpoint, bit for bit.

Which instance is sample number n is arithmetic (sample_order.py), by default a shuffle of its own for every epoch.
The result is what can be used further: weights, their config and the losses. The optimizer's state is not kept: a
finished schedule has brought the rate to its end, and a longer run is another config, whose schedule differs from the
first step; going on from here would equal neither.
"""

import shutil
from dataclasses import dataclass, field
from typing import Any

from corpus.instances import Instances, InstanceShard
from corpus.lanes import Lanes
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts
from infra.config import Plain, plain
from infra.output import WORK, Output
from infra.report import Report
from infra.storage import Folder
from training import launch
from training.checkpoint import LOSSES, MODEL, Checkpoints
from training.loop import TrainConfig, train
from training.models.family import Family, give_words, reads_in_order, require_vocabulary, useful_threads
from training.pretraining_batches import PretrainingBatch, batch_of
from training.sample_order import Index, SampleOrder, Shuffled, in_lanes, index_of, ledger_of
from training.saved import MODEL_CONFIG

LEDGER = "ledger.json"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The network, and how it is trained; `train.seed` is also that of the first weights and of the order."""

    model: Family
    train: TrainConfig
    order: SampleOrder = field(default_factory=Shuffled)


def pretrain(
    config: PretrainConfig, *, instances: tuple[Artifact, ...], vocabulary: Artifact, out: Output
) -> Counts:
    """`instances` are those of all generations. Write model.safetensors, model.json, losses.arrow (one row a step: loss, each
    part and its accuracy, rate) and ledger.json (what was read, by language).

    Counts: steps, sequences, tokens (read, over all steps), parameters. Raises ValueError if the model does not fit
    the vocabulary or the instances; NotFinite and other errors of training come as TrainingFailed.
    """
    require_vocabulary(config.model, encoder_of(vocabulary))
    require_instances(instances, "add text")
    folder = out.folder.child(WORK, "checkpoints")
    result = launch.run(
        train_on_instances,
        config,
        instances,
        vocabulary,
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
    read = config.train.steps * config.train.batch_size
    out.write_json(LEDGER, ledger_of(config.order, instances, config.train.seed, read))
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
    config: PretrainConfig,
    instances: tuple[Artifact, ...],
    vocabulary: Artifact,
    folder: Folder,
    *,
    report: Report,
) -> dict[str, Any]:
    """What a training process does, on each of its ranks; its last checkpoint is the result."""
    model = config.model.network(seed=config.train.seed)
    give_words(model, encoder_of(vocabulary).vocabulary)
    identity: Plain = {"config": plain(config), "instances": [artifact.digest for artifact in instances]}
    checkpoints = Checkpoints(folder, identity)
    trained = train(
        model,
        samples(config, instances).batch,
        config.train,
        checkpoints=checkpoints,
        report=report,
    )
    return {
        "tokens": int(sum(trained.history["tokens"])),
        "parameters": sum(p.numel() for p in model.parameters()),
        "measured": trained.measured,
    }


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
