"""The Prefect API a run talks to: the one `cloze up` serves, else a server of the run's own on the same database.

The run's own server is a child process that dies with it (Prefect's ephemeral server would outlive a killed run and
keep the SQLite file busy). Both keep their database in `<home>/prefect`, so `cloze up` later shows every earlier run.
Nothing here contacts the outside: analytics and promotional content are off.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = (
    180.0  # a first start creates the database: 10 s here, a minute and more on a machine with other work
)
MOST_RESTARTS = 20  # of a server that keeps being killed

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its page calls an outside host
    "PREFECT_SERVER_UI_API_URL": "/api",  # else the page asks port 4200 whatever port it is served on
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # its lines stay on the run's page; ours say the same once
}
# a run's own server only records; scheduling belongs to `cloze up`
RECORDER = {
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
    for name in (
        "SCHEDULER",
        "LATE_RUNS",
        "FOREMAN",
        "DB_VACUUM",
        "PAUSE_EXPIRATIONS",
        "CANCELLATION_CLEANUP",
        "TRIGGERS",
    )
}


def configure(home: Path, url: str | None = None) -> None:
    """Point this process (and its children) at `home` and `url`."""
    os.environ.update(QUIET)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    if url is not None:
        os.environ["PREFECT_API_URL"] = url
    if "prefect" in sys.modules:  # it has read its settings already, for an earlier run of this process
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def answers(url: str, seconds: float = 2.0) -> bool:
    """Whether a Prefect API answers at `url` (.../api)."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def served(home: Path) -> str | None:
    """The API address that `cloze up` announced in `home`, if it still answers."""
    try:
        url = str(json.loads((home / "up.json").read_text())["api"])
    except (OSError, KeyError, ValueError):
        return None
    return url if answers(url) else None


def free_port(preferred: int | None = None, *, host: str = "127.0.0.1") -> int:
    """`preferred` if nothing listens there, else one the system chooses."""
    for port in ([preferred] if preferred else []) + [0]:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
            except OSError:
                continue
            return int(s.getsockname()[1])
    raise OSError(f"no free port on {host}")


def die_with_parent() -> None:
    """In a child before exec: be killed when the parent goes, however it goes (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start_server(
    home: Path, port: int, *, recorder: bool, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `prefect server` on loopback as our child; returns at once."""
    log = log or home / "prefect" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, **QUIET, **(RECORDER if recorder else {}), "PREFECT_HOME": str(home / "prefect")}
    env.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent
        )


def wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Raise RuntimeError with the end of its log when the server ends or does not answer in time."""
    end = time.monotonic() + START_SECONDS
    while not answers(url, 1.0):
        if process.poll() is not None or time.monotonic() > end:
            tail = (
                " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) if log.exists() else ""
            )
            raise RuntimeError(
                f"the Prefect server did not come up at {url}: {tail or 'no output'}; see {log}"
            )
        time.sleep(0.1)


class Keeper(threading.Thread):
    """Starts our server again, on its port and its database, when something has killed it.

    Without it a run whose server is gone goes on, but each call to the API waits through all its repetitions first, and
    the run ends minutes later than its work. (The thread lives as long as the servers it starts: they die with it.)
    """

    def __init__(self, server: "subprocess.Popen[bytes]", home: Path, port: int, *, recorder: bool) -> None:
        super().__init__(daemon=True, name="prefect-keeper")
        self.server, self.restarts = server, 0
        self._home, self._port, self._recorder = home, port, recorder
        self._end = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._end.wait(0.5):
            if self.server.poll() is not None and self.restarts < MOST_RESTARTS:
                self.server = start_server(self._home, self._port, recorder=self._recorder)
                self.restarts += 1
        self._stop_server()

    def close(self) -> None:
        """Stop watching, then stop the server."""
        self._end.set()
        self.join()

    def _stop_server(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()


def _deliver() -> None:
    """Wait until the log lines and events still queued in this process have reached the server, 10 s at most."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=10)


@contextmanager
def prefect_api(home: Path) -> Iterator[str]:
    """The API for one run: what `cloze up` serves, else a child server that ends with the block."""
    home.mkdir(parents=True, exist_ok=True)
    url = served(home)
    if url is not None:
        configure(home, url)
        yield url
        return
    with (home / "prefect-start.lock").open(
        "w"
    ) as lock:  # two first starts at once would both create the database
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        server = start_server(home, port, recorder=True)
        try:
            wait_until_up(server, url, home / "prefect" / "server.log")
        except BaseException:
            server.kill()
            server.wait()
            raise
    configure(home, url)
    keeper = Keeper(server, home, port, recorder=True)
    try:
        yield url
    finally:
        _deliver()
        keeper.close()
