"""What a version must reach before it may serve: a pure comparison of scores."""

import math
from dataclasses import dataclass

from serving.registry import Version


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a candidate must reach: `floor` where one is stated, otherwise what the current version has.

    `metric` is a name in `Version.scores`; higher is better. A metric that is missing or not finite never passes, and
    neither does one that cannot be compared because the current version lacks it.
    """

    metric: str
    floor: float | None = None

    def __post_init__(self) -> None:
        if not self.metric:
            raise ValueError("metric is empty; name one of the candidate's scores, for example 'accuracy'")
        if self.floor is not None and not math.isfinite(self.floor):
            raise ValueError(
                f"floor is {self.floor}; it must be a finite number, or None to compare with the current version"
            )

    def judge(self, candidate: Version, current: Version | None) -> "Verdict":
        """Compare; never raises."""
        score = _score(candidate, self.metric)
        if score is None:
            known = ", ".join(sorted(candidate.scores)) or "none"
            return Verdict(
                False,
                f"{candidate.reference} has no score {self.metric!r} (it has: {known}); evaluate it first",
            )
        if self.floor is not None:
            return Verdict(
                score >= self.floor,
                f"{self.metric} {score:.4f} {_against(score, self.floor)} the floor {self.floor:.4f}",
            )
        if current is None:
            return Verdict(True, f"{self.metric} {score:.4f}; nothing was serving before")
        held = _score(current, self.metric)
        if held is None:
            return Verdict(
                False,
                f"{current.reference} has no score {self.metric!r} to compare {score:.4f} with; state a floor instead",
            )
        return Verdict(
            score >= held,
            f"{self.metric} {score:.4f} {_against(score, held)} {held:.4f} of {current.reference}",
        )


@dataclass(frozen=True)
class Verdict:
    passed: bool
    reason: str


def _score(version: Version, metric: str) -> float | None:
    value = version.scores.get(metric)
    return None if value is None or not math.isfinite(value) else float(value)


def _against(score: float, held: float) -> str:
    return "reaches" if score >= held else "is below"
