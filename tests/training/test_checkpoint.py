import json
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch

from infra.artifacts import CorruptFile
from infra.folder_local import LocalFolder
from infra.process import this_process
from infra.report import SILENT
from training.checkpoint import COMMIT, Checkpoint, Checkpoints, Keep, Progress, save_tensors, verify
from training.engine_state import State
from training.history import History

CONFIG = {"TrainConfig": {"steps": 20, "learning_rate": 0.001}}


def example(step: int) -> Checkpoint:
    fill = torch.full((4, 3), float(step))
    history = History()
    for s in range(step):
        history.append({"loss": 1.0 / (s + 1), "learning_rate": 0.1})
    return Checkpoint(
        progress=Progress(
            history=history,
            held_out=[{"step": float(step), "loss": 2.0 / step}],
            roll_backs=1,
            passed_over_samples=8 * step,
        ),
        state=State(
            weights={"b": fill, "a": fill + 1},
            moments={"b/exp_avg": fill + 2, "a/exp_avg": fill + 3},
            carried={"0/0": fill + 4, "0/1": (fill + 5).to(torch.bfloat16)},
            updates=step,
        ),
    )


def same(a: Checkpoint, b: Checkpoint) -> bool:
    x, y = a.state, b.state
    tensors = [(x.weights, y.weights), (x.moments, y.moments), (x.carried, y.carried)]
    numbers = [
        (c.state.updates, p.history.columns, p.held_out, p.roll_backs, p.passed_over_samples)
        for c, p in ((a, a.progress), (b, b.progress))
    ]
    return numbers[0] == numbers[1] and all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x) for x, y in tensors
    )


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(LocalFolder(tmp_path / "run"), CONFIG)


def test_what_was_saved_comes_back(checkpoints):
    assert checkpoints.newest() is None
    checkpoints.save(example(3))
    assert checkpoints.newest() == 3
    assert same(checkpoints.load(3), example(3))


def test_equal_states_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        Checkpoints(LocalFolder(tmp_path / name), CONFIG).save(example(3))
    folders = [LocalFolder(tmp_path / name) for name in ("one", "two")]
    assert folders[0].names() == folders[1].names()
    assert all(folders[0].read(n) == folders[1].read(n) for n in folders[0].names())


def test_no_file_is_a_pickle(checkpoints):
    checkpoints.save(example(3))
    folder = checkpoints.at(3)
    assert len(folder.names()) == 7
    for name in folder.names():
        with pytest.raises(Exception):  # noqa: B017 - whatever unpickling garbage raises
            pickle.loads(folder.read(name))


def test_the_last_two_are_kept(checkpoints):
    for step in (1, 2, 3, 4):
        checkpoints.save(example(step))
    assert checkpoints.folder.folders() == ["step-00000003", "step-00000004"]


def test_what_is_kept_is_the_last_the_regular_and_the_best():
    steps, held_out = (
        [50, 40, 30, 20, 10],
        [{"step": float(s), "loss": abs(s - 19.0)} for s in range(10, 55, 5)],
    )
    assert Keep().chosen(steps, held_out) == {50, 40}
    assert Keep(last=3).chosen(steps, []) == {50, 40, 30}
    assert Keep(every_steps=30).chosen(steps, []) == {50, 40, 30}
    assert Keep(best=True).chosen(steps, held_out) == {50, 40, 20}
    assert Keep(best=True).chosen([50, 40, 30], held_out) == {
        50,
        40,
        30,
    }  # 25 and 15 have no checkpoint, 20 is gone
    assert Keep(best=True).chosen(steps, []) == {50, 40}
    with pytest.raises(ValueError, match="last 1: should the newest be damaged, one more is needed"):
        Keep(last=1)


def test_going_back_leaves_no_later_checkpoint(tmp_path):
    checkpoints = Checkpoints(LocalFolder(tmp_path), CONFIG, keep=Keep(last=9))
    for step in (1, 2, 3, 4):
        checkpoints.save(example(step))
    assert checkpoints.newest(up_to=2) == 2
    checkpoints.forget_after(2)
    assert checkpoints.folder.folders() == ["step-00000001", "step-00000002"]


