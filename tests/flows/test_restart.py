"""Killed anywhere, run twice at once, on a store whose line breaks: the same bytes as an undisturbed run.

These run the real command in real processes on a hundredth of the quickstart's text (about half a minute each).
`tests/flows/kill_runs.py` does the same to the whole quickstart, as often as asked.
"""

import random
import secrets
from pathlib import Path

import pytest
import yaml

from infra import s3
from infra.artifacts import Artifact
from infra.materialize import RESERVED
from infra.storage import Folder, open_folder
from tests.flows.kill_runs import contents, disturb, start
from tests.infra.s3_server import KEYS, FaultProxy, S3Server

MINUTE = {
    "recipe": "quickstart-small",
    "corpus": {"ingest": {"share": 0.03}, "vocabulary": {"vocab_size": 800}},
    "pretrain": {
        "model": {"vocab_size": 800},
        "train": {"steps": 12, "warmup_steps": 2, "checkpoint_every_steps": 3},
    },
    "task": None,
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("recipe") / "minute.yaml"
    file.write_text(yaml.safe_dump(MINUTE))
    return str(file)


@pytest.fixture(scope="module")
def undisturbed(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("undisturbed")
    assert start(recipe, home, "pretrain").wait() == 0, (home / "log").read_text()[-3000:]
    found = contents(home / "store")
    assert len(found) == 22
    return found


def test_a_run_killed_three_times_ends_in_the_same_bytes(
    recipe: str, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    starts = disturb(recipe, tmp_path, 3, random.Random(1), 6.0, "pretrain", artifacts=len(undisturbed))
    assert starts > 1, "no kill hit the flow itself"
    assert contents(tmp_path / "store") == undisturbed


def test_two_identical_runs_do_each_step_once(
    recipe: str, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    both = [start(recipe, tmp_path / name, "pretrain", CLOZE_STORE=store) for name in ("one", "two")]
    logs = {name: tmp_path / name / "log" for name in ("one", "two")}
    assert [p.wait() for p in both] == [0, 0], "\n".join(log.read_text()[-2000:] for log in logs.values())
    assert contents(tmp_path / "store") == undisturbed
    ran = [line for log in logs.values() for line in log.read_text().splitlines() if line.startswith("ran  ")]
    assert len(ran) == len(undisturbed)


def test_a_store_on_s3_behind_a_breaking_line_holds_the_same_bytes(
    recipe: str,
    undisturbed: dict[str, str],
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("CLOZE_CACHE", str(tmp_path / "cache"))
    bucket = f"run-{secrets.token_hex(4)}"
    s3.client().create_bucket(Bucket=bucket)
    proxy = FaultProxy(s3_server.port)
    try:
        proxy.at_random(seed=3, share=0.02)
        url = f"s3://{bucket}/cloze"
        run = start(recipe, tmp_path, "pretrain", CLOZE_STORE=url, AWS_ENDPOINT_URL=proxy.url)
        assert run.wait() == 0, (tmp_path / "log").read_text()[-3000:]
        assert proxy.count() > 10, "the line was not broken"
    finally:
        proxy.stop()
    store = open_folder(url)
    assert {a.address: a.manifest.content for a in _finished(store)} == undisturbed


def _finished(store: Folder) -> list[Artifact]:
    steps = [step for step in store.folders() if step not in RESERVED]
    return [Artifact(store, step, digest) for step in steps for digest in store.child(step).folders()]
