"""Did pretraining help? Two sets of fine-tuning runs on the same examples, seed by seed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.artifacts import Artifact, Counts
from infra.output import Output
from training.finetune import SCORES

COMPARISON = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The score to compare; "test_accuracy" is on files neither side has seen in any form."""

    metric: str = "test_accuracy"


def compare_runs(
    config: CompareConfig, *, with_pretraining: Artifact, from_scratch: Artifact, out: Output
) -> Counts:
    """Write comparison.json: scores by seed, mean and spread of each side, the gain and its standard error.

    `clear` is true when the gain is more than two standard errors and every pretrained run beats every other one.
    """
    sides = {"with_pretraining": with_pretraining, "from_scratch": from_scratch}
    scores = {name: _scores(artifact, config.metric) for name, artifact in sides.items()}
    out.write_json(
        COMPARISON, {"metric": config.metric, **summarize(scores["with_pretraining"], scores["from_scratch"])}
    )
    return {"seeds": min(map(len, scores.values()))}


def summarize(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Means, sample standard deviations, the difference of the means, its standard error (Welch)."""
    gain = statistics.fmean(ours) - statistics.fmean(theirs)
    error = math.sqrt(_variance(ours) / len(ours) + _variance(theirs) / len(theirs))
    return {
        "with_pretraining": _side(ours),
        "from_scratch": _side(theirs),
        "gain": gain,
        "standard_error": error,
        "clear": gain > 2 * error and min(ours) > max(theirs),
    }


def _side(values: Sequence[float]) -> dict[str, Any]:
    return {"values": list(values), "mean": statistics.fmean(values), "spread": math.sqrt(_variance(values))}


def _variance(values: Sequence[float]) -> float:
    return statistics.variance(values) if len(values) > 1 else 0.0


def _scores(artifact: Artifact, metric: str) -> list[float]:
    seeds = artifact.read_json(SCORES)["seeds"]
    try:
        return [float(seed[metric]) for seed in seeds]
    except KeyError:
        known = ", ".join(sorted(set(seeds[0]) - {"seed"}))
        raise ValueError(f"metric {metric!r}: {artifact.short} has {known}; choose one of them") from None
