"""One queue, one inference thread: requests that arrive while the thread is busy leave together as one flat batch.

                   +-- admission: queued tokens <= max_queued_tokens, else Overloaded (429, Retry-After from measured tokens/s)
    request ------>|  a1 b1 a2 a3 b2 ...         first come, first served
                   +-> batch: the oldest item and every later one of the same model, up to max_batch_tokens -> thread -> answers

Work is counted in tokens, because that is what it costs: nothing is padded (training.batches), so neither sorting by
length nor waiting for a fuller batch gains anything on a CPU (reference measurements: a budget of 512 tokens is enough,
larger ones lose the cache). A batch never mixes two loaded models, so during a promotion what was admitted for the old
version is answered by the old version.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

FIRST_GUESS_TOKENS_PER_SECOND = (
    5_000.0  # until something has been measured; a small BERT on one core does more
)
SMOOTHING = 0.2  # weight of the newest batch in the measured rate


class Overloaded(RuntimeError):
    """The queue is full; `retry_after_seconds` is how long what is queued will take."""

    def __init__(self, retry_after_seconds: int, queued_tokens: int) -> None:
        super().__init__(f"{queued_tokens} tokens are waiting; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class TooLarge(ValueError):
    """One request that the queue could never hold."""


class Runs(Protocol):
    """What a batch is run with: any object; items of one object may share a batch."""

    def run(self, items: Sequence[Any]) -> list[Any]: ...


@dataclass(eq=False)
class Waiting:
    """One item in the queue. `size_tokens` is what it costs."""

    runner: Runs
    item: Any
    size_tokens: int
    answer: "asyncio.Future[Any]"


def take(queue: deque[Waiting], max_batch_tokens: int) -> list[Waiting]:
    """Remove the next batch: the oldest item always, then later items of the same runner that still fit.

    Items nobody waits for any more are removed without being run. Others keep their order.
    """
    batch: list[Waiting] = []
    kept: deque[Waiting] = deque()
    size_tokens = 0
    full = False
    while queue:
        waiting = queue.popleft()
        if waiting.answer.done():
            continue
        if not batch or (
            not full
            and waiting.runner is batch[0].runner
            and size_tokens + waiting.size_tokens <= max_batch_tokens
        ):
            batch.append(waiting)
            size_tokens += waiting.size_tokens
            full = size_tokens >= max_batch_tokens
        else:
            # The first item of the same runner that does not fit closes the batch: later, shorter ones must not overtake it.
            full = full or waiting.runner is batch[0].runner
            kept.append(waiting)
    queue.extend(kept)
    return batch


class Batcher:
    """Runs items in batches on one thread. Belongs to one event loop: every method is called from it."""

    def __init__(self, *, max_batch_tokens: int = 512, max_queued_tokens: int = 16_384) -> None:
        if max_batch_tokens < 1 or max_queued_tokens < max_batch_tokens:
            raise ValueError(
                f"max_batch_tokens {max_batch_tokens} and max_queued_tokens {max_queued_tokens}: "
                "both must be positive and the queue must hold at least one batch"
            )
        self.max_batch_tokens, self.max_queued_tokens = max_batch_tokens, max_queued_tokens
        self.queued_tokens = 0  # admitted and not yet answered
        self.tokens_per_second = FIRST_GUESS_TOKENS_PER_SECOND
        self.batches = self.items = 0
        self._queue: deque[Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, runner: Runs, items: Sequence[Any], sizes_tokens: Sequence[int]) -> list[Any]:
        """Answers of all items, in order. All are admitted or none is.

        Raises Overloaded or TooLarge; whatever `runner.run` raises for an item comes out here.
        """
        total = sum(sizes_tokens)
        if total > self.max_queued_tokens:
            raise TooLarge(
                f"the request holds {total} tokens, at most {self.max_queued_tokens} are taken at once; send fewer texts"
            )
        if self.queued_tokens + total > self.max_queued_tokens:
            raise Overloaded(
                max(1, math.ceil(self.queued_tokens / self.tokens_per_second)), self.queued_tokens
            )
        loop = asyncio.get_running_loop()
        group = [
            Waiting(runner, item, size, loop.create_future())
            for item, size in zip(items, sizes_tokens, strict=True)
        ]
        self.queued_tokens += total
        for waiting in group:
            waiting.answer.add_done_callback(partial(self._release, waiting.size_tokens))
        self._queue.extend(group)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            answers = await asyncio.gather(*(w.answer for w in group), return_exceptions=True)
        finally:
            for waiting in group:  # the client has gone: what has not been run yet is dropped from the queue
                waiting.answer.cancel()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _release(self, size_tokens: int, _: "asyncio.Future[Any]") -> None:
        self.queued_tokens -= size_tokens

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := take(self._queue, self.max_batch_tokens):
            began = time.monotonic()
            try:
                outcomes = await loop.run_in_executor(
                    self._thread, _outcomes, batch[0].runner, [w.item for w in batch]
                )
            except (
                RuntimeError
            ) as error:  # the thread is closed: say so to everyone rather than leave them waiting
                outcomes = [error] * len(batch)
            rate = sum(w.size_tokens for w in batch) / max(1e-6, time.monotonic() - began)
            self.tokens_per_second += SMOOTHING * (rate - self.tokens_per_second)
            self.batches, self.items = self.batches + 1, self.items + len(batch)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(outcome, Exception):
                    waiting.answer.set_exception(outcome)
                else:
                    waiting.answer.set_result(outcome)


def _outcomes(runner: Runs, items: list[Any]) -> list[Any]:
    """Answers, or the exception of each: one item that cannot be answered must not fail its neighbours."""
    run: Callable[[list[Any]], list[Any]] = runner.run
    try:
        return run(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [_outcomes(runner, [item])[0] for item in items]
