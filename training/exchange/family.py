"""What folder.py asks of a family's file: how transformers names its architectures, sizes and tensors.

To add a family: a module with these names, and its line in `folder.FAMILIES`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from training.batches import TokenBatch

Facts = Mapping[str, Any]  # the content of a config.json
Model = Any  # a network of training/models/ or training/tasks/; callers ask which with isinstance


class ConfigOfNetwork(Protocol):
    def network(self, *, seed: int | None = 0) -> nn.Module: ...


class Exchanged(Protocol):
    """A module of this package."""

    @property
    def MODEL_TYPE(self) -> str:
        """`model_type` in a config.json."""
        ...

    @property
    def ARCHITECTURES(self) -> tuple[str, ...]:
        """The classes there whose folders are read; the first is what is written."""
        ...

    def their_config(self, config: Any) -> dict[str, Any]:
        """Sizes as a config.json has them, without model_type and architectures."""
        ...

    def our_config(self, facts: Facts, source: str) -> ConfigOfNetwork:
        """Raises ValueError, one sentence that names `source`, if these are not sizes of our network."""
        ...

    def to_theirs(self, model: Any) -> dict[str, Tensor]:
        """The weights under their names."""
        ...

    def from_theirs(self, tensors: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
        """The weights of `config.network()` under our names, all of them.

        Raises ValueError for the first that is missing, has another shape or is unknown.
        """
        ...

    def outputs(self, model: Any) -> dict[str, Tensor]:
        """Logits of a network in eval mode for fixed inputs, by what they predict; compared before an export counts."""
        ...


def probe(model: nn.Module, vocab_size: int, max_seq_len: int, *, pairs: bool) -> TokenBatch:
    """Random sequences of several lengths, on the model's device; with `pairs`, the second half is a second text."""
    noise = np.random.default_rng(0)
    lengths = sorted({min(length, max_seq_len) for length in (3, 17, 70)})
    rows = [noise.integers(0, vocab_size, length) for length in lengths]
    second = [length // 2 for length in lengths] if pairs else None
    return TokenBatch.from_sequences(rows, second).to(next(model.parameters()).device)


def everywhere(batch: TokenBatch) -> Tensor:
    """The index of every token of a stream."""
    return torch.arange(batch.num_tokens, device=batch.tokens_T.device)
