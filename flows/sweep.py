"""Mark runs whose process is gone as Crashed.

After `kill -9` of a whole run Prefect still believes it is RUNNING; a heartbeat automation would need 80 seconds and also
crashes suspended runs. The run's own record names its process, so the truth is one look at /proc.
"""

import threading
from typing import Any
from uuid import UUID

from flows import run as runs
from infra.storage import Folder

EVERY_SECONDS = 10.0


def crashed(store: Folder) -> list[str]:
    """Prefect flow run ids whose newest record says RUNNING although its process is gone."""
    seen: set[str] = set()
    out = []
    for record in runs.records(store):
        id = record["flow_run_id"]
        if id and id not in seen:
            seen.add(id)
            if record["state"] == "CRASHED":
                out.append(id)
    return out


def sweep(store: Folder) -> int:
    """Set them, and what they were running, to Crashed; returns how many runs were marked."""
    ids = crashed(store)
    if not ids:
        return 0
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    marked = 0
    with get_client(sync_client=True) as client:
        for id in ids:
            try:
                flow_run = client.read_flow_run(UUID(id))
            except ObjectNotFound:  # recorded by another Prefect database
                continue
            if flow_run.state is None or not (flow_run.state.is_running() or flow_run.state.is_pending()):
                continue
            state: Any = Crashed(message="its process is gone; run it again (or Retry) and it continues")
            client.set_flow_run_state(flow_run.id, state, force=True)
            _children(client, flow_run.id, state)
            marked += 1
    return marked


def _children(client: Any, flow_run_id: UUID, state: Any) -> None:
    """The tasks and sub-flows that were running inside."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId

    inside = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    for task_run in client.read_task_runs(flow_run_filter=inside):
        if task_run.state and task_run.state.is_running():
            client.set_task_run_state(task_run.id, state, force=True)
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    for flow_run in client.read_flow_runs(flow_run_filter=below):
        if flow_run.state and flow_run.state.is_running():
            client.set_flow_run_state(flow_run.id, state, force=True)
            _children(client, flow_run.id, state)


class Sweeper(threading.Thread):
    """Sweeps every ten seconds until `stop`; a failed sweep is reported and tried again."""

    def __init__(self, store: Folder, say: Any) -> None:
        super().__init__(daemon=True, name="sweeper")
        self._store, self._say, self._end = store, say, threading.Event()

    def run(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            try:
                if marked := sweep(self._store):
                    self._say(
                        f"marked {marked} run{'s' if marked > 1 else ''} as crashed: retry in the UI, or run again"
                    )
            except Exception as error:  # the server or the store is away: both come back
                self._say(
                    f"sweep failed ({type(error).__name__}: {error}); next try in {EVERY_SECONDS:.0f} s"
                )

    def stop(self) -> None:
        self._end.set()
