import threading
import time

import pytest

from infra.lease import LeaseLost
from infra.report import SILENT
from training.checkpoint import Checkpoint, Progress
from training.engine_state import State
from training.history import History
from training.saver import Saver


def checkpoint(step):
    return Checkpoint(
        progress=Progress(history=History({"loss": [0.0] * step})),
        state=State(weights={}, moments={}, updates=step),
    )


class Store:
    """Stands in for Checkpoints: `save` waits for `gate` and raises what is in `errors`."""

    def __init__(self):
        self.gate, self.errors, self.saved, self.tried = threading.Event(), [], [], []
        self.gate.set()
        self.folder = self

    def save(self, one):
        self.tried.append(one.progress.step)
        self.gate.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.saved.append(one.progress.step)

    def exists(self, name):
        return True


def fine():
    pass


def test_the_loop_goes_on_while_a_checkpoint_is_written_and_the_next_waits_for_it():
    store = Store()
    store.gate.clear()
    with Saver(store, SILENT, fine) as saver:
        saver.put(checkpoint(1))  # returns at once
        second = threading.Thread(target=saver.put, args=(checkpoint(2),))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert store.saved == []
        store.gate.set()
        second.join(10)
        saver.settle()
    assert store.saved == [1, 2]


def test_a_checkpoint_that_waits_for_its_store_gives_way_to_a_newer_one(monkeypatch):
    monkeypatch.setattr("training.saver.RETRY_SECONDS", 30.0)
    store = Store()
    store.errors = [OSError("away")]
    with Saver(store, SILENT, fine) as saver:
        saver.put(checkpoint(1))
        while not saver.failures:
            time.sleep(0.01)
        saver.put(checkpoint(2))
        saver.settle()
        assert saver.written == 1
    assert store.saved == [2]


def test_a_lost_lease_ends_the_run_before_anything_is_written():
    def lost():
        raise LeaseLost("taken over by process 7")

    store = Store()
    with Saver(store, SILENT, lost) as saver:
        saver.put(checkpoint(1))
        with pytest.raises(LeaseLost, match="taken over by process 7"):
            saver.settle()
        with pytest.raises(LeaseLost):
            saver.put(checkpoint(2))
    assert store.tried == []


def test_a_lease_that_cannot_be_renewed_while_the_store_is_away_is_no_loss(monkeypatch):
    monkeypatch.setattr("training.saver.RETRY_SECONDS", 0.01)
    store, answers = Store(), [OSError("away"), True]

    def overdue():
        if len(answers) == 2:
            raise LeaseLost("could not be renewed in time")

    def exists(name):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    store.exists = exists
    with Saver(store, SILENT, overdue) as saver:
        saver.put(checkpoint(1))
        saver.settle()
    assert store.saved == [1]


def test_leaving_lets_the_write_end_and_tries_no_more(monkeypatch):
    monkeypatch.setattr("training.saver.RETRY_SECONDS", 30.0)
    store = Store()
    store.errors = [OSError("away")] * 9
    with Saver(store, SILENT, fine) as saver:
        saver.put(checkpoint(1))
        while not saver.failures:
            time.sleep(0.01)
    assert store.saved == []
    assert len(store.tried) <= 2
