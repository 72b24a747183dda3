"""The loop: numbered samples go in, numbered checkpoints come out, and nothing else is remembered.

Step s reads samples s*batch_size ... (s+1)*batch_size - 1, cut into pieces of `micro_batch_size`. Order, corruption,
dropout and learning rate are functions of those numbers, so a run that was killed and resumed, at any step, is bit for
bit the run that was not (on one machine with one number of threads and processes).

A step that the guard refuses reads its samples and changes nothing. The one roll-back that a run may need passes over
the samples of the trouble, and is decided by the same numbers, so it happens again wherever a killed run does it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from infra.report import SILENT, Report
from training.ahead import Ahead
from training.budget import Budget, Stopwatch, steps_in_all
from training.checkpoint import Checkpoints, Progress
from training.engine import Engine, Precision, noise_key
from training.guard import Diverged, Guard
from training.held_out import HeldOut
from training.history import SKIPPED, HeldOutFigures, History
from training.memory import explained
from training.optim import AdamW, Moments, Optimizer, decay_groups
from training.recovery import Recovery
from training.schedule import Decay, Linear, WarmupStableDecay, factor_at
from training.watch import Meter, Watch, matrix_parameters, peak_flops
from training.zero import check_stage

REPORT_SECONDS = 0.5  # between two reports; the losses of every step are in the history


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`steps` is the most, should `budget` allow fewer. `batch_size` and `micro_batch_size` are sequences; `micro_batch_size` None: a batch is one piece.

    The piece is part of the config, not of the machine: dropout is keyed by it. How many processes share the pieces
    changes nothing but the order of additions. `learning_rate` and `weight_decay` belong to every `optimizer`, `betas` and
    `eps` to those with moments (optim.py). `zero_stage`, `offload` and `recompute` save memory (zero.py, recompute.py).
    """

    steps: int
    budget: Budget | None = None
    batch_size: int = 32
    micro_batch_size: int | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay: Decay = field(default_factory=Linear)
    optimizer: Optimizer = field(default_factory=AdamW)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    clip_norm: float | None = 1.0
    seed: int = 0
    precision: Precision = "bfloat16"
    zero_stage: int = 0
    offload: bool = False
    recompute: bool = False
    guard: Guard = field(default_factory=Guard)
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
            raise ValueError(
                f"precision {self.precision!r}: choose 'float32' or 'bfloat16', whose range needs no loss scaling"
            )
        check_stage(self.zero_stage, self.offload, self.optimizer.whole_tensors)
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay {self.weight_decay}: it shrinks weights; give 0 or more")
        if self.budget is not None and not isinstance(self.decay, WarmupStableDecay):
            raise ValueError(
                f"budget: time decides when the rate begins to fall, which a decay of type {type(self.decay).__name__} cannot "
                "wait for; set decay to WarmupStableDecay"
            )
        self.moments  # noqa: B018 - which checks betas and eps

    @property
    def piece(self) -> int:
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    @property
    def moments(self) -> Moments:
        return Moments(betas=self.betas, eps=self.eps)

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of update number `step` of `steps`."""
        factor = factor_at(step, steps=steps, warmup_steps=self.warmup_steps, decay=self.decay)
        return self.learning_rate * factor

    def steps_of(self, progress: Progress) -> int:
        """How many steps the run will have, as far as is known."""
        return self.steps if progress.steps is None else progress.steps

    def decided(self, progress: Progress, engine: Engine, seconds: float) -> Progress:
        """With a time budget: whether this is the moment to begin the cooldown. Rank 0's clock decides."""
        if self.budget is None or progress.steps is not None or not isinstance(self.decay, WarmupStableDecay):
            return progress
        share = self.decay.cooldown_share
        if not engine.agree(int(self.budget.over(seconds, share))):
            return progress
        steps = steps_in_all(
            progress.step, cooldown_share=share, warmup_steps=self.warmup_steps, most=self.steps
        )
        return replace(progress, steps=steps)

    def first_sample(self, step: int, progress: Progress) -> int:
        """The number of the first sample that the step reads."""
        return step * self.batch_size + progress.passed_over_samples


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The figures of every step since step 0; this call made the steps from `first_step` on, in `seconds`."""

    history: History
    held_out: HeldOutFigures
    roll_backs: int
    passed_over_samples: int
    first_step: int
    seconds: float
    rank: int
    costs: dict[str, float]  # rates, waits and pauses of this call

    @property
    def measured(self) -> dict[str, float]:
        """What may differ between equal runs, and how often steps were refused."""
        return {
            "training_seconds": self.seconds,
            "resumed_at_step": self.first_step,
            "skipped_steps": sum(self.history[SKIPPED]) if len(self.history) else 0.0,
            "roll_backs": self.roll_backs,
            **self.costs,
        }


def train(
    model: nn.Module,
    batch_at: Callable[[range], Any],
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | None = None,
    held_out: HeldOut | None = None,
    report: Report = SILENT,
) -> Trained:
    """Train `model` in place to `config.steps`, going on from the newest checkpoint.

    `batch_at(range)` is the batch of those sample numbers, pure; it is called in a thread. Raises Diverged when step
    after step had to be refused, ValueError when another run is using the checkpoints.
    """
    groups, flops = decay_groups(model, config.weight_decay), 6 * matrix_parameters(model)
    with (
        Engine(
            model,
            config.optimizer.build(groups, config.learning_rate, config.moments),
            micro_batches=config.batch_size // config.piece,
            clip_norm=config.clip_norm,
            precision=config.precision,
            zero_stage=config.zero_stage,
            offload=config.offload,
            recompute=config.recompute,
        ) as engine,
        Recovery(engine, checkpoints, report) as recovery,
        Ahead(partial(_pieces, batch_at, config, engine.share)) as ahead,
    ):
        progress = recovery.resume()
        first_step, began = progress.step, time.monotonic()
        meter = _meter(flops, engine, config)
        watch = Watch(
            report if engine.rank == 0 else SILENT,
            meter,
            done=first_step,
            every_seconds=REPORT_SECONDS,
        )
        stopwatch = Stopwatch(progress.seconds)
        while progress.step < config.steps_of(progress):
            progress = config.decided(progress, engine, stopwatch.seconds())
            step, steps = progress.step, config.steps_of(progress)
            rate = config.rate_at(step, steps)
            sample = config.first_sample(step, progress)
            pieces = ahead.take(sample, sample + config.batch_size if step + 1 < steps else None)
            with explained(config.piece):
                figures = engine.backward(pieces, noise=partial(noise_key, config.seed, step))
            objection = config.guard.objection(figures, progress.history)
            if objection is None:
                engine.update(rate)
            else:
                engine.drop()
                watch.note(f"step {step} changed nothing: {objection}")
            progress.history.append({**figures, "learning_rate": rate, SKIPPED: float(objection is not None)})
            if config.guard.troubled(progress.history):
                progress = _past_the_trouble(recovery, progress, config, objection or "", watch)
                continue
            done, last = progress.step, progress.step == steps
            if held_out is not None and (done % held_out.every_steps == 0 or last):
                progress.held_out.append(held_out.figures(done, model))
                watch.held_out(progress.held_out[-1])
            if done % config.checkpoint_every_steps == 0 or last:
                used = stopwatch.seconds() if config.budget is not None else 0.0
                recovery.save(replace(progress, seconds=used))
            watch.step(progress.history, steps, waited=ahead.waited_seconds, paused=recovery.pause_seconds)
        recovery.settle()
        seconds = time.monotonic() - began
        tokens = sum(progress.history["tokens"][first_step:]) if progress.step else 0.0
        costs = {
            **meter.rates(tokens, seconds),
            "loader_wait_seconds": ahead.waited_seconds,
            "checkpoint_pause_seconds": recovery.pause_seconds,
            "longest_checkpoint_pause_seconds": recovery.longest_pause_seconds,
        }
        return Trained(
            history=progress.history,
            held_out=progress.held_out,
            roll_backs=progress.roll_backs,
            passed_over_samples=progress.passed_over_samples,
            first_step=first_step,
            seconds=seconds,
            rank=engine.rank,
            costs=costs,
        )


def _pieces(batch_at: Callable[[range], Any], config: TrainConfig, share: range, first: int) -> list[Any]:
    """This rank's pieces of the global batch that begins with sample `first`."""
    starts = [first + number * config.piece for number in share]
    return [batch_at(range(start, start + config.piece)) for start in starts]


