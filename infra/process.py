"""Which process is this, and is that one still alive? Enough identity never to mistake a reused pid for its owner.

A process is known by its host's boot, its pid namespace, its pid and its start time in clock ticks since boot. Where
there is no /proc (macOS) the boot is the machine's address and the start time is unknown.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, as other processes and other hosts can tell it apart. `start` is 0 where it is unknown."""

    host: str
    boot: str
    namespace: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def ground(self) -> str:
        """Eight hex digits for host, boot and pid namespace: where two of them agree, pids mean the same process."""
        return blake2b(f"{self.boot}\0{self.namespace}".encode(), digest_size=4).hexdigest()

    def state(self) -> Literal["alive", "dead", "unknown"]:
        """`unknown`: it belongs to another host, or to a container we cannot look into."""
        here = this_process()
        if self.ground != here.ground:
            return "unknown"
        if here.start == 0:
            return "alive" if _signalable(self.pid) else "dead"
        return "alive" if _start(self.pid) == self.start else "dead"


def this_process() -> Process:
    """The calling process; asked again after a fork."""
    return process_of(os.getpid())


@cache
def process_of(pid: int) -> Process:
    """The process that has this pid here now."""
    boot, namespace = _ground()
    return Process(host=socket.gethostname(), boot=boot, namespace=namespace, pid=pid, start=_start(pid) or 0)


def _ground() -> tuple[str, str]:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return boot, os.readlink(PROC / "self/ns/pid")
    except OSError:
        return f"{uuid.getnode():012x}", ""


def _start(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`; None if it is gone or a zombie (its parent has not collected it)."""
    try:
        # proc(5): the command, field 2, is in parentheses and may itself hold spaces and parentheses
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _signalable(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
