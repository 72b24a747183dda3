"""The next step's batches, made by a thread while this step computes; the loop only waits for what is not ready yet."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """`make(first)` is what the step whose first sample is `first` reads, a pure function called in a thread."""

    def __init__(self, make: Callable[[int], Made]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[int, Future[Made]] | None = None
        self.waited_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, first: int, then: int | None) -> Made:
        """What step `first` reads. Begins on `then`, which will probably be asked for next (None: there is no next)."""
        began = time.monotonic()
        if self._next is None or self._next[0] != first:
            self._next = first, self._pool.submit(self._make, first)
        made = self._next[1].result()
        self._next = None if then is None else (then, self._pool.submit(self._make, then))
        self.waited_seconds += time.monotonic() - began
        return made
