"""What people see while a run works: bars or plain lines in the terminal; logs, progress and tables in the Prefect UI.

A step talks to `infra.report.Report`; the watcher here passes it on to both places. Calls to the Prefect API are kept
to about one every two seconds a step: each costs some 10 ms.
"""

import base64
import io
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infra.artifacts import Counts
from infra.materialize import Outcome

UI_SECONDS = 2.0
CURVE_SECONDS = 20.0
LINE_SECONDS = 10.0


def human(value: float) -> str:
    """1234567 -> 1.23M; 12345 -> 12.3k; 1234 -> 1,234; 0.123456 -> 0.1235."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(limit, 1e4):
            return f"{value / limit:.3g}{unit}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def describe(counts: Counts) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {human(value)}" for name, value in counts.items())


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{seconds:.1f}s"


class Watcher:
    """The Report of one running step: terminal and Prefect at once."""

    def __init__(self, name: str, bar: Any = None) -> None:
        self.name, self._bar = name, bar
        self._began = time.monotonic()
        self._task: Any = None
        self._said = 0.0
        self._ui_at = self._curve_at = 0.0
        self._progress_id: Any = None
        self._first: tuple[float, int] | None = None
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._logger = _run_logger()

    def note(self, message: str) -> None:
        self._logger.info(message)
        console(f"  {self.name}: {message}", self._bar)

    def progress(self, done: int, total: int, unit: str, **figures: float) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        shown = " ".join(f"{k.replace('_', ' ')} {human(v)}" for k, v in figures.items())
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(self.name, total=total, unit=unit, figures="")
            self._bar.update(self._task, completed=done, total=total, figures=shown)
        elif now - self._said >= LINE_SECONDS or (done == total and self._said):
            self._said = now
            began, first = self._first
            rate = (done - first) / max(now - began, 1e-9)
            left = f", {duration((total - done) / rate)} left" if rate > 0 and done < total else ""
            console(f"  {self.name}: {done:,}/{total:,} {unit} ({human(rate)}/s{left}) {shown}".rstrip())
        if now - self._ui_at >= UI_SECONDS and total:
            self._ui_at = now
            self._show_progress(100.0 * done / total, f"{self.name}: {done:,} of {total:,} {unit} {shown}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))
        if time.monotonic() - self._curve_at >= CURVE_SECONDS:
            self._curve_at = time.monotonic()
            self.show_curves()

    def show_curves(self) -> None:
        """The curves so far as a picture on the run's page."""
        if self.curves:
            image(f"{self.name}-curve", curve_png(self.curves, self.name), f"{self.name}: curves so far")

    def finished(self, outcome: Outcome) -> None:
        """Say how the step ended, in one line."""
        self.show_curves()
        if self._progress_id is not None:
            self._show_progress(100.0, f"{self.name}: done")
        text = f"{outcome.action} {outcome.artifact.short}: {outcome.why}"
        self._logger.info(
            text + (f"; {describe(outcome.artifact.counts)}" if outcome.artifact.counts else "")
        )
        mark = {"ran": "ran   ", "reused": "reused", "waited": "waited"}[outcome.action]
        took = f" in {duration(outcome.seconds)}" if outcome.action == "ran" else ""
        console(f"{mark} {self.name:<18}{took}  {describe(outcome.artifact.counts)}".rstrip(), self._bar)

    def close(self) -> None:
        """Take this step's bar off the display."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _show_progress(self, percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if not in_prefect():
            return
        key = f"{self.name}-progress".replace("_", "-")
        if self._progress_id is None:
            self._progress_id = create_progress_artifact(progress=percent, key=key, description=text)
        else:
            update_progress_artifact(self._progress_id, progress=percent, description=text)


_bars: list[Any] = []  # the terminal's one live display, while some step is watched
_watched = 0
_lock = threading.Lock()


@contextmanager
def watching(name: str) -> Iterator[Watcher]:
    """The watcher of one step; a live bar with rate and time left when the terminal can show one.

    Steps that run side by side share one display: a terminal has room for no more.
    """
    global _watched
    if not sys.stderr.isatty():
        yield Watcher(name)
        return
    with _lock:
        if not _watched:
            _bars[:] = [_live_bar()]
            _bars[0].start()
        _watched += 1
        bar = _bars[0]
    watcher = Watcher(name, bar)
    try:
        yield watcher
    finally:
        watcher.close()
        with _lock:
            _watched -= 1
            if not _watched:
                bar.stop()


def _live_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def console(line: str, bar: Any = None) -> None:
    """One line for people, on standard error, above the live bar if there is one."""
    if bar is not None:
        bar.console.print(line, markup=False, highlight=False)
    else:
        print(line, file=sys.stderr, flush=True)


def _run_logger() -> Any:
    """The logger whose lines reach the run's page; a plain one outside Prefect."""
    if not in_prefect():
        return logging.getLogger("cloze.steps")
    from prefect import get_run_logger

    return get_run_logger()


def in_prefect() -> bool:
    module = sys.modules.get("prefect.context")
    return module is not None and module.FlowRunContext.get() is not None


def curve_png(curves: Mapping[str, list[tuple[int, float]]], title: str) -> bytes:
    """A small picture of curves over steps; each name gets its own axis, as scales differ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * min(len(curves), 3), 2.8 * -(-len(curves) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(-(-len(curves) // 3), min(len(curves), 3), squeeze=False).flat
    for axis, (name, points) in zip(axes, curves.items(), strict=False):
        axis.plot([x for x, _ in points], [y for _, y in points], linewidth=1.2)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def image(key: str, png: bytes, description: str) -> None:
    """Show a picture on the run's page; inside the page, since it must work offline."""
    if in_prefect():
        from prefect.artifacts import create_image_artifact

        url = "data:image/png;base64," + base64.b64encode(png).decode()
        create_image_artifact(image_url=url, key=key.replace("_", "-"), description=description)


def table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table on the run's page."""
    if in_prefect() and rows:
        from prefect.artifacts import create_table_artifact

        create_table_artifact(table=rows, key=key.replace("_", "-"), description=description)


def markdown(key: str, text: str, description: str) -> None:
    """Show a text on the run's page."""
    if in_prefect():
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(markdown=text, key=key.replace("_", "-"), description=description)
