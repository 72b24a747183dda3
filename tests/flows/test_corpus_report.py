"""A refresh ends with a report: made once, planned without running, and shown on the run's page in Prefect."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from corpus.summary.summarize import SUMMARY
from flows import run as runs
from flows.corpus_report import corpus_report, headline, pictures, show, tables
from flows.plan import plan_of
from flows.settings import Settings
from flows.step import chain
from infra.artifacts import Artifact
from infra.output import serial_map
from infra.storage import open_folder
from tests.corpus.summary_kit import SmallCorpus, two_generations
from tests.flows.toy import ToyRecipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallCorpus:
    root = tmp_path_factory.mktemp("corpus")
    return two_generations(root, open_folder(root / "store"))


def report_of(made: SmallCorpus, home: Path) -> tuple[Artifact, runs.Run]:
    settings = Settings(home=home, store=made.store.url)
    run = replace(runs.new_run(settings, "test"), mapper=serial_map)
    with runs.using(run):
        return corpus_report(made, made.drift), run  # type: ignore[arg-type]


def test_the_report_is_made_once_and_said_where(
    made: SmallCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.step._as_task", lambda name, title, work: work())
    report, first = report_of(made, tmp_path)
    assert [o.artifact.step for o in first.outcomes] == [
        *["measure_generation"] * 2,
        "summarize",
        "report_page",
    ]
    assert f"report  {report.folder.url}/report.html" in capsys.readouterr().err
    assert report.read("report.html").startswith(b"<!doctype html>")
    again, second = report_of(made, tmp_path)
    assert again.address == report.address
    assert {o.action for o in second.outcomes} == {"reused"}


def test_a_report_is_planned_without_running(made: SmallCorpus, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store=str(tmp_path / "empty"))
    plans = plan_of(lambda: corpus_report(made, made.drift), settings, "test")  # type: ignore[arg-type]
    assert [p.artifact.step for p in plans] == [*["measure_generation"] * 2, "summarize", "report_page"]
    assert not any(p.artifact.finished for p in plans)


def test_tables_and_pictures_show_the_summary(made: SmallCorpus) -> None:
    found = made.summary().read_json(SUMMARY)
    shown = tables(found)
    assert {key: len(rows) for key, (rows, _) in shown.items()} == {
        "corpus-stations": 6,
        "corpus-sources": 2,
        "corpus-languages": len(found["languages"]),
        "corpus-drops": 2,
        "corpus-duplicates": 10,
    }
    assert shown["corpus-drops"][0][0] == {"rule": "mostly_symbols", "documents": 9}
    assert sum(r["documents"] for r in shown["corpus-sources"][0]) == found["totals"]["documents"]
    assert f"**{found['totals']['documents']:,} documents**" in headline(found, "here")
    assert pictures(found).startswith(b"\x89PNG")
    assert pictures(found | {"zipf": None}) != pictures(found)
    json.dumps(shown, allow_nan=False)


def test_the_run_has_the_report_on_its_page_in_prefect(made: SmallCorpus, prefect_home: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    summary = made.summary()
    from corpus.summary.page import PageConfig, report_page

    report = made.step(report_page, PageConfig(), summary=summary)

    def show_report(recipe: ToyRecipe) -> Artifact:
        show(summary, report)
        return report

    settings = Settings(home=prefect_home, store=made.store.url)
    run = replace(runs.new_run(settings, "toy"), mapper=serial_map)
    with runs.using(run):
        chain(show_report).flow(ToyRecipe(), settings.store)
    client: Any = get_client(sync_client=True)
    with client as prefect:
        which = ArtifactFilterFlowRunId(any_=[UUID(str(run.flow_run_id))])
        found = {a.key: a for a in prefect.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=which))}
    assert {"corpus-report", "corpus-sources", "corpus-drops", "corpus-pictures"} <= set(found)
    assert "report.html" in str(found["corpus-report"].data)
    assert str(found["corpus-pictures"].data).startswith("data:image/png;base64,")
