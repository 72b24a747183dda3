"""A fine-tuned BERT classifier <-> transformers' BertForSequenceClassification."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.exchange import bert
from training.exchange.family import Facts, probe
from training.exchange.tables import gathered, renamed
from training.models.bert import BertConfig
from training.tasks.classify import BertForClassification, ClassifyConfig

MODEL_TYPE = "bert"
ARCHITECTURES = ("BertForSequenceClassification",)


@dataclass(frozen=True, kw_only=True)
class BertClassifierConfig:
    """The encoder, the task on top of it, and the names of its outputs."""

    bert: BertConfig
    task: ClassifyConfig
    labels: tuple[str, ...]

    def network(self, *, seed: int | None = 0) -> BertForClassification:
        return BertForClassification(self.bert, self.task, seed=seed)


def their_config(config: BertClassifierConfig) -> dict[str, Any]:
    return bert.their_config(config.bert) | {
        "classifier_dropout": config.task.dropout,
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(config.labels)},
        "label2id": {label: number for number, label in enumerate(config.labels)},
    }


def our_config(facts: Facts, source: str) -> BertClassifierConfig:
    encoder = bert.our_config(facts, source)
    labels = facts.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves out its default
    dropout = facts.get("classifier_dropout")
    task = ClassifyConfig(
        num_labels=len(labels),
        max_seq_len=encoder.max_seq_len,
        dropout=encoder.dropout if dropout is None else dropout,
    )
    return BertClassifierConfig(bert=encoder, task=task, labels=tuple(labels.values()))


def to_theirs(model: BertForClassification) -> dict[str, Tensor]:
    return renamed(model, bert.their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: BertClassifierConfig) -> dict[str, Tensor]:
    return gathered(bert.known_tensors(tensors), config.network(seed=None), bert.their_names)


def outputs(model: BertForClassification) -> dict[str, Tensor]:
    config = model.config
    pairs = config.num_segments > 1
    return {"label": model.logits(probe(model, config.vocab_size, config.max_seq_len, pairs=pairs))}
