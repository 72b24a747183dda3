"""A fine-tuned ALBERT classifier <-> transformers' AlbertForSequenceClassification."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.exchange import albert
from training.exchange.classifier import ClassifierConfig, our_labels, outputs, their_labels
from training.exchange.family import Facts
from training.exchange.tables import gathered, renamed, without
from training.models.albert import AlbertConfig
from training.tasks.classify import Classifier, ClassifyConfig

__all__ = ["ARCHITECTURES", "MODEL_TYPE", "from_theirs", "our_config", "outputs", "their_config", "to_theirs"]

MODEL_TYPE = "albert"
ARCHITECTURES = ("AlbertForSequenceClassification",)

_DROPOUT = "classifier_dropout_prob"
_LEFT_OUT = ("albert.embeddings.position_ids",)


@dataclass(frozen=True, kw_only=True)
class AlbertClassifierConfig(ClassifierConfig):
    encoder: AlbertConfig


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    return [ours] if ours.startswith("classifier.") else albert.their_names(ours)


def their_config(config: AlbertClassifierConfig) -> dict[str, Any]:
    return albert.their_config(config.encoder) | their_labels(config) | {_DROPOUT: config.task.dropout}


def our_config(facts: Facts, source: str) -> AlbertClassifierConfig:
    encoder, labels = albert.our_config(facts, source), our_labels(facts, source)
    task = ClassifyConfig(
        num_labels=len(labels),
        max_seq_len=encoder.max_seq_len,
        dropout=facts.get(_DROPOUT, 0.1),  # transformers' default, which a config.json may leave out
    )
    return AlbertClassifierConfig(encoder=encoder, task=task, labels=labels)


def to_theirs(model: Classifier) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: AlbertClassifierConfig) -> dict[str, Tensor]:
    given = without(tensors, copies={}, left_out=_LEFT_OUT)
    return gathered(given, config.network(seed=None), their_names)
