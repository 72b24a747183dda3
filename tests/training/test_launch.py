import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from infra.folder_local import LocalFolder
from tests.training import jobs
from training import launch
from training.checkpoint import LEASE
from training.launch import Place, TrainingFailed
from training.loop import TrainConfig

CONFIG = TrainConfig(
    steps=12,
    batch_size=8,
    micro_batch_size=4,
    checkpoint_every_steps=3,
    precision="float32",
    learning_rate=1e-2,
)


class Heard:
    def __init__(self):
        self.events = []

    def note(self, message):
        self.events.append(message)

    def progress(self, done, total, unit, **figures):
        self.events.append((done, total, unit, figures))

    def metrics(self, step, values):
        self.events.append((step, values))


def test_the_function_runs_in_a_child_and_is_heard(caplog):
    caplog.set_level(logging.INFO)
    heard = Heard()
    with launch.at(Place(threads=1)):
        result = launch.run(jobs.answer, 41, report=heard)
    assert result["answer"] == 41
    assert result["pid"] != os.getpid()
    assert result["threads"] == 1
    assert heard.events == ["thinking", (1, 2, "steps", {"loss": 0.5}), (1, {"loss": 0.5})]
    assert "a log line" in caplog.text


def test_an_exception_there_is_one_error_here_with_its_traceback_in_the_log(caplog):
    with pytest.raises(TrainingFailed, match=r"^KeyError: 'no such thing'$"):
        launch.run(jobs.fail)
    assert "Traceback" in caplog.text
    assert "jobs.py" in caplog.text
    with pytest.raises(TrainingFailed, match=r"^width 3: it must be even; use 4$"):
        launch.run(jobs.refuse)


def test_an_exit_without_a_word_is_an_error_with_its_last_words():
    with pytest.raises(
        TrainingFailed, match="ended with exit code 3; its last words: something broke in a library"
    ):
        launch.run(jobs.leave)


def test_a_killed_child_is_started_again_twice_and_the_report_says_so(tmp_path):
    heard = Heard()
    assert launch.run(jobs.die_until, str(tmp_path / "a"), 2, report=heard) == 2
    notes = [e for e in heard.events if isinstance(e, str)]
    assert [n.partition("(")[2] for n in notes] == ["restart 1 of 2)", "restart 2 of 2)"]
    assert "killed by SIGKILL after 1 steps; it starts again from its last checkpoint" in notes[1]
    with pytest.raises(
        TrainingFailed, match=r"killed by SIGKILL.*as it was 2 times before.*lower micro_batch_size"
    ):
        launch.run(jobs.die_until, str(tmp_path / "b"), 3)


def test_training_killed_in_mid_run_ends_as_if_it_had_not_been(tmp_path):
    results = {}
    for name, kill_at in (("whole", None), ("killed", 8)):
        (tmp_path / name).mkdir()
        with launch.at(Place(threads=1)):
            results[name] = launch.run(jobs.train_tiny, str(tmp_path / name), CONFIG, kill_at)
    assert (tmp_path / "killed" / "killed").exists()
    assert results["killed"] == results["whole"]
    folders = [LocalFolder(tmp_path / name / "checkpoints") for name in results]
    assert folders[0].names() == folders[1].names()
    assert all(folders[0].read(name) == folders[1].read(name) for name in folders[0].names() if name != LEASE)


def _gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0] == "Z"


def _eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_child_dies_with_its_parent(tmp_path):
    marker = tmp_path / "pid"
    code = f"from training import launch; from tests.training import jobs; launch.run(jobs.wait, {str(marker)!r})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert _eventually(lambda: marker.exists() and marker.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _eventually(lambda: _gone(int(marker.read_text())), seconds=10)


def test_a_failed_check_ends_the_child(tmp_path):
    marker = tmp_path / "pid"

    def check():
        raise InterruptedError("the lease is lost")

    with pytest.raises(InterruptedError, match="the lease is lost"):
        launch.run(jobs.wait, str(marker), check=check)
    assert _gone(int(marker.read_text()))


def test_a_place_holds_for_its_block_and_its_thread_only():
    seen = []
    with launch.at(Place(threads=1)):
        thread = threading.Thread(target=lambda: seen.append(launch._place.get(Place())))
        thread.start()
        thread.join()
        assert launch._place.get(Place()) == Place(threads=1)
    assert launch._place.get(Place()) == Place()
    assert seen == [Place()]
    with pytest.raises(ValueError, match="workers 0: training needs at least one process"):
        Place(workers=0)
