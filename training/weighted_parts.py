"""The scalar whose gradient a step follows: each part of the loss weighted by its share of the global batch's predictions."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from training.losses import Losses


class Batch(Protocol):
    """What a model's training forward reads."""

    @property
    def num_tokens(self) -> int: ...

    def to(self, device: torch.device | str) -> Self: ...


class WeightedParts(nn.Module):
    """The scalar DeepSpeed differentiates: the model's parts, weighted; the rest of its losses stay at hand here."""

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.model, self._autocast = model, autocast
        self.losses: Losses

    def forward(self, batch: Batch, shares: Mapping[str, float], scale: float) -> Tensor:
        dtype = self._autocast
        device = next(self.model.parameters()).device.type
        with nullcontext() if dtype is None else torch.autocast(device, dtype):
            self.losses = self.model(batch)
        if scale == 1.0 and all(share == 1.0 for share in shares.values()):
            return self.losses.total
        parts = self.losses.parts
        assert all(parts[part].requires_grad for part in shares), (
            "pieces are weighed part by part: parts keep their graph"
        )
        terms = [parts[part] * (share * scale) for part, share in shares.items()]
        return torch.stack(terms).sum()
