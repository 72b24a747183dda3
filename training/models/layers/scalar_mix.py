"""ELMo as a task reads it: a weighted sum of the layers (Peters et al. 2018, equation 1).

    gamma * sum over layers j of softmax(s)_j h_j,    s starts at 0 (all layers alike), gamma at 1

With `layer_norm` each layer is normalised before it is weighted, token by token and without weights of its
own (Ba et al. 2016, as the paper says). The original code takes mean and variance over all tokens of the
batch, so that what a sentence gives depends on the sentences beside it; here it does not.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-12


class ScalarMix(nn.Module):
    """`num_layers` tensors `x_TD` -> one; works as well on the `states` of any encoder."""

    def __init__(self, num_layers: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_layers))
        self.gamma = nn.Parameter(torch.ones(()))
        self.layer_norm = layer_norm

    def forward(self, states: Iterable[Tensor]) -> Tensor:
        """Raises ValueError if there are not `num_layers` of them."""
        layers = list(states)
        if len(layers) != len(self.scores):
            raise ValueError(
                f"{len(layers)} layers for a mix of {len(self.scores)}; "
                f"build it with num_layers={len(layers)}"
            )
        if self.layer_norm:
            layers = [F.layer_norm(x_TD, x_TD.shape[-1:], eps=NORM_EPS) for x_TD in layers]
        weights = torch.softmax(self.scores, 0) * self.gamma
        return sum(
            (weight * x_TD for weight, x_TD in zip(weights, layers, strict=True)), start=weights.new_zeros(())
        )
