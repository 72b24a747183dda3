"""What a training process says while it runs, as JSON values: they cross a pipe (child.py) or a Ray actor (launch.py).

{"note": message}   {"progress": [done, total, unit, figures]}   {"metrics": [step, values]}
{"log": [level, logger, message]}   {"result": value}
{"error": [class, message, traceback], "curable": whether another try may help}
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from infra.report import Report

Event = dict[str, Any]

log = logging.getLogger("cloze.training")


class TrainingFailed(RuntimeError):
    """Training ended with an error in its process; the message is that error's, the traceback is in the log."""


class Listener:
    """Turns events of the training process into calls of the report and of logging."""

    def __init__(self, report: Report, check: Callable[[], None]) -> None:
        self.report, self._check = report, check
        self.finished = False
        self.result: Any = None
        self._progress: tuple[int, str] | None = None

    def __call__(self, event: Event) -> None:
        self._check()
        match event:
            case {"note": message}:
                self.report.note(message)
            case {"progress": [done, total, unit, figures]}:
                self._progress = done, unit
                self.report.progress(done, total, unit, **figures)
            case {"metrics": [step, values]}:
                self.report.metrics(step, values)
            case {"log": [level, name, message]}:
                logging.getLogger(name).log(level, "%s", message)
            case {"result": result}:
                self.finished, self.result = True, result
            case {"error": [kind, message, trace]}:
                log.error("%s", trace)
                raise TrainingFailed(message if kind == "ValueError" else f"{kind}: {message}")

    def where(self) -> str:
        return f" after {self._progress[0]} {self._progress[1]}" if self._progress else ""


class Sender:
    """The report inside a training process: every call becomes an event."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def note(self, message: str) -> None:
        self._send({"note": message})

    def progress(self, done: int, total: int, unit: str, **figures: float) -> None:
        self._send({"progress": [done, total, unit, figures]})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._send({"metrics": [step, dict(values)]})


class _LogSender(logging.Handler):
    def __init__(self, send: Callable[[Event], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send({"log": [record.levelno, record.name, record.getMessage()]})


def perform(function: Callable[..., Any], arguments: tuple[Any, ...], send: Callable[[Event], None]) -> bool:
    """Run the function and send what comes of it. False if it raised."""
    logger = logging.getLogger("cloze")
    logger.setLevel(logging.INFO)
    handler = _LogSender(send)
    logger.addHandler(handler)
    try:
        send({"result": function(*arguments, report=Sender(send))})
    except Exception as error:
        curable = isinstance(
            error, RuntimeError | OSError
        )  # what a dead peer or an unreachable store looks like
        send({"error": [type(error).__name__, str(error), traceback.format_exc()], "curable": curable})
        return False
    finally:
        logger.removeHandler(handler)
    return True
