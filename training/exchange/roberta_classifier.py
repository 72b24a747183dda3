"""A fine-tuned RoBERTa classifier <-> transformers' RobertaForSequenceClassification, whose head has a dense layer of its
own where BERT's has the pooler.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.exchange import roberta
from training.exchange.classifier import ClassifierConfig, our_labels, outputs, their_labels
from training.exchange.family import Facts
from training.exchange.tables import gathered, renamed, without
from training.models.roberta import RobertaConfig
from training.tasks.classify import Classifier, ClassifyConfig

__all__ = ["ARCHITECTURES", "MODEL_TYPE", "from_theirs", "our_config", "outputs", "their_config", "to_theirs"]

MODEL_TYPE = "roberta"
ARCHITECTURES = ("RobertaForSequenceClassification",)

_HEAD = {"dense": "classifier.dense", "classifier": "classifier.out_proj"}
_LEFT_OUT = (  # older files have a pooler that is not used
    "roberta.embeddings.position_ids",
    "roberta.pooler.dense.weight",
    "roberta.pooler.dense.bias",
)


@dataclass(frozen=True, kw_only=True)
class RobertaClassifierConfig(ClassifierConfig):
    encoder: RobertaConfig


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    module, _, leaf = ours.rpartition(".")
    return [f"{_HEAD[module]}.{leaf}"] if module in _HEAD else roberta.their_names(ours)


def their_config(config: RobertaClassifierConfig) -> dict[str, Any]:
    facts = roberta.their_config(config.encoder) | their_labels(config)
    return facts | {"classifier_dropout": config.task.dropout}


def our_config(facts: Facts, source: str) -> RobertaClassifierConfig:
    encoder, labels = roberta.our_config(facts, source), our_labels(facts, source)
    dropout = facts.get("classifier_dropout")
    task = ClassifyConfig(
        num_labels=len(labels),
        max_seq_len=encoder.max_seq_len,
        dropout=encoder.dropout if dropout is None else dropout,
    )
    return RobertaClassifierConfig(encoder=encoder, task=task, labels=labels)


def to_theirs(model: Classifier) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: RobertaClassifierConfig) -> dict[str, Tensor]:
    given = without(tensors, copies={}, left_out=_LEFT_OUT)
    return gathered(given, config.network(seed=None), their_names)
