"""Checkpoints written beside training: the loop pays for a copy, a thread for the disk and the checksums.

    loop    --copy--> step 401, 402, ...        --copy--> (waits if the last is still being written)
    thread           write, verify, commit                write ...

A store that is away for a minute or a disk that is full does not end a run: the write is tried again every few seconds,
a newer checkpoint takes the place of one that waits, and training goes on meanwhile. Only at the end, and before a
roll-back, must the last checkpoint be there.
"""

import threading
import time
from collections.abc import Callable
from typing import Self

from infra.lease import LeaseLost
from infra.report import Report
from training.checkpoint import LEASE, Checkpoint, Checkpoints

RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 600.0  # how long the end of a run waits for its store


class Saver:
    """Writes as long as the `with` block lasts. `check` raises when somebody else writes here by now."""

    def __init__(self, checkpoints: Checkpoints, report: Report, check: Callable[[], None]) -> None:
        self._checkpoints, self._report, self._check_lease = checkpoints, report, check
        self._changed = threading.Condition()
        self._waiting: Checkpoint | None = None
        self._error: OSError | None = None  # why the last attempt failed
        self._broken: BaseException | None = None  # what ended the thread
        self._closing = False
        self.written, self.failures = 0, 0
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let a write that is under way end; it is not tried again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def put(self, checkpoint: Checkpoint) -> None:
        """Have it written soon. Waits for the one before, unless that one waits for its store: then this one replaces it."""
        with self._changed:
            while self._waiting is not None and self._error is None and self._broken is None:
                self._changed.wait()
            self._raise_if_broken()
            self._waiting = checkpoint
            self._changed.notify_all()

    def settle(self) -> None:
        """Return when everything is written. Raises the store's own error if it does not come back."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while self._waiting is not None and self._broken is None:
                if self._error is not None and time.monotonic() >= end:
                    raise self._error
                self._changed.wait(min(1.0, max(0.01, end - time.monotonic())))
            self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._closing:
                    self._changed.wait()
                checkpoint = self._waiting
            if checkpoint is None:
                return
            try:
                self._still_ours()
                self._checkpoints.save(checkpoint)
            except OSError as error:
                if self._failed(checkpoint, error):
                    return
            except BaseException as error:
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
                return
            else:
                self._succeeded(checkpoint)

    def _still_ours(self) -> None:
        try:
            self._check_lease()
        except LeaseLost:
            self._checkpoints.folder.exists(
                LEASE
            )  # raises OSError while the store is away: then nobody knows
            self._check_lease()

    def _failed(self, checkpoint: Checkpoint, error: OSError) -> bool:
        """Wait before the next attempt. True if there is to be none."""
        with self._changed:
            if self._error is None:
                self._report.note(
                    f"the checkpoint at step {checkpoint.progress.step} could not be written ({error}); training goes on, "
                    f"and it is tried again every {RETRY_SECONDS:g} s"
                )
            self._error = error
            self.failures += 1
            self._changed.notify_all()
            if not self._closing:
                self._changed.wait(RETRY_SECONDS)
            return self._closing

    def _succeeded(self, checkpoint: Checkpoint) -> None:
        with self._changed:
            if self._error is not None:
                self._report.note(
                    f"the checkpoint at step {checkpoint.progress.step} is written; the store is back"
                )
            self._error = None
            self.written += 1
            if self._waiting is checkpoint:
                self._waiting = None
            self._changed.notify_all()
