"""`cloze serve`: the Ray Serve server in front, or in the background with a state file that says where it is.

One background server per store. Its state file names the process (pid and start time), so a reused pid is never
mistaken for it, and only a process that we started is ever stopped.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows import run as runs
from flows.api import free_port
from flows.report import console
from flows.settings import Settings
from infra.process import process_of
from serving import rollout

START_SECONDS = 180.0
STOP_SECONDS = 30.0


def state_file(settings: Settings) -> Path:
    return settings.home / f"serve-{hashlib.sha256(settings.store.encode()).hexdigest()[:8]}.json"


def running(settings: Settings) -> dict[str, Any] | None:
    """The background server of the settings' store ({url, models, process}), if its process is alive."""
    try:
        state = json.loads(state_file(settings).read_text())
    except (OSError, ValueError):
        return None
    return None if runs.process_state(state["process"]) == "dead" else state


def health(url: str) -> dict[str, Any] | None:
    """The server's /health when it is ready, else None."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            body: dict[str, Any] = json.load(response)
            return body if response.status == 200 else None
    except (OSError, ValueError):
        return None


def ensure(settings: Settings, names: Sequence[str], *, host: str = "127.0.0.1", port: int = 8000) -> str:
    """The URL of a background server that answers for all `names`; started (again) when there is none."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with _lock(settings):
        state = running(settings)
        if state is not None:
            if health(state["url"]) is not None and set(names) <= set(state["models"]):
                return str(state["url"])
            names = sorted({*names, *state["models"]})
            stop(settings)
        return _start(settings, names, host, free_port(port, host=host))


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    with state_file(settings).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(settings: Settings, names: Sequence[str], host: str, port: int) -> str:
    log = state_file(settings).with_suffix(".log")
    command = [
        sys.executable,
        "-m",
        "flows",
        "serve",
        *names,
        "--host",
        host,
        "--port",
        str(port),
        "--store",
        settings.store,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "CLOZE_HOME": str(settings.home)},
        )
    url = f"http://{host}:{port}"
    state = {
        "url": url,
        "models": sorted(names),
        "process": asdict(process_of(process.pid)),
        "store": settings.store,
    }
    partial = state_file(settings).with_suffix(".tmp")
    partial.write_text(json.dumps(state))
    partial.replace(state_file(settings))
    end = time.monotonic() + START_SECONDS
    while health(url) is None:
        if process.poll() is not None or time.monotonic() > end:
            tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-2:])
            stop(settings)
            raise RuntimeError(f"the server did not come up at {url}: {tail or 'no output'}; see {log}")
        time.sleep(0.3)
    return url


def stop(settings: Settings) -> bool:
    """Stop the background server of this store, if there is one; True if there was."""
    state = running(settings)
    if state is None:
        return False
    pid = int(state["process"]["pid"])
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while runs.process_state(state["process"]) == "alive":
        with suppress(ChildProcessError):  # collected only when it is our own child
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    state_file(settings).unlink(missing_ok=True)
    return True


def in_production(settings: Settings) -> list[str]:
    """NAME@production of every model that has one."""
    store = runs.open_store(settings)
    return [f"{name}@production" for name in rollout.models(store) if rollout.history(store, name)]


def serve_command(args: Namespace) -> int:
    """`cloze serve`."""
    settings = Settings(store=args.store)
    if args.stop or args.status:
        state = running(settings)
        if state is None:
            print(f"no server runs in the background for {settings.store}")
            return 0 if args.stop else 1
        if args.stop:
            stop(settings)
            print(f"stopped the server at {state['url']}")
        else:
            print(f"{state['url']}  {', '.join(state['models'])}  pid {state['process']['pid']}")
        return 0
    names = [n if "@" in n else f"{n}@production" for n in args.names] or in_production(settings)
    if not names:
        raise ValueError(
            f"nothing is in production in {settings.store}; run a recipe, or `cloze promote NAME`"
        )
    if args.detach:
        print(f"serving {', '.join(names)} at {ensure(settings, names, host=args.host, port=args.port)}")
        return 0
    return _foreground(settings, names, args.host, args.port)


def _foreground(settings: Settings, names: list[str], host: str, port: int) -> int:
    from serving.app import ServeConfig, start

    store = runs.open_store(settings)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with start(
        names, store, config=ServeConfig(host=host, port=port), ray_address=settings.ray_address
    ) as server:
        console(f"serving {', '.join(names)} at {server.url}  (Ctrl-C stops)")
        try:
            server.wait()
        except KeyboardInterrupt:
            console("stopping")
    return 0
