"""How running work talks to whoever watches: a protocol the shell implements, so that no step knows a terminal or a UI."""

from collections.abc import Mapping
from typing import Protocol


class Report(Protocol):
    """Told by steps, shown by the shell. Every method is cheap and never raises."""

    def note(self, message: str) -> None:
        """One line of log."""

    def progress(self, done: int, total: int, unit: str, **figures: float) -> None:
        """`done` of `total` units; `figures` are shown beside the bar (loss, tokens_per_second, ...)."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One point of every named curve."""


class _Silent:
    def note(self, message: str) -> None:
        pass

    def progress(self, done: int, total: int, unit: str, **figures: float) -> None:
        pass

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass


SILENT: Report = _Silent()
