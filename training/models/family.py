"""The families there are: one of these configs is a recipe's `pretrain.model`.

A family is a config, in the file of its network, with
    reads                   the kind of instances it is trained on (corpus/instance_kinds.py)
    network(seed=...)       what is pretrained: `forward(batch) -> Losses`, `predictions(batch) -> {part: count}`
    vocab_size, hidden_size, max_seq_len
and a line here. A network that reads in order (memory, LSTM states) also has `reads_in_order = True`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from corpus.vocabulary.columns import Encoder
from training.losses import Losses
from training.models.albert import AlbertConfig
from training.models.bart import BartConfig
from training.models.bert import BertConfig
from training.models.elmo import ElmoConfig, ElmoForPretraining
from training.models.gpt import GptConfig
from training.models.gpt2 import Gpt2Config
from training.models.mass import MassConfig, MassTranslationConfig
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.models.xlnet import XLNetConfig

Family = (
    BertConfig
    | RobertaConfig
    | AlbertConfig
    | SpanBertConfig
    | GptConfig
    | Gpt2Config
    | BartConfig
    | MassConfig
    | MassTranslationConfig
    | XLNetConfig
    | ElmoConfig
)


class Pretrainable(Protocol):
    """What the engine needs of a network."""

    def predictions(self, batch: Any) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over; without a tensor leaving the device."""
        ...

    def __call__(self, batch: Any) -> Losses: ...


def require_vocabulary(config: Family, vocabulary: Encoder) -> None:
    """Raise ValueError if a network of this shape cannot read what is encoded with the vocabulary."""
    wanted = {"vocab_size": vocabulary.vocab_size}
    if isinstance(config, RobertaConfig):
        wanted["pad_id"] = vocabulary.pad_id
    if isinstance(config, BartConfig):
        wanted["start_id"] = vocabulary.sep_id
    if isinstance(config, MassTranslationConfig):
        wanted["mask_id"] = vocabulary.mask_id
    for name, value in wanted.items():
        if (given := getattr(config, name)) != value:
            raise ValueError(
                f"model.{name} {given}: with this vocabulary it is {value}; set pretrain.model.{name}={value}"
            )


def give_words(network: nn.Module, vocabulary: Sequence[str]) -> None:
    """A network that spells words is given them; the others know them by number."""
    if isinstance(network, ElmoForPretraining):
        network.read_words(vocabulary)


def reads_in_order(config: Family) -> bool:
    """Whether a step goes on where the step before ended: it carries memory, or the states of an LSTM."""
    return isinstance(config, XLNetConfig | ElmoConfig)


def useful_threads(config: Family) -> int | None:
    """How many threads a training process can use on a CPU; None: all there are.

    Below a hidden size of 200 the products are so small that two threads wait for each other longer than they compute:
    the quickstart's 2 x 128 trained at 10,500 tokens/s on one thread, at 6,400 to 8,800 on two (one run each).
    """
    return 1 if config.hidden_size < 200 else None
