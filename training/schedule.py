"""The learning rate as a pure function of the step: nothing to store, nothing to restore, the same after any restart.

    factor 1 |    /\\
             |   /  \\__          warm-up rises linearly from 1/(w+1) and reaches the peak at step w,
             |  /      \\__       then the decay takes over; no step is ever taken at rate 0
             +-/----------\\--
               0   w        steps

BERT (Devlin et al. 2019, appendix A.2; `optimization.py`) warms up linearly and decays linearly to zero; GPT-1 follows a
cosine, BART a polynomial, the Transformer and MASS the inverse square root of the step.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class Moment(NamedTuple):
    """Update number `step` (from 0) of `steps`, the first `warmup_steps` of which are warm-up that is over by now."""

    step: int
    steps: int
    warmup_steps: int

    @property
    def progress(self) -> float:
        """The share of the decay that is behind us: 0 at its first step, below 1 at the last."""
        return (self.step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Falls evenly from the peak to `final_share` of it, which would be reached one step after the last."""

    final_share: float = 0.0

    def __post_init__(self) -> None:
        _check_share("final_share", self.final_share)

    def factor(self, moment: Moment) -> float:
        return 1.0 - (1.0 - self.final_share) * moment.progress


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Stays at the peak."""

    def factor(self, moment: Moment) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from the peak to `final_share` of it (Loshchilov & Hutter 2017, without restarts)."""

    final_share: float = 0.0

    def __post_init__(self) -> None:
        _check_share("final_share", self.final_share)

    def factor(self, moment: Moment) -> float:
        half = 0.5 * (1 + math.cos(math.pi * moment.progress))
        return self.final_share + (1 - self.final_share) * half


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """A power of what is left of the decay, from the peak to `final_share` of it; power 1 is linear."""

    power: float = 2.0
    final_share: float = 0.0

    def __post_init__(self) -> None:
        _check_share("final_share", self.final_share)
        if not self.power > 0:
            raise ValueError(f"power {self.power}: the rate would not fall; give a positive number")

    def factor(self, moment: Moment) -> float:
        left: float = (1 - moment.progress) ** self.power
        return self.final_share + (1 - self.final_share) * left


@dataclass(frozen=True, kw_only=True)
class InverseSquareRoot:
    """sqrt(w+1) / sqrt(step+1), so it meets the warm-up at the peak and does not know the run's end (Vaswani et al. 2017)."""

    def factor(self, moment: Moment) -> float:
        return math.sqrt((moment.warmup_steps + 1) / (moment.step + 1))


@dataclass(frozen=True, kw_only=True)
class OneMinusSquareRoot:
    """Falls fast, then slowly: 1 - sqrt(progress), the cooldown that did best in Hägele et al. 2024 (arXiv:2405.18392)."""

    final_share: float = 0.0

    def __post_init__(self) -> None:
        _check_share("final_share", self.final_share)

    def factor(self, moment: Moment) -> float:
        return 1.0 - (1.0 - self.final_share) * math.sqrt(moment.progress)


Cooldown = Linear | Cosine | Polynomial | OneMinusSquareRoot


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """At the peak until the last `cooldown_share` of all steps, then down (Hu et al. 2024, arXiv:2404.06395).

    A checkpoint from the plateau can be trained on as if the run had always been longer.
    """

    cooldown_share: float = 0.1
    cooldown: Cooldown = field(default_factory=OneMinusSquareRoot)

    def __post_init__(self) -> None:
        _check_share("cooldown_share", self.cooldown_share)

    def factor(self, moment: Moment) -> float:
        first = max(moment.warmup_steps, moment.steps - round(self.cooldown_share * moment.steps))
        if moment.step < first:
            return 1.0
        # from the step before the first on, so that the first step of the cooldown is below the peak already
        return self.cooldown.factor(Moment(moment.step + 1, moment.steps + 1, first))


Decay = Linear | Constant | Cosine | Polynomial | InverseSquareRoot | WarmupStableDecay


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        whole = "the peak" if name == "final_share" else "all steps"
        raise ValueError(f"{name} {share}: it is a share of {whole}; give a value from 0 to 1")


def factor_at(step: int, *, steps: int, warmup_steps: int, decay: Decay) -> float:
    """The share of the peak rate that update number `step` (from 0) of `steps` uses."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return decay.factor(Moment(step, steps, warmup_steps))
