"""What every predictor is: a plain class that prepares texts, runs a flat batch, and answers in the client's JSON.

    read(parameters) -> options      once a request; raises ValueError naming the parameter
    prepare(text, options) -> Prepared   tokens, and whether they were cut; pure, any thread
    run(prepared) -> answers         one unpadded batch; the inference thread

Nothing here knows HTTP or Ray. Answers are plain lists and dicts whose numbers are Python floats.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One text, ready to run. `whole_tokens` is its length before it was cut to what the model reads."""

    tokens: Tokens
    options: Any
    whole_tokens: int

    @property
    def truncated(self) -> bool:
        return self.whole_tokens > len(self.tokens)


class Predictor(Protocol):
    """Answers one task with one model."""

    @property
    def task(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...  # in the order of the model's outputs

    @property
    def mask(self) -> str | None: ...  # how a text writes a word to be filled in; None: it cannot

    @property
    def max_seq_len(self) -> int: ...

    def read(self, parameters: Mapping[str, Any]) -> Any: ...

    def prepare(self, text: str, options: Any) -> Prepared: ...

    def run(self, items: Sequence[Prepared]) -> list[Any]: ...

    def check(self) -> None:
        """Answer stored probe inputs; raises ValueError when the answers cannot be right."""


def known(parameters: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The parameters that are not null. Raises ValueError for an unknown one, with the nearest valid name."""
    for name in parameters:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid are {', '.join(sorted(names))}"
            raise ValueError(f"unknown parameter {name!r}{hint}")
    return {name: value for name, value in parameters.items() if value is not None}


def whole_number(name: str, value: Any, most: int) -> int:
    """`value` as an int between 1 and `most`; larger is cut to `most`, as transformers does for top_k."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return min(value, most)


class UnfitModel(ValueError):
    """A model whose answers to the probes are not finite, not normalised, or depend on what shares their batch."""


def check_scores(what: str, scores: Sequence[float], *, total: float | None) -> None:
    """Raise UnfitModel unless scores are finite and, where `total` is given, sum to it within 1e-3."""
    values = np.asarray(scores, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise UnfitModel(f"{what}: scores are not finite")
    if total is not None and abs(float(values.sum()) - total) > 1e-3:
        raise UnfitModel(f"{what}: scores sum to {values.sum():.4f} instead of {total:g}")
