"""LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2): Adam whose step is as long as the tensor it moves.

    r = m / (sqrt(v) + eps) + weight_decay * x          x <- x - learning_rate * |x| / |r| * r

The ratio is 1 where either norm is zero. ALBERT's code (`lamb_optimizer.py`) differs from the paper in two ways, which
are two fields here: its moments are not corrected for starting at zero, and vectors (LayerNorm, biases) keep ratio 1.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from training.optimizers.whole_tensors import WholeTensorOptimizer


class LambOptimizer(WholeTensorOptimizer):
    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        bias_correction: bool,
    ) -> None:
        """A group may say `adapt`: whether its tensors have a trust ratio of their own (yes, unless it says no)."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "adapt": True})
        self._bias_correction = bias_correction

    def step_group(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        first, second, updates = self.moments(parameters)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        corrections = (1 - beta1**updates, 1 - beta2**updates) if self._bias_correction else (1.0, 1.0)
        denominators = list(torch._foreach_sqrt(second))
        torch._foreach_div_(denominators, corrections[1] ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        steps = list(torch._foreach_div(first, denominators))
        torch._foreach_div_(steps, corrections[0])
        torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
        if group["adapt"]:
            lengths = self.square_sums(parameters, parameters).sqrt()
            step_lengths = self.square_sums(parameters, steps).sqrt()
            ratios = torch.where((lengths > 0) & (step_lengths > 0), lengths / step_lengths, 1.0)
            self.scale(parameters, steps, ratios)
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])
