"""One run: the store, how partitions are mapped, what has happened so far, and the record others can see.

The record `<store>/runs/<id>.json` names the process that runs, so that a run whose process is gone can be told from
one that is slow, whichever of the two Prefect believes.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from flows.settings import Settings
from infra.artifacts import Artifact, to_json
from infra.materialize import Outcome, Plan
from infra.output import Mapper, serial_map
from infra.process import Process, this_process
from infra.storage import Folder, open_folder


@dataclass
class Run:
    """What every step of one run shares. `dry` plans without running; `plans` and `outcomes` are in order."""

    settings: Settings
    store: Folder
    name: str
    mapper: Mapper = serial_map
    dry: bool = False
    adopt: Mapping[str, str] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    id: str = ""
    flow_run_id: str | None = None
    api: str | None = None
    began: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def record(self, state: str, error: str | None = None, result: Artifact | None = None) -> None:
        """Write the run's record; only this process writes it."""
        body = {
            "id": self.id,
            "recipe": self.name,
            "state": state,
            "started": self.started,
            "seconds": round(time.monotonic() - self.began, 1),
            "flow_run_id": self.flow_run_id,
            "process": asdict(this_process()),
            "steps": [
                {
                    "artifact": o.artifact.address,
                    "action": o.action,
                    "why": o.why,
                    "seconds": round(o.seconds, 1),
                }
                for o in self.outcomes
            ],
            "result": result.address if result else None,
            "error": error,
        }
        self.store.child("runs").write(f"{self.id}.json", to_json(body))


_current: ContextVar[Run | None] = ContextVar("cloze_run", default=None)


def current() -> Run | None:
    return _current.get()


@contextmanager
def using(run: Run) -> Iterator[Run]:
    """Make `run` the current one for the block."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def open_store(settings: Settings) -> Folder:
    """The settings' store, asked one cheap question so that an unreachable one is reported at once."""
    store = open_folder(settings.store)
    store.exists("names/probe.json")
    return store


def new_run(
    settings: Settings, name: str, *, dry: bool = False, adopt: Mapping[str, str] | None = None
) -> Run:
    """A run on the settings' store; on Ray for the partitions unless it is dry."""
    from infra.ray_cluster import RayMap

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Run(
        settings=settings,
        store=open_folder(settings.store),
        name=name,
        mapper=serial_map if dry else RayMap(settings.ray_address),
        dry=dry,
        adopt=dict(adopt or {}),
        id=f"{stamp}-{name}-{secrets.token_hex(3)}",
    )


def process_state(process: Mapping[str, Any]) -> Literal["alive", "dead", "unknown"]:
    """Of the process a record names; `unknown` when it belongs to another machine."""
    return Process(**process).state()


def records(store: Folder) -> list[dict[str, Any]]:
    """Every run's record, newest first; a RUNNING one whose process is gone reads CRASHED."""
    folder = store.child("runs")
    out = []
    for name in sorted(folder.names(), reverse=True):
        record = json.loads(folder.read(name))
        if record["state"] == "RUNNING" and process_state(record["process"]) == "dead":
            record["state"] = "CRASHED"
        out.append(record)
    return out


def results(store: Folder) -> list[Artifact]:
    """The artifacts that recorded runs made or used: roots for garbage collection."""
    out = []
    for record in records(store):
        for step in record["steps"]:
            out.append(Artifact(store, *step["artifact"].split("/")))
    return out
