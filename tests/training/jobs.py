"""Functions that tests send to a training process: importable there by name."""

import logging
import os
import signal
import time
from pathlib import Path

import torch

from infra.folder_local import LocalFolder
from tests.training.tiny import TinyModel, batch_at
from training.checkpoint import Checkpoints
from training.loop import TrainConfig, train


def answer(x, *, report):
    report.note("thinking")
    report.progress(1, 2, "steps", loss=0.5)
    report.metrics(1, {"loss": 0.5})
    logging.getLogger("cloze.training").info("a log line")
    return {"answer": x, "pid": os.getpid(), "threads": torch.get_num_threads()}


def fail(*, report):
    raise KeyError("no such thing")


def refuse(*, report):
    raise ValueError("width 3: it must be even; use 4")


def leave(*, report):
    print("something broke in a library")
    os._exit(3)


def die_until(marker: str, deaths: int, *, report):
    """Dies by kill -9 the first `deaths` times."""
    path = Path(marker)
    died = len(path.read_text()) if path.exists() else 0
    if died < deaths:
        path.write_text("x" * (died + 1))
        report.progress(died, 10, "steps")
        os.kill(os.getpid(), signal.SIGKILL)
    return died


def wait(marker: str, *, report):
    Path(marker).write_text(str(os.getpid()))
    for _ in range(600):
        report.progress(0, 1, "steps")
        time.sleep(0.1)


def train_tiny(folder: str, config: TrainConfig, kill_at: int | None, *, report):
    """Trains the tiny model; with `kill_at`, the first process to reach that step is killed there."""
    marker = Path(folder) / "killed"

    def batches(numbers):
        if kill_at is not None and numbers.start >= kill_at * config.batch_size and not marker.exists():
            marker.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return batch_at(numbers)

    checkpoints = Checkpoints(LocalFolder(Path(folder) / "checkpoints"), {"steps": config.steps})
    trained = train(TinyModel(), batches, config, checkpoints=checkpoints, report=report)
    return trained.history["loss"]
