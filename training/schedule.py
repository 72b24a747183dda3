"""The learning rate as a pure function of the step: nothing to store, nothing to restore, the same after any restart.

    factor 1 |    /\\
             |   /  \\__          warm-up rises linearly from 1/(w+1) and reaches the peak at step w,
             |  /      \\__       then the decay takes over; no step is ever taken at rate 0
             +-/----------\\--
               0   w        steps

BERT (Devlin et al. 2019, appendix A.2; `optimization.py`) warms up linearly and decays linearly to zero.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Falls evenly from the peak to `final_share` of it, which would be reached one step after the last."""

    final_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.final_share <= 1:
            raise ValueError(
                f"final_share {self.final_share}: it is a share of the peak; give a value from 0 to 1"
            )

    def factor(self, progress: float) -> float:
        return 1.0 - (1.0 - self.final_share) * progress


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Stays at the peak."""

    def factor(self, progress: float) -> float:
        return 1.0


Decay = Linear | Constant


def factor_at(step: int, *, steps: int, warmup_steps: int, decay: Decay) -> float:
    """The share of the peak rate that update number `step` (from 0) of `steps` uses."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return decay.factor((step - warmup_steps) / max(1, steps - warmup_steps))
