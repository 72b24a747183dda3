"""Highway layers (Srivastava et al. 2015, arXiv:1505.00387): a gate decides, feature by feature, what is
carried through unchanged.

    y = gate * relu(transform(x)) + (1 - gate) * x,   gate = sigmoid(W x + b)

The gate's bias starts at -2, so that at first nearly everything is carried. (bilm-tf calls this gate, which
opens to the transform, the carry gate; the paper calls it T.)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

FIRST_GATE_BIAS = -2.0


class Highway(nn.Module):
    """`x_UD -> x_UD`; both projections are one matrix, the transform's rows first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 2 * size)

    def first_weights(self, generator: Callable[[str], torch.Generator]) -> None:
        """Normal with deviation 1 / sqrt(size); the transform's bias 0."""
        size = self.linear.in_features
        nn.init.normal_(self.linear.weight, std=size**-0.5, generator=generator("linear.weight"))
        nn.init.zeros_(self.linear.bias)
        nn.init.constant_(self.linear.bias.data[size:], FIRST_GATE_BIAS)

    def forward(self, x_UD: Tensor) -> Tensor:
        transformed_UD, gate_UD = self.linear(x_UD).chunk(2, -1)
        return torch.lerp(x_UD, transformed_UD.relu(), gate_UD.sigmoid())
