"""A fine-tuned BERT or SpanBERT classifier <-> transformers' BertForSequenceClassification; it is read as a BERT's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.exchange import bert
from training.exchange.classifier import ClassifierConfig, our_labels, outputs, their_labels
from training.exchange.family import Facts
from training.exchange.tables import gathered, renamed
from training.models.bert import BertConfig
from training.models.spanbert import SpanBertConfig
from training.tasks.classify import Classifier, ClassifyConfig

__all__ = ["ARCHITECTURES", "MODEL_TYPE", "from_theirs", "our_config", "outputs", "their_config", "to_theirs"]

MODEL_TYPE = "bert"
ARCHITECTURES = ("BertForSequenceClassification",)


@dataclass(frozen=True, kw_only=True)
class BertClassifierConfig(ClassifierConfig):
    encoder: BertConfig | SpanBertConfig


def their_config(config: BertClassifierConfig) -> dict[str, Any]:
    return bert.sizes_of(config.encoder) | their_labels(config) | {"classifier_dropout": config.task.dropout}


def our_config(facts: Facts, source: str) -> BertClassifierConfig:
    encoder, labels = bert.our_config(facts, source), our_labels(facts, source)
    dropout = facts.get("classifier_dropout")
    task = ClassifyConfig(
        num_labels=len(labels),
        max_seq_len=encoder.max_seq_len,
        dropout=encoder.dropout if dropout is None else dropout,
    )
    return BertClassifierConfig(encoder=encoder, task=task, labels=labels)


def to_theirs(model: Classifier) -> dict[str, Tensor]:
    return renamed(model, bert.their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: BertClassifierConfig) -> dict[str, Tensor]:
    return gathered(bert.known_tensors(tensors), config.network(seed=None), bert.their_names)
