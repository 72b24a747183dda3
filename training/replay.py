"""A past training batch again: which samples a step read, and what the trained network says of every target now.

What was read is arithmetic (sample_order.py), so nothing about batches is ever stored. The losses are those of the finished
network, without dropout: where it still is wrong, not what the loss was then (that is in losses.arrow).
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from corpus.instances import Instances, InstanceShard
from corpus.shard_file import TokenShard
from infra.artifacts import Artifact
from infra.config import revived
from training.models.elmo import ElmoForPretraining
from training.pretrain import PretrainConfig, samples
from training.pretraining_batches import (
    CausalBatch,
    MaskedBatch,
    PermutationBatch,
    PretrainingBatch,
    Seq2SeqBatch,
    batch_of,
)
from training.saved import read_language_model


@dataclass(frozen=True)
class Replayed:
    """One step's samples, in the order they were read."""

    first_sample: int
    instances: InstanceShard
    document_ids: list[str]  # hexadecimal, of the document each instance begins with
    languages: list[str]


def pretraining_config(artifact: Artifact) -> PretrainConfig:
    """Raises ValueError if the artifact is not of the step `pretrain`."""
    if artifact.step != "pretrain":
        raise ValueError(
            f"{artifact.short} is no pretraining; give pretrain/DIGEST, as `cloze runs` prints it"
        )
    config: PretrainConfig = revived(artifact.manifest.config, PretrainConfig)
    return config


def instances_of(artifact: Artifact) -> tuple[Artifact, ...]:
    """What a pretraining read, by generation."""
    named = {name: found for name, found in artifact.inputs.items() if name.partition(".")[0] == "instances"}
    return tuple(named[name] for name in sorted(named, key=lambda n: int(n.partition(".")[2] or 0)))


def replay(artifact: Artifact, step: int) -> Replayed:
    """What step number `step` (from 0) of a pretraining read. Raises ValueError for a step it did not make."""
    config, made = pretraining_config(artifact), instances_of(artifact)
    if not 0 <= step < config.train.steps:
        raise ValueError(f"step {step}: this run made the steps 0 to {config.train.steps - 1}")
    size = config.train.batch_size
    numbers = range(step * size, (step + 1) * size)
    read = samples(config, made)
    instances = read.taken(numbers)
    ids, languages = _documents(made, read.instances, read.index(numbers))
    return Replayed(numbers.start, instances, ids, languages)


def _documents(
    made: tuple[Artifact, ...], instances: Instances, index: npt.NDArray[np.int64]
) -> tuple[list[str], list[str]]:
    names = [(a, name) for a in made for name in a.names() if name.endswith(".arrow")]
    first = np.cumsum([0, *(len(shard) for shard in instances.shards)])
    ids, languages = [], []
    for number in index.tolist():
        which = int(np.searchsorted(first, number, side="right")) - 1
        artifact, name = names[which]
        shard = TokenShard.open(artifact.inputs["shards"].path(f"{name.rpartition('-')[0]}.arrow"))
        document = int(instances.shards[which].document[number - first[which]])
        ids.append(shard.document_ids[document].tobytes().hex())
        languages.append(str(shard.languages[document]))
    return ids, languages


@torch.inference_mode()
def losses_of(artifact: Artifact, instances: InstanceShard) -> list[float]:
    """-log p of every predicted token, in nats, row after row."""
    network = read_language_model(artifact).eval()
    logits, targets = target_logits(batch_of(instances), network)
    found: list[float] = F.cross_entropy(logits.float(), targets, reduction="none").tolist()
    return found


@singledispatch
def target_logits(batch: PretrainingBatch, network: Any) -> tuple[Tensor, Tensor]:
    """(M, V) scores and (M,) tokens of all targets of a batch, in their order."""
    raise TypeError(f"{type(batch).__name__} has no targets to replay; add it in {__name__}")


@target_logits.register
def _masked(batch: MaskedBatch, network: Any) -> tuple[Tensor, Tensor]:
    return network.masked_lm_logits(batch.tokens, batch.target_index_M), batch.target_tokens_M


@target_logits.register
def _seq2seq(batch: Seq2SeqBatch, network: Any) -> tuple[Tensor, Tensor]:
    return network.logits(batch), batch.target_tokens_T


@target_logits.register
def _causal(batch: CausalBatch, network: Any) -> tuple[Tensor, Tensor]:
    if isinstance(network, ElmoForPretraining):
        raise ValueError("an ELMo predicts every token twice, once from each side; give --without-losses")
    last = torch.zeros(batch.num_tokens, dtype=torch.bool)
    last[batch.tokens.cu_seqlens[1:].long() - 1] = True
    index_M = torch.nonzero(~last).squeeze(1)
    return network.logits(batch.tokens, index_M), batch.tokens.tokens_T[index_M + 1]


@target_logits.register
def _permutation(batch: PermutationBatch, network: Any) -> tuple[Tensor, Tensor]:
    return network.permutation_lm_logits(batch), batch.target_tokens_M
