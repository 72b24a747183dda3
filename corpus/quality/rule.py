"""What a rule says about every document of a part: its figure, the limit it breaks, and whether it fires."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from corpus.quality.figures import Figures
from corpus.quality.forms import Form

Flags = npt.NDArray[np.bool_]
Figure = npt.NDArray[Any]

# Thai and Lao end no sentence with a mark, classical Arabic few; in AGGLUTINATIVE languages a word may be a sentence,
# so that a mean length of 3-10 letters says nothing.
NO_FULL_STOPS = ("th", "lo", "ar")
AGGLUTINATIVE = (
    "ml",
    "ta",
    "te",
    "kn",
    "my",
    "bo",
    "si",
    "ka",
    "iu",
    "kl",
    "zu",
    "xh",
    "fi",
    "hu",
    "eu",
    "et",
    "qu",
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One rule on n documents. `value` is the document's figure, `limit` the bound that it was compared with."""

    rule: str
    value: Figure
    limit: float
    fires: Flags


class Rules(Protocol):
    """A set of published rules: a frozen config with its limits, None for a rule that is off."""

    @property
    def name(self) -> str: ...

    def verdicts(self, figures: Figures, language: npt.NDArray[np.object_]) -> Iterator[Verdict]:
        """One verdict per rule that is on. Pure in each document's figures and language."""
        ...


def above(rule: str, figure: Figure, limit: float | None, where: Flags) -> Iterator[Verdict]:
    """Fires where a figure is above its limit."""
    if limit is not None:
        yield Verdict(rule=rule, value=figure, limit=limit, fires=where & (figure > _like(figure, limit)))


def below(rule: str, figure: Figure, limit: float | None, where: Flags) -> Iterator[Verdict]:
    """Fires where a figure is below its limit."""
    if limit is not None:
        yield Verdict(rule=rule, value=figure, limit=limit, fires=where & (figure < _like(figure, limit)))


def _like(figure: Figure, limit: float) -> np.float32 | np.float64:
    """Shares are kept in float32: a share that equals its limit must not be above or below it."""
    return np.float32(limit) if figure.dtype == np.float32 else np.float64(limit)


def is_prose(figures: Figures) -> Flags:
    """Documents that are neither code nor sequences (corpus.quality.forms)."""
    return np.isin(figures["form"], (Form.SPACED, Form.UNSPACED))


def check_limits(config: Any) -> None:
    """Raise ValueError for a limit below zero."""
    for field in fields(config):
        value = getattr(config, field.name)
        if value is not None and value < 0:
            raise ValueError(
                f"{type(config).__name__}.{field.name} is {value}; a limit is 0 or more, or None to leave the rule out"
            )
