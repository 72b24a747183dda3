"""Processes that compete for a store, started by the tests as `python -m tests.infra.racers WHAT ...`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from infra.lease import hold
from infra.storage import Folder, open_folder

ROOT = Path(__file__).resolve().parents[2]


def start(what: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.infra.racers", what, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def race(what: str, url: str, count: int, *arguments: object) -> list[object]:
    """Start `count` processes, let them go together, and return what each printed."""
    racers = [start(what, url, number, *arguments) for number in range(count)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    printed = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * count
    return [json.loads(text) for text in printed]


def create(store: Folder, me: str, keys: str) -> list[int]:
    """The keys this process created. Everybody tries each key at the same instant (the clock is the machine's)."""
    began = time.monotonic() // 1 + 1
    won = []
    for key in range(int(keys)):
        time.sleep(max(0.0, began + key / 10 - time.monotonic()))
        if store.create(f"keys/{key}", me.encode()):
            won.append(key)
    return won


def increment(store: Folder, me: str, times: str) -> int:
    """Add one to a shared counter, `times` times; returns how many attempts that took."""
    attempts = done = 0
    while done < int(times):
        data, tag = store.read_tagged("counter")
        attempts += 1
        done += store.replace("counter", str(int(data) + 1).encode(), tag)
    return attempts


def take_turns(store: Folder, me: str, times: str, room: str) -> int:
    """Enter a room that has place for one, holding the lease; fails when somebody is inside."""
    inside = Path(room) / "inside"
    for _ in range(int(times)):
        with hold(store, heartbeat_seconds=0.2, ttl_seconds=5.0) as lease:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            time.sleep(0.01)
            lease.check()
            inside.unlink()
    return int(times)


def keep(store: Folder, me: str, ttl_seconds: str) -> None:
    """Hold the lease until killed; say so; report the end of it."""
    with hold(store, heartbeat_seconds=float(ttl_seconds) / 4, ttl_seconds=float(ttl_seconds)) as lease:
        print("held", flush=True)
        while True:
            time.sleep(0.02)
            lease.check()


def write_slowly(store: Folder, me: str) -> None:
    """Begin a file and never finish it."""
    with store.writer("folder/file.bin") as path:
        path.write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    what, url, *rest = sys.argv[1:]
    folder = open_folder(url)
    folder.exists("warm")  # connected before the start
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(globals()[what](folder, *rest)), flush=True)
