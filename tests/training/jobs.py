"""Functions that tests send to a training process: importable there by name."""

import logging
import os
import signal
import time
from pathlib import Path

import torch

from infra.folder_local import LocalFolder
from tests.training.tiny import CarryingModel, TinyModel, batch_at
from training import engine as engine_module
from training.checkpoint import Checkpoints
from training.engine import Engine, noise_key
from training.loop import TrainConfig, train
from training.optim import Moments, decay_groups


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


def engine_steps(
    optimizer, steps, state=None, *, carrying=False, size=16, pieces=4, batch=8, dropped=(), **settings
):
    """Figures of each step from `state` (or the start) on, and the state at the end (None but on rank 0)."""
    engine_module.PERSISTENT_VALUES = 0  # stage 3 cuts up even what is this tiny
    model = CarryingModel(size) if carrying else TinyModel(size)
    built = optimizer.build(decay_groups(model, 0.1), 1e-2, Moments(betas=(0.9, 0.999), eps=1e-3))
    rows, figures = batch // pieces, []
    with Engine(model, built, micro_batches=pieces, **settings) as engine:
        if state is not None:
            engine.restore(state)
        for s in steps:
            own = [batch_at(range(s * batch + q * rows, s * batch + (q + 1) * rows)) for q in engine.share]
            figures.append(engine.backward(own, noise=lambda q, s=s: noise_key(0, s, q)))
            if s in dropped:
                engine.drop()
            else:
                engine.update(1e-2)
        return figures, engine.state()


def resumed_runs(cases):
    """For every (optimizer, settings): four steps, and two and two with a restored engine between them."""
    out = []
    for optimizer, settings in cases:
        whole = engine_steps(optimizer, range(4), **settings)
        first, middle = engine_steps(optimizer, range(2), **settings)
        rest, end = engine_steps(optimizer, range(2, 4), handed_out(middle), **settings)
        out.append((whole, (first + rest, end), middle))
    return out


def handed_out(state):
    """Rank 0's state, on every rank: what they would read from a checkpoint."""
    box = [state]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
