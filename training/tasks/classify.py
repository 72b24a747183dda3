"""Text classification: one label for a text or a pair of texts.

    text, maybe its pair -> [CLS] text [SEP] (pair [SEP]) -> B,C logits -> accuracy, macro F1, confusion

Every family reads a sequence's class off its first token: a dense layer with tanh, dropout, one linear layer. In BERT and
ALBERT the dense layer is the pooler of the encoder, which pretraining has trained where it saw pairs; SpanBERT's is fresh
(pretraining has none); in RoBERTa it is the head's own, with dropout before it too. As BERT, section 4.1, and transformers'
...ForSequenceClassification. Modules keep the names they have in pretraining, so their first weights are the same too.

Letters: `B` examples, `T` tokens of all of them, `C` classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.ragged import Ints
from training.batches import ClassificationBatch, TokenBatch
from training.losses import Losses
from training.models.albert import Albert, AlbertConfig
from training.models.bert import Bert, BertConfig
from training.models.initialize import initialize, initialize_normal
from training.models.layers.dropout import drop
from training.models.roberta import Roberta, RobertaConfig
from training.models.spanbert import SpanBertConfig

Classifiable = BertConfig | RobertaConfig | AlbertConfig | SpanBertConfig
"""The families that classify: one of these configs is a recipe's `task.finetune.model`."""


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """`max_seq_len` is tokens, special tokens included; `dropout` acts on the pooled sentence."""

    num_labels: int
    max_seq_len: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"num_labels {self.num_labels}: it is a count; give 1 or more")
        if self.max_seq_len < 5:
            raise ValueError(
                f"max_seq_len {self.max_seq_len}: a pair needs three special tokens; give 5 or more"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: it is a probability; give a value from 0 to below 1")


class Classifier(nn.Module, ABC):
    """A class for each sequence: `ClassificationBatch -> Losses`. With seed None, weights are left on the meta device.

    A family's subclass says how it is built and drawn, and what `encoder` is called in a checkpoint.
    """

    encoder: ClassVar[str]  # the module that pretraining made
    fresh: ClassVar[tuple[str, ...]] = ()  # modules of it that pretraining has not
    config: Classifiable
    classifier: nn.Linear

    def __init__(self, config: Classifiable, task: ClassifyConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        if task.max_seq_len > config.max_seq_len:
            raise ValueError(
                f"task.max_seq_len {task.max_seq_len}: this model reads at most {config.max_seq_len} tokens; "
                "give that or less"
            )
        self.config = config
        self.task = task
        with torch.device("meta"):
            self._build()
            self.classifier = nn.Linear(config.hidden_size, task.num_labels)
        if seed is not None:
            self._draw(seed)

    @abstractmethod
    def _build(self) -> None:
        """The encoder, and what is between it and the classifier."""

    @abstractmethod
    def _draw(self, seed: int) -> None:
        """First weights, as the family's pretraining draws them."""

    @abstractmethod
    def pooled(self, batch: TokenBatch) -> Tensor:
        """What a sequence's class is read from, `B,D`."""

    def predictions(self, batch: ClassificationBatch) -> dict[str, int]:
        return {"label": len(batch)}

    def forward(self, batch: ClassificationBatch) -> Losses:
        logits_BC = self.logits(batch.tokens).float()
        loss = F.cross_entropy(logits_BC, batch.labels_B)
        correct = (logits_BC.argmax(-1) == batch.labels_B).sum()
        counts = {"label_correct": correct, "label_count": correct.new_tensor(len(batch))}
        return Losses(total=loss, parts={"label": loss}, counts=counts)

    def logits(self, batch: TokenBatch) -> Tensor:
        """`B,C`."""
        logits_BC: Tensor = self.classifier(self._dropped(self.pooled(batch)))
        return logits_BC

    def _dropped(self, x_BD: Tensor) -> Tensor:
        return drop(x_BD, self.task.dropout if self.training else 0.0)


class BertForClassification(Classifier):
    config: BertConfig | SpanBertConfig
    encoder = "bert"

    def _build(self) -> None:
        self.bert = Bert(self.config, seed=None)

    def _draw(self, seed: int) -> None:
        initialize(self, seed=seed, std=self.config.initializer_std)

    def pooled(self, batch: TokenBatch) -> Tensor:
        return self.bert.pooled(self.bert(batch), batch.cu_seqlens)


class SpanBertForClassification(BertForClassification):
    """A BERT whose pooler was not pretrained."""

    fresh = ("pooler",)

    def _draw(self, seed: int) -> None:
        initialize_normal(self, seed=seed, std=self.config.initializer_std)


class AlbertForClassification(Classifier):
    config: AlbertConfig
    encoder = "albert"

    def _build(self) -> None:
        self.albert = Albert(self.config)

    def _draw(self, seed: int) -> None:
        initialize(self, seed=seed, std=self.config.initializer_std)

    def pooled(self, batch: TokenBatch) -> Tensor:
        return self.albert.pooled(self.albert(batch), batch.cu_seqlens)


class RobertaForClassification(Classifier):
    config: RobertaConfig
    encoder = "roberta"

    def _build(self) -> None:
        self.roberta = Roberta(self.config)
        self.dense = nn.Linear(self.config.hidden_size, self.config.hidden_size)

    def _draw(self, seed: int) -> None:
        initialize_normal(self, seed=seed, std=self.config.initializer_std)
        with torch.no_grad():
            self.roberta.embeddings.token.weight[self.config.pad_id] = 0
            self.roberta.embeddings.position.weight[self.config.pad_id] = 0

    def pooled(self, batch: TokenBatch) -> Tensor:
        first_BD = self.roberta(batch)[batch.cu_seqlens[:-1].long()]
        return torch.tanh(self.dense(self._dropped(first_BD)))


CLASSIFIERS: Mapping[type, type[Classifier]] = {
    BertConfig: BertForClassification,
    RobertaConfig: RobertaForClassification,
    AlbertConfig: AlbertForClassification,
    SpanBertConfig: SpanBertForClassification,
}


def classifier_of(config: Classifiable, task: ClassifyConfig, *, seed: int | None = 0) -> Classifier:
    """The family's network for a task. Raises ValueError for a family that has none."""
    require_classifiable(config)
    return CLASSIFIERS[type(config)](config, task, seed=seed)


def require_classifiable(config: object) -> None:
    if type(config) not in CLASSIFIERS:
        known = ", ".join(kind.__name__ for kind in CLASSIFIERS)
        raise ValueError(f"a {type(config).__name__} does not classify texts; fine-tuned are {known}")


def load_encoder(model: Classifier, weights: Mapping[str, Tensor]) -> None:
    """Copy the encoder out of the weights of a pretrained model (its names begin with "bert.", say); what pretraining has
    not stays as it is.

    Raises ValueError naming the first tensor that is missing, unknown or of another shape.
    """
    encoder, prefix = model.get_submodule(model.encoder), f"{model.encoder}."
    own = {name: tensor for name, tensor in encoder.state_dict().items() if not _below(name, model.fresh)}
    given = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix) and not _below(name.removeprefix(prefix), model.fresh)
    }
    for name in [*own, *(name for name in given if name not in own)]:
        if name not in given or name not in own:
            where = "these weights" if name not in given else "this model"
            raise ValueError(
                f"tensor {prefix}{name} is not in {where}; fine-tune with the encoder it was pretrained as"
            )
        if given[name].shape != own[name].shape:
            raise ValueError(
                f"tensor {prefix}{name} is {tuple(given[name].shape)} in these weights and {tuple(own[name].shape)} "
                f"in this model; use the {type(model.config).__name__} it was pretrained with"
            )
    encoder.load_state_dict(given, strict=False)


def _below(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`macro_f1` is the mean over the classes that occur among labels or predictions."""

    accuracy: float
    macro_f1: float
    confusion_CC: Ints  # row: label, column: prediction; counts of examples


def score(predictions: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], num_labels: int) -> Scores:
    """Predicted and true class of each example. Raises ValueError without examples."""
    if not len(labels) or len(labels) != len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions for {len(labels)} labels: give one for each, and at least one"
        )
    pairs = np.asarray(labels, np.int64) * num_labels + predictions
    confusion = np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)
    hits, appearances = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    occurring = appearances > 0
    return Scores(
        accuracy=float(hits.sum() / len(labels)),
        macro_f1=float((2 * hits[occurring] / appearances[occurring]).mean()),
        confusion_CC=confusion,
    )