def test_a_holder_on_another_host_is_waited_for_and_one_that_died_here_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("training.checkpoint.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("training.checkpoint.TTL_SECONDS", 0.2)
    folder, notes = LocalFolder(tmp_path), []
    report = type("Report", (type(SILENT),), {"note": lambda self, message: notes.append(message)})()
    dead = subprocess.Popen(["true"])
    mine = this_process()
    here = replace(mine, pid=dead.pid, start=1)
    dead.wait()
    for holder, expected in ((here, []), (replace(here, boot="other", host="far"), ["waiting for process"])):
        record = {"holder": asdict(holder), "nonce": "n", "beat": 3, "ttl_seconds": 0.2, "released": False}
        folder.write("lease.json", json.dumps(record).encode())
        with Checkpoints(folder, CONFIG).claimed(report):
            assert [note[:19] for note in notes] == expected


@pytest.mark.parametrize(
    "file", ["model.safetensors", "carried.safetensors", "losses.arrow", "state.json", COMMIT]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(checkpoints, caplog, file, damage):
    checkpoints.save(example(1))
    checkpoints.save(example(2))
    path = checkpoints.at(2).local(file)
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    assert checkpoints.newest() == 1
    if (damage, file) != ("delete", COMMIT):  # that one was never finished, for all anybody can tell
        assert "checkpoint step-00000002 is damaged" in caplog.text
        assert file in caplog.text
    assert same(checkpoints.load(1), example(1))
    checkpoints.save(example(2))
    assert checkpoints.newest() == 2
    assert same(checkpoints.load(2), example(2))


def test_a_checkpoint_of_another_run_is_refused_naming_the_field(checkpoints):
    checkpoints.save(example(1))
    other = Checkpoints(checkpoints.folder, {"TrainConfig": {"steps": 20, "learning_rate": 0.002}})
    with pytest.raises(
        ValueError, match=r"belongs to another run: learning_rate: 0\.001 -> 0\.002; restore the setting"
    ):
        other.newest()


class Dying(LocalFolder):
    """Raises at the n-th operation that changes the store, before or after it took effect."""

    left = 0
    after = False

    def _count(self) -> bool:
        Dying.left -= 1
        if Dying.left == 0 and not Dying.after:
            raise KeyboardInterrupt
        return Dying.left == 0

    def write(self, name, data):
        last = self._count()
        super().write(name, data)
        if last:
            raise KeyboardInterrupt

    def writer(self, name):
        self._count()
        return super().writer(name)

    def delete(self, name):
        last = self._count()
        super().delete(name)
        if last:
            raise KeyboardInterrupt

    def delete_all(self):
        self._count()
        super().delete_all()

    def child(self, *parts):
        return Dying(LocalFolder.child(self, *parts).path)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("operation", range(1, 15))
def test_dying_at_any_operation_of_a_save_leaves_a_whole_checkpoint(tmp_path, operation, after):
    Dying.left, Dying.after = 0, after
    dying = Checkpoints(Dying(tmp_path / "run"), CONFIG)
    healthy = Checkpoints(LocalFolder(tmp_path / "run"), CONFIG)
    for step in (1, 2):
        healthy.save(example(step))
    Dying.left = operation
    try:
        dying.save(example(3))
        finished = True
    except KeyboardInterrupt:
        finished = False
    newest = healthy.newest()
    assert newest in ((3,) if finished else (2, 3))
    assert same(healthy.load(newest), example(newest))
    healthy.save(example(3))
    healthy.save(example(4))
    assert healthy.folder.folders() == ["step-00000003", "step-00000004"]


SAVER = """
import sys
from infra.folder_local import LocalFolder
from tests.training.test_checkpoint import CONFIG, Checkpoints, example
checkpoints = Checkpoints(LocalFolder(sys.argv[1]), CONFIG)
step = checkpoints.newest() or 0
while True:
    step += 1
    checkpoints.save(example(step))
    print("saved", flush=True)
"""


def test_kill_9_at_random_moments_always_leaves_a_whole_checkpoint(tmp_path):
    healthy = Checkpoints(LocalFolder(tmp_path / "run"), CONFIG)
    noise, reached = random.Random(0), 0
    for _ in range(4):
        command = [sys.executable, "-c", SAVER, str(tmp_path / "run")]
        saver = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert saver.stdout is not None
        saver.stdout.readline()
        time.sleep(0.2 * noise.random())
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        newest = healthy.newest()
        assert newest is not None
        assert newest > reached
        assert same(healthy.load(newest), example(newest))
        reached = newest


def test_verify_names_the_file(checkpoints):
    checkpoints.save(example(1))
    checkpoints.at(1).write("state.json", b"{}")
    with pytest.raises(CorruptFile, match=r"state\.json has 2 bytes instead of"):
        verify(checkpoints.at(1))


def test_tensor_files_do_not_depend_on_the_order_of_names(tmp_path):
    tensors = example(1).state.weights
    save_tensors(tensors, tmp_path / "a")
    save_tensors(dict(reversed(list(tensors.items()))), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_commit_record_lists_every_other_file(checkpoints):
    checkpoints.save(example(1))
    folder = checkpoints.at(1)
    record = json.loads(folder.read(COMMIT))
    assert sorted([*record["files"], COMMIT]) == folder.names()
