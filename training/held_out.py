"""Held-out loss while a model trains: on the same batches, corrupted once and for all, so its steps can be compared.

In float32 and without dropout, like the final measurement (measure.py), whatever the training precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.weighted_parts import Batch


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """`measure(model)` returns figures, "loss" among them, and is called every `every_steps` steps and after the last, on
    every rank. The model is in eval mode then and records no gradients; which figures come out must not depend on the rank.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    every_steps: int

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"every_steps {self.every_steps}: it is a count; give 1 or more")

    def figures(self, step: int, model: nn.Module) -> dict[str, float]:
        """A row for the history. Raises ValueError if there is no "loss"."""
        model.eval()
        with torch.no_grad():
            found = {name: float(value) for name, value in self.measure(model).items()}
        if "loss" not in found:
            raise ValueError(
                f"the held-out figures are {', '.join(found) or 'none'}; one must be called loss, to compare by"
            )
        return {"step": float(step), **found}


def losses_on(batches: Sequence[Batch]) -> Callable[[nn.Module], dict[str, float]]:
    """Each part's mean loss and accuracy over all its predictions in `batches`, and their sum as "loss"."""

    def measure(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for batch in batches:
            result = model(batch.to(device))
            predictions = model.predictions(batch)  # type: ignore[operator]
            for part, count in predictions.items():
                correct = int(result.counts[f"{part}_correct"])
                counts[part] = counts.get(part, 0) + count
                sums[part] = sums.get(part, 0.0) + float(result.parts[part]) * count
                sums[f"{part}_accuracy"] = sums.get(f"{part}_accuracy", 0.0) + correct
        figures = {n: s / max(1, counts[n.removesuffix("_accuracy")]) for n, s in sums.items()}
        return {"loss": sum(figures[part] for part in counts), **figures}

    return measure
