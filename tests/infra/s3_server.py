"""A real S3 server on loopback, and a proxy in front of it that breaks things.

`S3Server` is a moto process. `FaultProxy` relays one request per connection to it and, asked to, spoils one:

    error          answer 500; the server never sees the request
    slow           wait, then relay
    cut_request    break both connections in the middle of the request's body
    cut_answer     the server does its work; break the connection in the middle of the answer's body
    lose_answer    the server does its work; break the connection without a word
    error_after    the server does its work; answer 500
"""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

FAULTS = ("error", "slow", "cut_request", "cut_answer", "lose_answer", "error_after")
KEYS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>injected</Message></Error>"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class S3Server:
    """A moto server process; `stop` ends it."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with log.open("wb") as out:
            command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **KEYS})
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"moto did not start: {log.read_text()}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class FaultProxy:
    """Relays to `server_port`. `plan(method, path)` names the fault of each request, or None for none."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.plan: Callable[[str, str], str | None] = lambda method, path: None
        self.slow_seconds = 0.3
        self.seen: list[tuple[str, str, str | None]] = []  # method, path, fault
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def once(self, fault: str, method: str, part: str = "") -> None:
        """Spoil the next request of this method whose path contains `part`."""
        left = [fault]
        self.plan = lambda m, path: left.pop() if left and m == method and part in path else None

    def at_random(self, seed: int, share: float, faults: tuple[str, ...] = FAULTS) -> None:
        """Spoil this share of all requests."""
        random = Random(seed)
        self.plan = lambda method, path: random.choice(faults) if random.random() < share else None

    def count(self, fault: str | None = None) -> int:
        return sum(fault is None or f == fault for _, _, f in self.seen)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head, body = _read_head(client)
            if not head:
                return
            lines = head.split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            length = int(fields.get("content-length", 0))
            if "expect" in fields:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            with self._lock:
                fault = self.plan(method, path)
                self.seen.append((method, path, fault))
            body += _read(client, length - len(body))
            if fault == "error":
                client.sendall(_answer_500(method))
                return
            if fault == "slow":
                time.sleep(self.slow_seconds)
            drop = ("expect", "connection")
            kept = [lines[0], *(line for line in lines[1:] if line.partition(":")[0].lower() not in drop)]
            request = "\r\n".join([*kept, "Connection: close", "", ""]).encode() + body
            with socket.create_connection(("127.0.0.1", self.server_port)) as server:
                if fault == "cut_request":
                    server.sendall(request[: len(request) - (len(body) + 1) // 2])
                    _reset(server)
                    _reset(client)
                    return
                server.sendall(request)
                answer = _read(server, None)
            if fault == "lose_answer":
                _reset(client)
            elif fault == "error_after":
                client.sendall(_answer_500(method))
            elif fault == "cut_answer":
                end = answer.find(b"\r\n\r\n") + 4
                client.sendall(
                    answer[: end + (len(answer) - end) // 2] if len(answer) > end else answer[: end // 2]
                )
            else:
                client.sendall(answer)


def _answer_500(method: str) -> bytes:
    head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(_ERROR)}\r\nConnection: close\r\n\r\n".encode()
    return head if method == "HEAD" else head + _ERROR


def _read_head(connection: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return "", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(), rest


def _read(connection: socket.socket, length: int | None) -> bytes:
    parts, have = [], 0
    while length is None or have < length:
        more = connection.recv(1 << 20)
        if not more:
            break
        parts.append(more)
        have += len(more)
    return b"".join(parts)


def _reset(connection: socket.socket) -> None:
    """Close with RST, as a broken line looks."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
