"""Optimizers, each a type of `TrainConfig.optimizer`, and which parameters they shrink.

`TrainConfig` keeps what means the same to all of them (rate, `weight_decay`; `betas` and `eps` of those with moments),
so `--set pretrain.train.optimizer.type=Lamb` changes the optimizer and nothing else. Weight decay is decoupled
everywhere, and off for everything that is not a matrix: LayerNorm weights and biases (BERT, `optimization.py`).

`whole_tensors` says that an optimizer needs figures of whole tensors (optimizers/whole_tensors.py).

AdamW is torch's fused one: at 20 million parameters on one core a step takes 9.8 ms, as DeepSpeedCPUAdam does (10.2,
after 53 s of compiling), against 69 ms for torch's default; and it resumes bitwise. The others are in optimizers/.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from training.optimizers.adagrad import AdagradOptimizer
from training.optimizers.lamb import LambOptimizer
from training.optimizers.stable_adamw import StableAdamWOptimizer
from training.optimizers.uncorrected_adamw import UncorrectedAdamW

Group = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """`betas` and `eps` of an optimizer that averages gradients and their squares."""

    betas: tuple[float, float]
    eps: float

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"betas {list(self.betas)}: each is the share an average keeps; give 0 to below 1"
            )
        if not self.eps > 0:
            raise ValueError(f"eps {self.eps}: it keeps a division finite; give a small positive number")


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Loshchilov & Hutter 2019, arXiv:1711.05101. BERT was trained without `bias_correction`, which later work
    found to make fine-tuning on little data fail at random (arXiv:2006.05987).
    """

    whole_tensors: ClassVar[bool] = False
    bias_correction: bool = True

    def build(self, groups: list[Group], learning_rate: float, moments: Moments) -> torch.optim.Optimizer:
        kind = torch.optim.AdamW if self.bias_correction else UncorrectedAdamW
        return kind(groups, lr=learning_rate, betas=moments.betas, eps=moments.eps, fused=True)


@dataclass(frozen=True, kw_only=True)
class Lamb:
    """You et al. 2020. `Lamb(bias_correction=False, adapt_vectors=False)` is what ALBERT's code does."""

    whole_tensors: ClassVar[bool] = True
    bias_correction: bool = True
    adapt_vectors: bool = True

    def build(self, groups: list[Group], learning_rate: float, moments: Moments) -> torch.optim.Optimizer:
        groups = [{**g, "adapt": self.adapt_vectors or g["params"][0].ndim > 1} for g in groups]
        return LambOptimizer(
            groups,
            lr=learning_rate,
            betas=moments.betas,
            eps=moments.eps,
            bias_correction=self.bias_correction,
        )


@dataclass(frozen=True, kw_only=True)
class Adagrad:
    """Duchi et al. 2011, as ELMo used it, with `weight_decay` 0. It has no moments: `betas` and `eps` do not apply."""

    whole_tensors: ClassVar[bool] = False
    initial_accumulator: float = 1.0

    def __post_init__(self) -> None:
        if not self.initial_accumulator > 0:
            raise ValueError(
                f"initial_accumulator {self.initial_accumulator}: the first gradients are divided by its root; "
                "give a positive number"
            )

    def build(self, groups: list[Group], learning_rate: float, moments: Moments) -> torch.optim.Optimizer:
        return AdagradOptimizer(groups, lr=learning_rate, initial_accumulator=self.initial_accumulator)


@dataclass(frozen=True, kw_only=True)
class StableAdamW:
    """Wortsman et al. 2023. It clips updates itself: ModernBERT trains with it and `clip_norm` None."""

    whole_tensors: ClassVar[bool] = True

    def build(self, groups: list[Group], learning_rate: float, moments: Moments) -> torch.optim.Optimizer:
        return StableAdamWOptimizer(groups, lr=learning_rate, betas=moments.betas, eps=moments.eps)


Optimizer = AdamW | Lamb | Adagrad | StableAdamW


def adamw(
    model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """AdamW with bias correction for a model."""
    return AdamW().build(decay_groups(model, weight_decay), learning_rate, Moments(betas=betas, eps=eps))


def decay_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """Two parameter groups: matrices with `weight_decay`, vectors and scalars without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    groups: list[Group] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
