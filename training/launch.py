"""Where training runs: in a child process of this one, or on Ray Train workers. What it computes does not depend on it.

A training function is importable by name and takes plain arguments and `report=`; it returns a JSON value:

    launch.run(train_it, config, folder, report=out.report)              one child process here
    with launch.at(Place(workers=2)): launch.run(...)                    the same function on two Ray workers

A process that is killed (out of memory, a segmentation fault, `kill -9`) is started again and goes on from its last
checkpoint, which the function looks up itself. A `Place` is where, not what: it is no part of any config or digest.
"""

import logging
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

from infra.hardware import cores
from infra.ray_cluster import connect
from infra.report import SILENT, Report
from training.child import run_child, set_threads
from training.events import Event, Listener, TrainingFailed, perform

__all__ = ["Place", "TrainingFailed", "at", "run"]

RESTARTS = 2

log = logging.getLogger("cloze.training")


@dataclass(frozen=True, kw_only=True)
class Place:
    """`threads` a process (None: the cores we may use, shared out); `device` "cpu" hides the GPUs."""

    workers: int = 1
    threads: int | None = None
    device: Literal["cpu"] | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: training needs at least one process")


_place: ContextVar[Place] = ContextVar("place")


@contextmanager
def at(place: Place) -> Iterator[None]:
    """Train there inside the block."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def run(
    function: Callable[..., Any],
    *arguments: Any,
    report: Report = SILENT,
    check: Callable[[], None] = lambda: None,
    alone: bool = False,
    useful_threads: int | None = None,
) -> Any:
    """Call `function(*arguments, report=...)` at the current place, or `alone` in one child here; its result.

    `useful_threads` bounds the threads of a process when the work is too small for more. `check` is called while it runs and may raise to end it (a lost lease). Raises TrainingFailed.
    """
    place = _place.get(Place())
    if alone:
        place = replace(place, workers=1, ray_address=None)
    if useful_threads is not None:
        place = replace(place, threads=min(place.threads or cores(), useful_threads))
    listener = Listener(report, check)
    if place.workers > 1 or place.ray_address is not None:
        return _on_ray(place, function, arguments, listener)
    return _here(place, function, arguments, listener)


def _here(place: Place, function: Callable[..., Any], arguments: tuple[Any, ...], listener: Listener) -> Any:
    """One child process, restarted when it is killed."""
    threads, hide_gpus = place.threads or cores(), place.device == "cpu"
    for restart in range(RESTARTS + 1):
        code, last_words = run_child(
            function, arguments, threads=threads, hide_gpus=hide_gpus, listener=listener
        )
        if listener.finished:
            return listener.result
        if code >= 0:
            raise TrainingFailed(
                f"the training process ended with exit code {code}; its last words: {last_words or 'none'}"
            )
        how = f"the training process was killed by {signal.Signals(-code).name}{listener.where()}"
        if restart < RESTARTS:
            listener.report.note(
                f"{how}; it starts again from its last checkpoint (restart {restart + 1} of {RESTARTS})"
            )
            log.warning("%s", how)
    raise TrainingFailed(
        f"{how}, as it was {RESTARTS} times before; if the machine is short of memory, lower micro_batch_size"
    )


class _Mailbox:
    """Lives in a Ray actor: events on their way to the driver. An error that another try may cure is held back."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._failed = False
        self._held_back: list[Event] = []

    def put(self, event: Event) -> None:
        if event.get("curable"):
            self._held_back = [event]
            return
        self._events.append(event)
        self._failed = self._failed or "error" in event

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def failed(self) -> bool:
        return self._failed

    def held_back(self) -> list[Event]:
        return self._held_back


def _on_ray(place: Place, function: Any, arguments: tuple[Any, ...], listener: Listener) -> Any:
    """Ray Train restarts the workers when one dies; the function finds its last checkpoint in our store by itself."""
    ray = connect(place.ray_address, num_cpus=max(place.workers, cores()))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    use_gpu = place.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= place.workers

    def worker() -> None:
        """Nested, so that it travels by value and an installed cloze on the workers is not required to have it."""
        from ray.train import get_context

        if ray.get(mailbox.failed.remote()):
            return  # Ray restarts workers that raised; this error it would meet again
        context = get_context()
        set_threads(place.threads or max(1, cores() // context.get_local_world_size()))
        first = context.get_world_rank() == 0

        def send(event: Event) -> None:
            if first or "error" in event:
                ray.get(mailbox.put.remote(event))

        if not perform(function, arguments, send):
            raise RuntimeError("training raised; the error is in the driver's log")

    failure: list[BaseException] = []
    with ExitStack() as stack:
        stack.callback(ray.kill, mailbox)  # which ends the workers too, should we be leaving early
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="cloze-ray-train-", ignore_cleanup_errors=True)
        )
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray Train uses what Ray Data deprecates
        trainer = TorchTrainer(
            worker,
            scaling_config=ScalingConfig(num_workers=place.workers, use_gpu=use_gpu),
            run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=RESTARTS)),
        )
        thread = threading.Thread(target=_fit, args=(trainer, failure), daemon=True)
        thread.start()
        alive = True
        while alive:
            alive = thread.is_alive()
            for event in ray.get(mailbox.take.remote()):
                listener(event)
            time.sleep(0.2)
        if not listener.finished:
            for event in ray.get(mailbox.held_back.remote()):
                listener(event)
    if not listener.finished:
        reason = str(failure[0]).strip().splitlines()[0] if failure else "no worker reported a result"
        raise TrainingFailed(f"training on {place.workers} Ray workers ended without a result: {reason}")
    return listener.result


def _fit(trainer: Any, failure: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        failure.append(error)
