"""Text classification: one label for a text or a pair of texts (BERT, section 4.1): pooler, dropout, one
linear layer.

    text, maybe its pair -> [CLS] text [SEP] (pair [SEP]) -> B,C logits -> accuracy, macro F1, confusion

Letters: `B` examples, `T` tokens of all of them, `C` classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.ragged import Ints, offsets_of, ranges
from corpus.wordpiece.encode import Encoder
from training.batches import ClassificationBatch, TokenBatch
from training.losses import Losses
from training.models.bert import Bert, BertConfig
from training.models.initialize import initialize
from training.models.layers.dropout import drop


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


class BertForClassification(nn.Module):
    """A class for each sequence: `ClassificationBatch -> Losses`. With seed None, weights are left on the
    meta device.
    """

    def __init__(self, config: BertConfig, task: ClassifyConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        if task.max_seq_len > config.max_seq_len:
            raise ValueError(
                f"task.max_seq_len {task.max_seq_len}: this model reads at most {config.max_seq_len} tokens; "
                "give that or less"
            )
        self.config = config
        self.task = task
        with torch.device("meta"):
            self.bert = Bert(config, seed=None)
            self.classifier = nn.Linear(config.hidden_size, task.num_labels)
        if seed is not None:
            initialize(self, seed=seed, std=config.initializer_std)

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
        pooled_BD = self.bert.pooled(self.bert(batch), batch.cu_seqlens)
        return self.classifier(drop(pooled_BD, self.task.dropout if self.training else 0.0))


def load_encoder(model: BertForClassification, weights: Mapping[str, Tensor]) -> None:
    """Copy the encoder, pooler included, out of the weights of a pretrained model (its names begin with
    "bert."); the classifier stays.

    Raises ValueError naming the first tensor that is missing, unknown or of another shape.
    """
    own = model.bert.state_dict()
    given = {
        name.removeprefix("bert."): tensor for name, tensor in weights.items() if name.startswith("bert.")
    }
    for name in [*own, *(name for name in given if name not in own)]:
        if name not in given or name not in own:
            where = "these weights" if name not in given else "this model"
            raise ValueError(
                f"tensor bert.{name} is not in {where}; fine-tune with the encoder it was pretrained as"
            )
        if given[name].shape != own[name].shape:
            raise ValueError(
                f"tensor bert.{name} is {tuple(given[name].shape)} in these weights and {tuple(own[name].shape)} "
                "in this model; use the BertConfig it was pretrained with"
            )
    model.bert.load_state_dict(given)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Encoded texts with their labels, as columns; any of them make a batch."""

    tokens_T: Ints
    offsets: Ints  # (B + 1,)
    segment_b: Ints  # (B,) where each second text begins; the length where there is none
    labels: Ints  # (B,)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: npt.NDArray[np.integer]) -> ClassificationBatch:
        """The examples at `index`, in that order."""
        lengths = np.diff(self.offsets)[index]
        tokens = TokenBatch.from_columns(
            tokens=self.tokens_T[ranges(self.offsets[index], lengths)],
            offsets=offsets_of(lengths),
            segment_b=self.segment_b[index],
        )
        return ClassificationBatch(tokens=tokens, labels_B=torch.from_numpy(self.labels[index]))


def encode(
    texts: pa.Array | Sequence[str],
    labels: npt.NDArray[np.integer],
    *,
    encoder: Encoder,
    config: ClassifyConfig,
    pairs: pa.Array | Sequence[str] | None = None,
) -> Examples:
    """[CLS] text [SEP] or [CLS] text [SEP] pair [SEP] for each text; what is too long loses tokens at its
    end, the longer of a pair first.

    Raises ValueError for a label that is not in 0 ... num_labels - 1.
    """
    classes: Ints = np.asarray(labels, np.int64)
    if classes.size and not (classes.min() >= 0 and classes.max() < config.num_labels):
        wrong = classes[(classes < 0) | (classes >= config.num_labels)][0]
        raise ValueError(
            f"label {wrong}: labels are 0 to {config.num_labels - 1}; give num_labels as many as there are"
        )
    first = encoder.encode(texts)
    first_lengths = np.diff(first.offsets)
    if pairs is None:
        kept = np.minimum(first_lengths, config.max_seq_len - 2)
        tokens, offsets = _row(first.tokens_T, first.offsets, kept, encoder)
        return Examples(tokens_T=tokens, offsets=offsets, segment_b=np.diff(offsets), labels=classes)
    second = encoder.encode(pairs)
    room = config.max_seq_len - 3
    first_kept, second_kept = shorten(first_lengths, np.diff(second.offsets), room)
    front, front_offsets = _row(first.tokens_T, first.offsets, first_kept, encoder)
    back, back_offsets = _row(second.tokens_T, second.offsets, second_kept, encoder, opened=False)
    lengths = np.diff(front_offsets) + np.diff(back_offsets)
    offsets = offsets_of(lengths)
    tokens = np.empty(offsets[-1], np.int64)
    segment_b = np.diff(front_offsets)
    tokens[ranges(offsets[:-1], segment_b)] = front
    tokens[ranges(offsets[:-1] + segment_b, np.diff(back_offsets))] = back
    return Examples(tokens_T=tokens, offsets=offsets, segment_b=segment_b, labels=classes)


def shorten(first: Ints, second: Ints, room: int) -> tuple[Ints, Ints]:
    """Lengths left when tokens are taken one by one from the longer of two texts, from the second when equal,
    until both fit `room`.
    """
    first_kept = np.minimum(first, np.maximum(room - second, room - room // 2))
    return first_kept, np.minimum(second, room - first_kept)


def _row(
    tokens: npt.NDArray[np.integer], offsets: Ints, kept: Ints, encoder: Encoder, opened: bool = True
) -> tuple[Ints, Ints]:
    """The first `kept` tokens of each row between [CLS] (if `opened`) and [SEP]."""
    before = int(opened)
    out_offsets = offsets_of(kept + before + 1)
    out = np.full(out_offsets[-1], encoder.sep_id, np.int64)
    if opened:
        out[out_offsets[:-1]] = encoder.cls_id
    out[ranges(out_offsets[:-1] + before, kept)] = tokens[ranges(offsets[:-1], kept)]
    return out, out_offsets


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
