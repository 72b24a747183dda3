"""The whole server: real Ray Serve, real HTTP, real (small, random) models."""

import socket
import threading
import time
from collections import Counter

import httpx
import pytest

from infra.storage import Folder
from serving import rollout
from serving.app import NotServing, PortInUse, ServeConfig, _wait_ready, free_port, start
from serving.smoke import SmokeFailure, call, smoke_test
from tests.serving.exported import export_artifact
from tests.serving.kit import WHEN, desk_of, promote, served


def registered(store: Folder, name: str, task: str, seed: int) -> rollout.Version:
    address = export_artifact(store, task, seed=seed).address
    return rollout.register(store, name, artifact=address, scores={"accuracy": 0.5}, when=WHEN)


def test_a_port_in_use_is_said_with_one_that_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            PortInUse, match=f"port {port} on 127.0.0.1 cannot be used .*choose another, for example"
        ) as refused:
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", int(str(refused.value).rsplit(" ", 1)[1])) > 0


def test_a_port_shared_by_another_ray_is_seen_as_taken() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse):
            free_port("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("models", "error", "says"),
    [
        ([], ValueError, "no model is named"),
        (["nobody"], rollout.UnknownModel, "no model 'nobody' is registered"),
        (["m@v1", "m@production"], ValueError, "m is named more than once"),
        (["M"], ValueError, "model name 'M'"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_starts(store: Folder, models, error, says) -> None:
    with pytest.raises(error, match=says):
        start(models, store)


def test_a_host_that_is_not_ours_is_refused(store: Folder) -> None:
    with pytest.raises(PortInUse, match=r"192\.0\.2\.1"):
        free_port("192.0.2.1", 0)


def test_a_server_that_cannot_answer_gives_its_reason_and_a_stranger_is_not_taken_for_it(
    store: Folder,
) -> None:
    rollout.register(store, "m", artifact="export/bad", scores={}, when=WHEN)
    promote(store, "m", 1)
    desk = desk_of(store, "m")
    desk.instance = "ours"
    with served(desk) as url:
        with pytest.raises(NotServing, match="m@v1 was not loaded: probe answers are not finite"):
            _wait_ready(url, "ours", 30.0)
        with pytest.raises(NotServing, match="another server answers there"):
            _wait_ready(url, "somebody else's", 0.3)
    with pytest.raises(NotServing, match=r"was not ready after 0\.3 s: .* does not answer"):
        _wait_ready(url, "ours", 0.3)


class Clients:
    """Threads that ask as fast as they are answered, and count what came back by (status, version)."""

    def __init__(self, url: str, count: int) -> None:
        self.url, self.seen, self._stop = url, Counter(), threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(count)]

    def _ask(self, number: int) -> None:
        model = ("blanks", "topics")[number % 2]
        body = {"inputs": "the [MASK] of a list"}
        while not self._stop.is_set():
            try:
                status, _, headers = call(f"{self.url}/models/{model}", body, timeout_seconds=60)
                key = (model, status, headers.get("x-model-version"))
            except SmokeFailure as failure:
                key = (model, str(failure), None)
            with self._lock:
                self.seen[key] += 1

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, key: tuple[str, int, str], more: int = 10) -> None:
        """Wait for `more` further answers of that kind."""
        goal, deadline = self.seen[key] + more, time.monotonic() + 120
        while self.seen[key] < goal:
            assert time.monotonic() < deadline, f"{key} was not seen; seen: {dict(self.seen)}"
            time.sleep(0.05)


def test_promotions_and_rollbacks_under_load_lose_no_request(store: Folder) -> None:
    for seed in (1, 2):
        registered(store, "blanks", "fill-mask", seed)
    registered(store, "topics", "text-classification", 1)
    broken = export_artifact(store, "fill-mask", seed=9)
    rollout.register(store, "blanks", artifact=broken.address, scores={}, when=WHEN)
    broken.folder.write("model.safetensors", b"not what was exported")
    promote(store, "blanks", 1)
    promote(store, "topics", 1)
    config = ServeConfig(port=0, poll_seconds=0.2)
    with start(["blanks@production", "topics@production"], store, config=config) as server:
        assert {(s.model, s.task) for s in smoke_test(server.url)} == {
            ("blanks", "fill-mask"),
            ("topics", "text-classification"),
        }
        with httpx.Client() as client:  # the proxy adds the id; two of them would arrive joined
            response = client.post(
                f"{server.url}/models/topics", json={"inputs": "a"}, headers={"X-Request-Id": "id-7"}
            )
            assert response.headers["X-Request-Id"] == "id-7"
        with Clients(server.url, 4) as clients:
            clients.until(("blanks", 200, "1"))
            promote(store, "blanks", 2)
            clients.until(("blanks", 200, "2"))
            promote(store, "blanks", 3)  # a version that cannot be loaded
            deadline = time.monotonic() + 60
            while not (problem := _health(server.url)["models"]["blanks"]["problem"]):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert "model.safetensors" in problem
            assert problem.endswith("blanks@v2 goes on")
            clients.until(("blanks", 200, "2"))
            rollout.rollback(store, "blanks", who="ada", why="v3 does not load", when=WHEN)
            clients.until(("blanks", 200, "2"))
            rollout.rollback(store, "blanks", who="ada", why="v1 was better", when=WHEN)
            clients.until(("blanks", 200, "1"))
        assert set(clients.seen) == {("blanks", 200, "1"), ("blanks", 200, "2"), ("topics", 200, "1")}
        assert _health(server.url)["models"]["blanks"] == {"ready": True, "version": 1, "problem": None}
        with pytest.raises(PortInUse):
            start(["topics"], store, config=ServeConfig(port=int(server.url.rsplit(":", 1)[1])))
    with pytest.raises(SmokeFailure, match="is the server running"):
        smoke_test(server.url)


def _health(url: str):
    return call(f"{url}/health", timeout_seconds=60)[1]
