"""Chains of steps under a real Prefect server: tasks, reuse, records, artifacts, crashes."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flows import api
from flows import run as runs
from flows.plan import plan_lines, plan_of
from flows.settings import Settings
from flows.sweep import sweep
from infra.storage import open_folder
from tests.flows.toy import ToyRecipe, WriteConfig, toy


@pytest.fixture
def settings(prefect_home: Path, tmp_path: Path) -> Settings:
    return Settings(home=prefect_home, store=str(tmp_path / "store"))


def execute(recipe: ToyRecipe, settings: Settings) -> runs.Run:
    run = runs.new_run(settings, recipe.name)
    with runs.using(run):
        toy.flow(recipe, settings.store)
    return run


def client() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def test_a_chain_is_planned_without_running(settings: Settings) -> None:
    plans = plan_of(lambda: toy(ToyRecipe()), settings, "toy")
    assert [p.artifact.step for p in plans] == ["write_numbers", "add_numbers"]
    assert not any(p.artifact.finished for p in plans)
    lines = plan_lines(plans)
    assert lines[0].startswith("run    write_numbers")
    assert lines[-1] == "2 of 2 steps to run"


def test_a_second_run_does_nothing_and_says_why(settings: Settings) -> None:
    first, again = execute(ToyRecipe(), settings), execute(ToyRecipe(), settings)
    assert [o.action for o in first.outcomes] == ["ran", "ran"]
    assert [o.action for o in again.outcomes] == ["reused", "reused"]
    assert "with the same config and inputs" in again.outcomes[0].why
    changed = execute(ToyRecipe(write=WriteConfig(numbers=4)), settings)
    assert changed.outcomes[0].why == "differs from the nearest result in config.numbers: 3 -> 4"


def test_the_run_is_in_prefect_with_its_tasks_and_artifacts(settings: Settings) -> None:
    from uuid import UUID

    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowRunFilter,
        FlowRunFilterId,
    )

    execute(ToyRecipe(), settings)
    run = execute(ToyRecipe(write=WriteConfig(numbers=5)), settings)
    assert run.flow_run_id
    id = UUID(run.flow_run_id)
    with client() as prefect:
        flow_run = prefect.read_flow_run(id)
        assert flow_run.state.is_completed()
        tasks = {
            t.name
            for t in prefect.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[id])))
        }
        artifacts = prefect.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[id]))
        )
    numbers = run.outcomes[0].artifact.digest[:12]
    assert {"toy-numbers", f"write_numbers {numbers}"} <= tasks
    assert {a.key for a in artifacts} >= {"steps", "write-numbers-curve", "write-numbers-progress"}
    (steps,) = [a for a in artifacts if a.key == "steps"]
    rows = json.loads(steps.data)
    assert [(r["step"], r["action"]) for r in rows] == [("write_numbers", "ran"), ("add_numbers", "ran")]


def test_a_failure_is_recorded_and_the_next_run_continues(settings: Settings) -> None:
    with pytest.raises(ValueError, match="fail is true"):
        execute(ToyRecipe(write=WriteConfig(fail=True)), settings)
    (record,) = runs.records(open_folder(settings.store))
    assert record["state"] == "FAILED"
    assert "fail is true; set it to false" in record["error"]


def test_a_run_whose_process_is_gone_is_marked_crashed(settings: Settings) -> None:
    from prefect.states import Running

    run = execute(ToyRecipe(), settings)
    assert run.flow_run_id
    store = open_folder(settings.store)
    folder = store.child("runs")
    (name,) = folder.names()
    record = json.loads(folder.read(name))
    with client() as prefect:
        prefect.set_flow_run_state(run.flow_run_id, Running(), force=True)
        record["state"] = "RUNNING"
        folder.write(name, json.dumps(record).encode())
        assert sweep(store) == 0, "its process is alive: it is this one"
        record["process"]["start"] += 1  # the pid now belongs to another process
        folder.write(name, json.dumps(record).encode())
        assert runs.records(store)[0]["state"] == "CRASHED"
        assert sweep(store) == 1
        assert prefect.read_flow_run(run.flow_run_id).state.is_crashed()
    assert sweep(store) == 0


def test_a_form_gives_the_recipe_as_plain_values(settings: Settings) -> None:
    result = toy.flow({"name": "toy", "write": {"numbers": 2}}, settings.store)
    assert result.counts == {"sum": 1}


def test_a_killed_prefect_server_is_started_again_on_its_port(tmp_path: Path) -> None:
    port = api.free_port()
    url, log = f"http://127.0.0.1:{port}/api", tmp_path / "prefect" / "server.log"
    server = api.start_server(tmp_path, port, recorder=True)
    api.wait_until_up(server, url, log)
    keeper = api.Keeper(server, tmp_path, port, recorder=True)
    try:
        os.kill(server.pid, signal.SIGKILL)
        while keeper.restarts == 0:
            time.sleep(0.1)
        api.wait_until_up(keeper.server, url, log)
    finally:
        keeper.close()
    assert keeper.restarts == 1
    assert keeper.server.poll() is not None
    assert not api.answers(url)
