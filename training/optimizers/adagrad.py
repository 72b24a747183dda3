"""Adagrad (Duchi et al. 2011) as TensorFlow has it, which ELMo was trained with (`bilm/training.py`).

    sum <- sum + g^2        x <- x - learning_rate * g / sqrt(sum)

The sum begins at `initial_accumulator` (ELMo: 1) and nothing is added under the root, so the first steps are not huge.
torch's own begins at zero and adds its eps after the root; DeepSpeed's ZeRO also replaces that one by a new instance
without our parameter groups.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from training.optimizers.groupwise import GroupwiseOptimizer


class AdagradOptimizer(GroupwiseOptimizer):
    def __init__(self, params: Iterable[Any], *, lr: float, initial_accumulator: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self._initial_accumulator = initial_accumulator

    def step_group(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["sum"] = torch.full_like(parameter, self._initial_accumulator)
            state["step"] += 1
        sums = [self.state[p]["sum"] for p in parameters]
        torch._foreach_addcmul_(sums, gradients, gradients)
        steps = list(torch._foreach_div(gradients, list(torch._foreach_sqrt(sums))))
        torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])
