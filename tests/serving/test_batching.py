"""The queue: nothing is lost, nothing overtakes, overload is said at once."""

import asyncio
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching import Batcher, Overloaded, TooLarge, Waiting, take


class Doubler:
    """Answers twice the item, remembers its batches; `gate` holds the thread until it is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, items):
        self.gate.wait(10)
        self.batches.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError(f"{min(items)} is negative")
        return [2 * item for item in items]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=40), st.integers(1, 20))
def test_batches_hold_every_item_once_in_order_within_the_budget(plan, budget) -> None:
    async def check() -> None:
        runners = [Doubler() for _ in range(3)]
        loop = asyncio.get_running_loop()
        queue = deque(Waiting(runners[r], i, size, loop.create_future()) for i, (r, size) in enumerate(plan))
        seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
        while queue:
            oldest = queue[0]
            batch = take(queue, budget)
            assert batch[0] is oldest
            assert len({id(w.runner) for w in batch}) == 1
            assert len(batch) == 1 or sum(w.size_tokens for w in batch) <= budget
            seen[runners.index(batch[0].runner)] += [w.item for w in batch]
        assert seen == {r: [i for i, (q, _) in enumerate(plan) if q == r] for r in range(3)}

    asyncio.run(check())


def test_what_arrives_while_the_thread_is_busy_leaves_together() -> None:
    async def check() -> None:
        batcher, doubler = Batcher(max_batch_tokens=4, max_queued_tokens=100), Doubler()
        doubler.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(doubler, [i], [1])) for i in range(10)]
        await asyncio.sleep(0.05)
        doubler.gate.set()
        assert [a for [a] in await asyncio.gather(*tasks)] == [2 * i for i in range(10)]
        # All ten tasks had queued before the worker first ran.
        assert doubler.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert (batcher.queued_tokens, batcher.batches, batcher.items) == (0, 3, 10)
        batcher.close()

    asyncio.run(check())


def test_a_full_queue_says_when_to_come_back_and_recovers() -> None:
    async def check() -> None:
        batcher, doubler = Batcher(max_batch_tokens=10, max_queued_tokens=20), Doubler()
        batcher.tokens_per_second = 5.0
        doubler.gate.clear()
        first = asyncio.create_task(batcher.submit(doubler, [1, 2], [10, 10]))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded) as refused:
            await batcher.submit(doubler, [3], [1])
        assert refused.value.retry_after_seconds == 4
        doubler.gate.set()
        assert await first == [2, 4]
        assert await batcher.submit(doubler, [3], [1]) == [6]
        with pytest.raises(TooLarge, match="holds 21 tokens, at most 20"):
            await batcher.submit(doubler, [1], [21])
        batcher.close()

    asyncio.run(check())


def test_an_item_that_cannot_be_answered_does_not_fail_its_neighbours() -> None:
    async def check() -> None:
        batcher, doubler = Batcher(), Doubler()
        tasks = [asyncio.create_task(batcher.submit(doubler, [i], [1])) for i in (1, -1, 2)]
        good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert (good, other) == ([2], [4])
        assert isinstance(bad, ValueError)
        assert batcher.queued_tokens == 0
        batcher.close()

    asyncio.run(check())


def test_a_client_that_has_gone_is_not_computed_for_and_frees_its_place() -> None:
    async def check() -> None:
        batcher, doubler = Batcher(max_batch_tokens=1, max_queued_tokens=10), Doubler()
        doubler.gate.clear()
        running = asyncio.create_task(batcher.submit(doubler, [1], [1]))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(batcher.submit(doubler, [2, 3], [4, 5]))
        await asyncio.sleep(0.01)
        assert batcher.queued_tokens == 10
        gone.cancel()
        await asyncio.sleep(0.01)
        assert batcher.queued_tokens == 1
        doubler.gate.set()
        assert await running == [2]
        assert await batcher.submit(doubler, [4], [1]) == [8]
        assert doubler.batches == [[1], [4]]
        batcher.close()

    asyncio.run(check())


def test_a_closed_queue_refuses_instead_of_leaving_anyone_waiting() -> None:
    async def check() -> None:
        batcher = Batcher()
        batcher.close()
        with pytest.raises(RuntimeError, match="shutdown"):
            await asyncio.wait_for(batcher.submit(Doubler(), [1], [1]), 5)

    asyncio.run(check())
