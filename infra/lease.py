"""One writer at a time, on any store.

The lease is a small file that changes by compare-and-swap only. Its holder rewrites it every few seconds with a higher
`beat`; who waits for it may take it over when

    it says `released`;
    its holder is a dead process of this host (same boot, same pid namespace, no such pid with that start time): at once;
    its holder cannot be seen from here, and the file has not changed for `ttl_seconds` of our own monotonic clock;
    its holder lives here but the file has not changed for `STUCK` times that (a stopped process, a lost heartbeat).

No clock of another host is ever compared with ours (marin's lock breaks at 90 s of skew; mechanisms 7.9). A holder that
was taken over finds out at its next `check()`, and its heartbeats cannot succeed: they name a version that is gone.
"""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from infra.process import Process, this_process
from infra.storage import Folder

STUCK = 10
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.05, 1.0

log = logging.getLogger("cloze.lease")


class LeaseLost(RuntimeError):
    """Somebody else holds the lease, or may by now: stop writing."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the file holds. `nonce` names one holding, `beat` makes every version of it different."""

    holder: Process
    nonce: str
    beat: int
    ttl_seconds: float
    released: bool = False

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "_Record | None":
        """None for what is no lease: it is treated as that of a holder we cannot see."""
        try:
            body = json.loads(data)
            return _Record(holder=Process(**body.pop("holder")), **body)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@contextmanager
def hold(
    folder: Folder,
    name: str = "lease.json",
    *,
    heartbeat_seconds: float = 5.0,
    ttl_seconds: float = 30.0,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator["Lease"]:
    """Hold the lease for the length of the block, waiting for it first.

    `on_wait` is told of each holder we wait for ("process 41 on host"). Raises StoreUnreachable while acquiring; once
    held, an unreachable store is tried again until `Lease.check` finds the lease overdue.
    """
    if not 0 < 2 * heartbeat_seconds <= ttl_seconds:
        raise ValueError(
            f"heartbeat_seconds={heartbeat_seconds} and ttl_seconds={ttl_seconds}: a lease must survive one lost "
            "heartbeat; make ttl_seconds at least twice heartbeat_seconds"
        )
    record = _Record(holder=this_process(), nonce=secrets.token_hex(8), beat=0, ttl_seconds=ttl_seconds)
    lease = Lease(folder, name, record, heartbeat_seconds)
    _acquire(lease, on_wait)
    lease._start()
    try:
        yield lease
    finally:
        lease._release()


def is_held(folder: Folder, name: str = "lease.json") -> bool:
    """Whether somebody has the lease who is not known to be dead."""
    try:
        record = _Record.from_bytes(folder.read(name))
    except FileNotFoundError:
        return False
    return record is None or not _free(record)


def _free(record: _Record) -> bool:
    return record.released or record.holder.state() == "dead"


def _acquire(lease: "Lease", on_wait: Callable[[str], None] | None) -> None:
    folder, name = lease.folder, lease.name
    seen_tag, since, told, poll = "", 0.0, "", FIRST_POLL_SECONDS
    while True:
        asked = _now()
        try:
            data, tag = folder.read_tagged(name)
        except FileNotFoundError:
            if folder.create(name, lease.record.to_bytes()) and lease._confirm(asked):
                return
            continue
        if tag != seen_tag:
            seen_tag, since = tag, asked
        record = _Record.from_bytes(data)
        if _may_take(record, asked - since, lease.record.ttl_seconds):
            if folder.replace(name, lease.record.to_bytes(), tag) and lease._confirm(asked):
                return
            continue
        holder = (
            str(record.holder)
            if record
            else f"an unknown holder ({folder.url}/{name} is not a lease we can read)"
        )
        if on_wait is not None and holder != told:
            told = holder
            on_wait(holder)
        time.sleep(poll)
        poll = min(LONGEST_POLL_SECONDS, 1.5 * poll)


def _may_take(record: _Record | None, unchanged_seconds: float, ttl_seconds: float) -> bool:
    if record is None:
        return unchanged_seconds >= ttl_seconds
    if _free(record):
        return True
    patience = max(ttl_seconds, record.ttl_seconds) * (STUCK if record.holder.state() == "alive" else 1)
    return unchanged_seconds >= patience


class Lease:
    """A lease we hold. Made by `hold`."""

    def __init__(self, folder: Folder, name: str, record: _Record, heartbeat_seconds: float) -> None:
        self.folder, self.name, self.record = folder, name, record
        self._heartbeat_seconds = heartbeat_seconds
        self._tag = ""
        self._confirmed = 0.0  # when the last successful beat began, so never later than others saw it
        self._lost = ""
        self._lock = threading.Lock()  # one beat at a time: the heartbeat's and `check`'s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise LeaseLost if the lease is not ours any more.

        Costs nothing while heartbeats arrive. An overdue lease (this process was stopped, or the store did not answer)
        is beaten on the spot: if nobody took it over meanwhile, it is still ours.
        """
        if not self._lost and _now() - self._confirmed > self.record.ttl_seconds:
            try:
                self._beat()
            except OSError as error:
                raise LeaseLost(
                    f"{self._what()} could not be renewed in time ({error}); run the same command again"
                ) from None
        if self._lost:
            raise LeaseLost(self._lost)

    def _what(self) -> str:
        return f"the lease {self.folder.url}/{self.name}"

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name=f"lease {self.folder.url}", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(self._heartbeat_seconds) and not self._lost:
            try:
                self._beat()
            except OSError as error:  # check() decides whether that lasts too long
                log.warning("%s could not be renewed, trying again: %s", self._what(), error)

    def _beat(self, *, released: bool = False) -> None:
        with self._lock:
            if self._lost:
                return
            began = _now()
            record = replace(self.record, beat=self.record.beat + 1, released=released)
            done = self.folder.replace(self.name, record.to_bytes(), self._tag)
            if done:
                self.record = record
            if not (done and released) and not self._confirm(began):
                self._lost = (
                    self._lost or f"{self._what()} was taken over by {self._holder()}; this run stops"
                )

    def _confirm(self, began: float) -> bool:
        """Learn the version of what we wrote; False if it is not ours."""
        try:
            data, tag = self.folder.read_tagged(self.name)
        except FileNotFoundError:
            return False
        record = _Record.from_bytes(data)
        if record is None or record.nonce != self.record.nonce:
            return False
        self.record, self._tag, self._confirmed = record, tag, began
        return True

    def _holder(self) -> str:
        try:
            record = _Record.from_bytes(self.folder.read(self.name))
        except OSError:
            record = None
        return str(record.holder) if record else "somebody who removed it"

    def _release(self) -> None:
        self._stop.set()
        if self.record.holder.pid != os.getpid():
            return  # a forked child leaves the block: the lease is its parent's
        if self._thread is not None:
            self._thread.join()
        try:
            self._beat(released=True)
        except OSError as error:
            log.warning("%s could not be released; it ends by itself: %s", self._what(), error)


def _now() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell (Linux)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
