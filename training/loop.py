"""The loop: numbered samples go in, numbered checkpoints come out, and nothing else is remembered.

Step s reads samples s*batch_size ... (s+1)*batch_size - 1, cut into pieces of `micro_batch_size`. Order, corruption,
dropout and learning rate are functions of those numbers, so a run that was killed and resumed, at any step, is bit for
bit the run that was not (on one machine with one number of threads and processes).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from infra.report import SILENT, Report
from training.checkpoint import Checkpoint, Checkpoints, History
from training.engine import Engine, Precision, noise_key
from training.optim import adamw
from training.schedule import Decay, Linear, factor_at

REPORT_SECONDS = 0.5  # between two reports; the losses of every step are in the history


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`batch_size` and `micro_batch_size` are sequences; `micro_batch_size` None: a batch is one piece.

    The piece is part of the config, not of the machine: dropout is keyed by it. How many processes share the pieces
    changes nothing but the order of additions.
    """

    steps: int
    batch_size: int = 32
    micro_batch_size: int | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay: Decay = field(default_factory=Linear)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    clip_norm: float | None = 1.0
    seed: int = 0
    precision: Precision = "bfloat16"
    zero_stage: int = 0
    checkpoint_every_steps: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: it is a count; give 1 or more")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps}: warm-up must end before step {self.steps}, the last"
            )
        if self.batch_size % self.piece:
            raise ValueError(
                f"micro_batch_size {self.piece}: it must divide batch_size {self.batch_size}, so that no piece is smaller"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate {self.learning_rate}: it must be positive")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm {self.clip_norm}: it must be positive; use None not to clip")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r}: choose 'float32' or 'bfloat16'")
        if self.zero_stage not in (0, 1, 2):
            raise ValueError(f"zero_stage {self.zero_stage}: stages 0, 1 and 2 are supported")

    @property
    def piece(self) -> int:
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The figures of every step since step 0; this call made the steps from `first_step` on, in `seconds`."""

    history: History
    first_step: int
    seconds: float
    rank: int

    @property
    def measured(self) -> dict[str, float]:
        """What may differ between equal runs."""
        tokens = sum(self.history["tokens"][self.first_step :])
        rate = tokens / self.seconds if tokens else 0.0
        return {
            "training_seconds": self.seconds,
            "tokens_per_second": rate,
            "resumed_at_step": self.first_step,
        }


class NotFinite(FloatingPointError):
    """A loss or gradient became infinite or NaN; the weights are of no use any more, the last checkpoint is."""


def train(
    model: nn.Module,
    batch_at: Callable[[range], Any],
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | None = None,
    report: Report = SILENT,
) -> Trained:
    """Train `model` in place to `config.steps`, going on from the newest checkpoint.

    `batch_at(range)` is the batch of those sample numbers, pure.
    """
    optimizer = adamw(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=config.betas,
        eps=config.eps,
    )
    with Engine(
        model,
        optimizer,
        micro_batches=config.batch_size // config.piece,
        clip_norm=config.clip_norm,
        precision=config.precision,
        zero_stage=config.zero_stage,
    ) as engine:
        history = resume(engine, checkpoints, report)
        first_step, began = len(history), time.monotonic()
        watch = Watch(report, config, engine.rank, first_step)
        for step in range(first_step, config.steps):
            first = step * config.batch_size
            starts = [first + number * config.piece for number in engine.share]
            factor = factor_at(step, steps=config.steps, warmup_steps=config.warmup_steps, decay=config.decay)
            figures = engine.step(
                [batch_at(range(start, start + config.piece)) for start in starts],
                learning_rate=config.learning_rate * factor,
                noise=partial(noise_key, config.seed, step),
            )
            history.append({**figures, "learning_rate": config.learning_rate * factor})
            require_finite(step, figures, history, config)
            done = step + 1
            if checkpoints and (done % config.checkpoint_every_steps == 0 or done == config.steps):
                save(engine, checkpoints, history)
            watch.step(done, history)
        return Trained(
            history=history, first_step=first_step, seconds=time.monotonic() - began, rank=engine.rank
        )


def resume(engine: Engine, checkpoints: Checkpoints | None, report: Report) -> History:
    """Load the newest whole checkpoint into the engine, the same on every rank; the figures up to it."""
    if checkpoints is None:
        return History()
    step = engine.agree((checkpoints.newest() or 0) if engine.rank == 0 else 0)
    if step == 0:
        return History()
    kept = checkpoints.load(step)
    engine.restore(kept.weights, kept.moments, kept.updates)
    if engine.rank == 0:
        report.note(f"training goes on from the checkpoint at step {step}")
    return kept.history


def save(engine: Engine, checkpoints: Checkpoints, history: History) -> None:
    weights, moments, updates = engine.state()
    if engine.rank == 0:
        kept = Checkpoint(
            step=len(history), updates=updates, weights=weights, moments=moments, history=history
        )
        checkpoints.save(kept)


def require_finite(step: int, figures: dict[str, float], history: History, config: TrainConfig) -> None:
    if all(math.isfinite(value) for value in figures.values()):
        return
    bad = ", ".join(f"{name} {value}" for name, value in figures.items() if not math.isfinite(value))
    before = f"the loss before was {history['loss'][step - 1]:.4f}" if step else "it was the first step"
    first = step * config.batch_size
    raise NotFinite(
        f"step {step} (samples {first} to {first + config.batch_size - 1}): {bad} at learning rate "
        f"{history['learning_rate'][step]:.2e}; {before}; lower learning_rate, or raise warmup_steps"
    )


class Watch:
    """Reports from rank 0, at most twice a second and at the last step."""

    def __init__(self, report: Report, config: TrainConfig, rank: int, done: int) -> None:
        self._report, self._config, self._silent = report, config, rank != 0
        self._last, self._last_done = time.monotonic(), done

    def step(self, done: int, history: History) -> None:
        now = time.monotonic()
        if self._silent or (now - self._last < REPORT_SECONDS and done < self._config.steps):
            return
        figures = {name: values[-1] for name, values in history.columns.items()}
        rate = sum(history["tokens"][self._last_done :]) / max(1e-9, now - self._last)
        self._report.progress(done, self._config.steps, "steps", loss=figures["loss"], tokens_per_second=rate)
        self._report.metrics(done, figures)
        self._last, self._last_done = now, done
