"""The best model in a given time: as many steps as it allows, and all of the cooldown.

    rate   |  ____________________
           | /                    \\          the plateau lasts until (1 - cooldown share) of the seconds are used;
           |/                      \\__       then the number of steps is decided, once, and recorded

Which step the cooldown begins at is read off the clock, so two runs differ; but it is in every checkpoint from then on,
with the seconds used so far, so a killed run keeps to it (24hBERT, Izsak et al. 2021, arXiv:2104.07705, and Cramming, Geiping &
Goldstein 2022, arXiv:2212.14034, record consumed time likewise).
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`seconds` of training, all restarts together: not the start of processes, nor what a kill lost."""

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"seconds {self.seconds}: give the time there is, a positive number")

    def over(self, consumed_seconds: float, cooldown_share: float) -> bool:
        """Whether the plateau has to end now."""
        return consumed_seconds >= (1 - cooldown_share) * self.seconds


def steps_in_all(step: int, *, cooldown_share: float, warmup_steps: int, most: int) -> int:
    """How many steps a run has whose cooldown begins at `step`, if all steps take the same time."""
    whole = round(step / (1 - cooldown_share)) if cooldown_share < 1 else most
    return min(most, max(whole, step + 1, warmup_steps + 1))


class Stopwatch:
    """Seconds used by this run in all its processes, one after another."""

    def __init__(self, before: float) -> None:
        self._before, self._began = before, now()

    def seconds(self) -> float:
        return self._before + now() - self._began


def now() -> float:
    return time.monotonic()
