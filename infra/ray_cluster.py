"""Spread partitions over a Ray cluster: a given one, or one started here for the length of the run.

The local cluster is private (`address="local"`), without dashboard, telemetry or log forwarding. Its processes die with
the driver, also when the driver is killed. A partition runs as one Ray task with one core; a worker that dies is
replaced and its partition runs again, an exception in a partition ends the step.
"""

import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from infra.hardware import cores
from infra.output import Done, PartitionFailed, Task, run_partition, serial_map

RETRIES = 4  # of a partition whose worker died
OBJECT_STORE_BYTES = 200_000_000  # results are counts and checksums, never data
ROOT = Path(__file__).resolve().parents[1]

log = logging.getLogger("cloze.ray")


def connect(address: str | None = None, *, num_cpus: int | None = None) -> Any:
    """Join the cluster at `address`, or start a private local one with `num_cpus` cores; returns the `ray` module.

    Raises ConnectionError when `address` does not answer.
    """
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:  # workers import our packages also from a checkout that is not installed
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    import ray

    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            num_cpus=num_cpus or cores(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return ray
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConnectionError(
            f"no Ray cluster answers at {address!r} ({reason}); start one with `ray start --head`, or leave the address out"
        ) from None
    return ray


def disconnect() -> None:
    """Leave the cluster; stops it when it was started here. Does nothing when Ray was never used."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


class RayMap:
    """A Mapper (infra.output) that runs partitions as Ray tasks; the cluster starts with the first partition.

    At most `2 * cores` tasks are in flight, so a million partitions do not become a million objects.
    """

    def __init__(self, address: str | None = None, *, num_cpus: int | None = None) -> None:
        self.address, self.num_cpus = address, num_cpus

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Done]:
        tasks = list(tasks)
        if len(tasks) <= 1:  # one partition gains nothing from a cluster
            yield from serial_map(tasks)
            return
        ray = connect(self.address, num_cpus=self.num_cpus)
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(run_partition)
        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        failure: Exception | None = None
        while waiting or running:
            while waiting and len(running) < limit and failure is None:
                task = waiting.popleft()
                running[remote.remote(task)] = task
            if not running:
                break
            ready, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ready[0])
            try:
                done = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                failure = failure or PartitionFailed(str(error.cause or error).splitlines()[0])
                continue
            except ray.exceptions.RayError as error:
                reason = str(error).splitlines()[0]
                failure = failure or PartitionFailed(
                    f"partition {task.id}: its worker died {RETRIES + 1} times ({reason})"
                )
                continue
            yield done
        if failure is not None:
            raise failure
