"""The command line: fast help, one sentence for every mistake, no traceback."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import main

ROOT = Path(__file__).resolve().parents[2]


def cloze(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "CLOZE_HOME": str(home), "CLOZE_STORE": ""}
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_answers_in_under_a_second(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        done = cloze("--help", home=tmp_path)
        seconds.append(time.monotonic() - began)
    assert done.returncode == 0
    for command in [
        "recipes",
        "run",
        "refresh",
        "pretrain",
        "finetune",
        "evaluate",
        "promote",
        "rollback",
        "serve",
        "explain",
        "show",
        "runs",
        "gc",
        "up",
        "doctor",
    ]:
        assert f"\n    {command} " in done.stdout
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "quikstart"], "no recipe 'quikstart'; did you mean 'quickstart'"),
        (
            ["run", "quickstart", "--set", "pretrain.train.step=3"],
            "there is no field 'step'; did you mean pretrain.train.steps?",
        ),
        (["run", "quickstart", "--set", "pretrain.train.steps=no"], "pretrain.train.steps = False"),
        (["run", "absent.yaml"], "no file absent.yaml"),
        (["run", "quickstart", "--set", "corpus.vocabulary.vocab_size=9000"], "vocab_size is 3000 but"),
        (["run", "quickstart", "--set", "corrupt.objective.max_seq_len=1024"], "but the model holds"),
        (["run", "quickstart", "--adopt", "shard"], "--adopt 'shard' is not STEP/DIGEST"),
        (["run", "quickstart", "--workers", "0"], "workers is 0; at least one"),
        (["show", "nothing/12"], "no artifact 'nothing/12'"),
        (["promote", "nobody"], "no model 'nobody'"),
        (["serve", "nobody"], "no model 'nobody'"),
        (["serve"], "nothing is in production"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_bad_exit(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CLOZE_HOME", str(tmp_path))
    monkeypatch.delenv("CLOZE_STORE", raising=False)
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error


def test_a_recipe_prints_itself_as_a_file_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.commands import load
    from flows.recipes import recipe, recipes

    for name in recipes():
        assert main(["recipes", name]) == 0
        file = tmp_path / f"{name}.yaml"
        file.write_text(capsys.readouterr().out)
        assert load(str(file), []) == recipe(name)


def test_an_empty_store_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOZE_HOME", str(tmp_path))
    for command in (["runs"], ["models"], ["gc", "--dry-run"], ["verify"]):
        assert main(command) == 0
    out = capsys.readouterr().out
    assert "no runs in" in out
    assert "no models in" in out
