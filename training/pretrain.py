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

import numpy as np
import torch

from corpus.instances import InstanceBatch, Instances
from corpus.order import Order
from corpus.wordpiece.files import VOCABULARY_FILE, read_vocabulary
from infra.artifacts import Artifact, Counts
from infra.config import Plain, flatten, plain
from infra.output import WORK, Output
from infra.report import Report
from infra.storage import Folder
from training import launch
from training.batches import PretrainingBatch, TokenBatch
from training.checkpoint import LOSSES, MODEL, Checkpoints
from training.loop import TrainConfig, train
from training.models.bert import BertConfig, BertForPretraining, useful_threads
from training.saved import MODEL_CONFIG


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The network, and how it is trained; `train.seed` is also that of the first weights and of the order."""

    model: BertConfig
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
    model = BertForPretraining(config.model, seed=config.train.seed)
    identity: Plain = {"config": plain(config), "instances": [artifact.digest for artifact in instances]}
    checkpoints = Checkpoints(folder, identity)
    trained = train(
        model,
        samples(config, instances),
        config.train,
        predictions=predictions,
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
    longest = max(int(np.diff(shard.offsets).max(initial=0)) for shard in instances.shards)
    if longest > config.model.max_seq_len:
        raise ValueError(
            f"model.max_seq_len {config.model.max_seq_len}: the longest instance has {longest} tokens; give {longest} "
            "or more, or prepare instances with a smaller max_seq_len"
        )
    pairs = has_pairs(artifacts[0])

    def batch_at(numbers: range) -> PretrainingBatch:
        return to_batch(instances.gather(order.index(numbers)), pairs=pairs)

    return batch_at


def has_pairs(instances: Artifact) -> bool:
    """Whether the instances ask which sentence comes next."""
    return bool(flatten(instances.manifest.config).get("objective.next_sentence", True))


def to_batch(found: InstanceBatch, *, pairs: bool) -> PretrainingBatch:
    """Gathered columns as tensors (shared memory); without `pairs` there is no second sentence to judge."""
    tokens = TokenBatch(
        tokens_T=torch.from_numpy(found.tokens_T),
        segments_T=torch.from_numpy(found.segments_T),
        positions_T=torch.from_numpy(found.positions_T),
        cu_seqlens=torch.from_numpy(found.cu_seqlens),
        max_seq_len=found.max_seq_len,
    )
    return PretrainingBatch(
        tokens=tokens,
        target_index_M=torch.from_numpy(found.target_index_M),
        target_tokens_M=torch.from_numpy(found.target_tokens_M),
        next_sentence_B=torch.from_numpy(found.next_sentence_B) if pairs else None,
    )


def predictions(batch: PretrainingBatch) -> dict[str, int]:
    """How many predictions each part of the loss is a mean over."""
    counts = {"masked_lm": len(batch.target_tokens_M)}
    return counts if batch.next_sentence_B is None else {**counts, "next_sentence": len(batch)}
