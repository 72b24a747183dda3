"""StableAdamW (Wortsman et al. 2023, arXiv:2304.13013, algorithm 2): AdamW that takes a shorter step where it is surprised.

    surprise = sqrt(mean over the tensor of g^2 / max(v, eps^2))        learning rate = its own / max(1, surprise)

A gradient much larger than the second moment remembers makes AdamW overshoot; here that one tensor moves less, so no
clipping of the gradient's norm is needed (ModernBERT, appendix D.2). Both moments are corrected by averaging with
beta * (1 - beta^(t-1)) / (1 - beta^t), which keeps them corrected at every update.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from training.optimizers.whole_tensors import WholeTensorOptimizer


class StableAdamWOptimizer(WholeTensorOptimizer):
    def __init__(self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    def step_group(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        eps = group["eps"]
        first, second, updates = self.moments(parameters)
        fresh1, fresh2 = (_weight_of_the_newest(beta, updates) for beta in group["betas"])
        torch._foreach_lerp_(first, gradients, fresh1)
        torch._foreach_mul_(second, 1 - fresh2)
        torch._foreach_addcmul_(second, gradients, gradients, fresh2)
        roots = list(torch._foreach_sqrt(second))
        surprises = list(torch._foreach_div(gradients, list(torch._foreach_clamp_min(roots, eps))))
        rms = (self.square_sums(parameters, surprises) / self.sizes(parameters)).sqrt()
        factors = 1 / rms.clamp(min=1)
        steps = list(torch._foreach_div(first, list(torch._foreach_add(roots, eps))))
        torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
        self.scale(parameters, steps, factors)
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])


def _weight_of_the_newest(beta: float, updates: int) -> float:
    return (1 - beta) / (1 - beta**updates)