def _past_the_trouble(
    recovery: Recovery, progress: Progress, config: TrainConfig, objection: str, watch: Watch
) -> Progress:
    """Go back to the last checkpoint before the refused steps, once. Raises Diverged with the evidence."""
    step, patience = progress.step - 1, config.guard.patience_steps
    first = config.first_sample(step, progress)
    before = progress.history.taken("loss", 1)
    evidence = (
        f"step {step} (samples {first} to {first + config.batch_size - 1}): {objection} at learning rate "
        f"{progress.history['learning_rate'][-1]:.2e}, the last of {patience} steps in a row that had to be refused; "
        + (f"the loss before them was {before[0]:.4f}" if before else "no step before them was taken")
    )
    advice = "lower learning_rate, or raise warmup_steps"
    if progress.roll_backs:
        raise Diverged(f"{evidence}; it had gone back to a checkpoint for the same reason already; {advice}")
    found = recovery.go_back(progress, progress.step - patience, config.batch_size)
    if found is None:
        raise Diverged(f"{evidence}; there is no checkpoint from before to go back to; {advice}")
    watch.gone_back(
        found.step,
        f"{evidence}; the run goes back to its checkpoint at step {found.step}, and on with sample "
        f"{config.first_sample(found.step, found)}",
    )
    return found


def _meter(flops_per_token: int, engine: Engine, config: TrainConfig) -> Meter:
    peak = peak_flops(engine.device, config.precision)
    return Meter(flops_per_token, None if peak is None else peak * engine.world_size)
