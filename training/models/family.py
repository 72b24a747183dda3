"""The families there are: one of these configs is a recipe's `pretrain.model`.

A family is a config, in the file of its network, with
    reads                   the kind of instances it is trained on (corpus/instance_kinds.py)
    network(seed=...)       what is pretrained: `forward(batch) -> Losses`, `predictions(batch) -> {part: count}`
    vocab_size, hidden_size, max_seq_len
and a line here. A network that reads in order (memory, LSTM states) also has `reads_in_order = True`.
"""

from typing import Any, Protocol

from training.losses import Losses
from training.models.bert import BertConfig

Family = BertConfig  # a union, one per family


class Pretrainable(Protocol):
    """What the engine needs of a network."""

    def predictions(self, batch: Any) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over; without a tensor leaving the device."""
        ...

    def __call__(self, batch: Any) -> Losses: ...


def useful_threads(config: Family) -> int | None:
    """How many threads a training process can use on a CPU; None: all there are.

    Below a hidden size of 200 the products are so small that two threads wait for each other longer than they compute:
    the quickstart's 2 x 128 trained at 10,500 tokens/s on one thread, at 6,400 to 8,800 on two (one run each).
    """
    return 1 if config.hidden_size < 200 else None
