"""Between the loop and its checkpoints: resume, save, go back. It does nothing where there are no checkpoints.

Every rank calls every method. Rank 0 alone writes, holds the folder's lease, and decides which step all of them load.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from infra.report import Report
from training.checkpoint import Checkpoint, Checkpoints, Progress
from training.engine import Engine
from training.saver import Saver


class Recovery:
    """For the length of a training."""

    def __init__(self, engine: Engine, checkpoints: Checkpoints | None, report: Report) -> None:
        self._engine, self._checkpoints, self._report = engine, checkpoints, report
        self._saver: Saver | None = None
        self._stack = ExitStack()
        self.pause_seconds = 0.0  # what checkpoints cost the loop
        self.longest_pause_seconds = 0.0

    def __enter__(self) -> Self:
        if self._checkpoints is not None and self._engine.rank == 0:
            with ExitStack() as stack:
                lease = stack.enter_context(self._checkpoints.claimed(self._report))
                self._saver = stack.enter_context(Saver(self._checkpoints, self._report, lease.check))
                self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.__exit__(*details)  # type: ignore[arg-type]

    def resume(self) -> Progress:
        """Load the newest whole checkpoint into the engine; how far it is. Nothing and step 0 if there is none."""
        progress = self._load(None)
        if progress is None:
            return Progress()
        self._note(f"training goes on from the checkpoint at step {progress.step}")
        return progress

    def save(self, progress: Progress) -> None:
        """Take a copy, to be written beside training."""
        if self._checkpoints is None:
            return
        began = time.monotonic()
        state = self._engine.state()
        if self._saver is not None and state is not None:
            copied = replace(progress, history=progress.history.copy(), held_out=list(progress.held_out))
            self._saver.put(Checkpoint(progress=copied, state=state))
        pause = time.monotonic() - began
        self.pause_seconds += pause
        self.longest_pause_seconds = max(self.longest_pause_seconds, pause)

    def settle(self) -> None:
        """Wait until the last checkpoint is written. Raises the store's error if it cannot be."""
        began = time.monotonic()
        if self._saver is not None:
            self._saver.settle()
        self._engine.agree(0)  # nobody leaves before it is
        self.pause_seconds += time.monotonic() - began

    def go_back(self, progress: Progress, first_refused: int, batch_size: int) -> Progress | None:
        """Return to the newest checkpoint before step `first_refused`, to go on with the samples behind the trouble.

        None if there is none. What the model carried from step to step is left behind: its text does not follow.
        """
        self.settle()
        found = self._load(first_refused)
        if found is None:
            return None
        if self._checkpoints is not None and self._engine.rank == 0:
            # else a kill before the next checkpoint would take up again what has been left
            self._checkpoints.forget_after(found.step)
        self._engine.forget_carried()
        reached = progress.passed_over_samples + (progress.step - found.step) * batch_size
        return replace(found, roll_backs=progress.roll_backs + 1, passed_over_samples=reached)

    def _load(self, up_to: int | None) -> Progress | None:
        if self._checkpoints is None:
            return None
        step = self._engine.agree((self._checkpoints.newest(up_to) or 0) if self._engine.rank == 0 else 0)
        if step == 0:
            return None
        kept = self._checkpoints.load(step)
        self._engine.restore(kept.state)
        return kept.progress

    def _note(self, message: str) -> None:
        if self._engine.rank == 0:
            self._report.note(message)
