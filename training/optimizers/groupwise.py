"""An optimizer that updates one parameter group at a time, all its tensors at once. ZeRO steps group by group, too."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor


class GroupwiseOptimizer(torch.optim.Optimizer):
    """`state[parameter]["step"]` counts the updates; what else is there has the parameter's shape."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self.step_group(group, parameters, [p.grad for p in parameters])

    @abstractmethod
    def step_group(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Update the parameters in place."""
