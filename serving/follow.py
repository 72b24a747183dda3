"""A served model follows its pointer: look, load beside, check, swap. Nothing that answers is ever taken away first.

    v1 answers ---------------------------------------------> v1's last requests finish on v1, then it is freed
                pointer moves -> load v2 -> golden check ok --> v2 answers            (one assignment: no gap)
                                               not ok --------> v1 goes on, /health says why, tried again later

A replica polls by itself instead of being redeployed: no proxy, controller or second process takes part in a promotion,
and a `reconfigure` that raises (which kills a healthy Ray Serve replica) does not exist.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from infra.storage import Folder
from serving import rollout
from serving.rollout import Version

log = logging.getLogger("cloze.serving")

FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 60.0


class Served(Protocol):
    """What a load gives: a predictor and the version it came from (see loader.Loaded)."""

    @property
    def version(self) -> Version: ...

    def run(self, items: Sequence[Any]) -> list[Any]: ...


T = TypeVar("T", bound=Served)


class Follower(Generic[T]):
    """One reference (`name@production`), kept loaded. `current` is swapped by a single assignment; read it once a request."""

    def __init__(self, store: Folder, reference: str, load: Callable[[Folder, Version], T]) -> None:
        self.store, self.reference = store, reference
        self.name, self.selector = rollout.parse(reference)
        self.current: T | None = None
        self.problem: str | None = None
        self.loads = 0
        self._load = load
        self._failed: Version | None = None
        self._retry_at = 0.0
        self._retry_seconds = FIRST_RETRY_SECONDS

    def look(self, now: float) -> bool:
        """One poll at monotonic time `now`; True if the model was swapped. Never raises: what went wrong is in `problem`."""
        current = self.current
        try:
            number = rollout.number_of(self.store, self.reference)
            if current is not None and current.version.number == number:  # versions are immutable
                self.problem, self._failed = None, None
                return False
            wanted = rollout.version_of(self.store, self.name, number)
        except Exception as error:
            self.problem = f"{self.reference} cannot be read: {_sentence(error)}"
            return False
        if self._failed == wanted and now < self._retry_at:
            return False
        try:
            self.current = self._load(self.store, wanted)
        except Exception as error:
            kept = f"; {current.version.reference} goes on" if current is not None else ""
            self.problem = f"{wanted.reference} was not loaded: {_sentence(error)}{kept}"
            log.error("%s", self.problem)
            self._postpone(wanted, now)
            return False
        self.loads += 1
        self.problem, self._failed = None, None
        log.info("%s now answers as %s", self.reference, wanted.reference)
        return True

    def _postpone(self, wanted: Version, now: float) -> None:
        """A version that failed is tried again (a store comes back, memory is freed), ever less often."""
        again = self._failed == wanted
        self._retry_seconds = (
            min(LAST_RETRY_SECONDS, 2 * self._retry_seconds) if again else FIRST_RETRY_SECONDS
        )
        self._failed, self._retry_at = wanted, now + self._retry_seconds


class Watch:
    """A daemon thread that polls followers. `stop()` returns when it has ended."""

    def __init__(self, followers: Sequence[Follower[Any]], *, poll_seconds: float = 1.0) -> None:
        if not 0.01 <= poll_seconds <= 3600:
            raise ValueError(f"poll_seconds is {poll_seconds}; it must be between 0.01 and 3600")
        self.followers, self.poll_seconds = list(followers), poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="follow", daemon=True)

    def start(self) -> "Watch":
        """Look once at everything in this thread (what can be served is served when this returns), then keep polling."""
        self._look()
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _look(self) -> None:
        for follower in self.followers:
            follower.look(time.monotonic())

    def _poll(self) -> None:
        while not self._stop.wait(self.poll_seconds):
            self._look()


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
