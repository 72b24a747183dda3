"""Start and stop the server: one Ray Serve deployment that is ingress, queue and model in a single process.

    client --> proxy (Ray Serve, 127.0.0.1:8000) --> replica: routes -> queue -> inference thread
                                                         ^ a thread that follows name@production in the store

One deployment rather than ingress + model saves a hop (about 5 ms of CPU each on this path). The Python proxy is used:
the HAProxy mode costs a tenth per request, but two clusters on one host collide on its fixed metrics and stats ports and
its processes outlive a killed Ray. Admission is ours (429 with JSON), so Ray's own limits are set out of the way.

The only importer of ray.serve; import it only where a server is started (importing costs 2 s).
"""

import contextlib
import io
import logging
import socket
import sys
import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from infra import ray_cluster
from infra.storage import Folder, open_folder
from serving import rollout
from serving.batching import Batcher
from serving.follow import Follower, Watch
from serving.routes.exchange import Desk
from serving.smoke import SmokeFailure, call

log = logging.getLogger("cloze.serving")

APPLICATION = "cloze"
DEFAULT_PORT = 8000


class PortInUse(OSError):
    """Somebody else listens on the port."""


class NotServing(RuntimeError):
    """The server did not become ready; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a server is run. Nothing here changes an answer.

    `replicas` processes of one core each; `max_queued_tokens` is per replica, beyond it a request is answered 429.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    replicas: int = 1
    max_batch_tokens: int = 512
    max_queued_tokens: int = 16_384
    poll_seconds: float = 1.0
    start_timeout_seconds: float = 180.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; it must be between 1 and 65535, or 0 for any free one")
        if self.replicas < 1:
            raise ValueError(f"replicas is {self.replicas}; at least one is needed")


class Replica:
    """What runs in a Ray Serve replica. Its constructor never raises for a model that cannot be loaded: /health says so."""

    def __init__(self, store: Folder, references: Sequence[str], config: ServeConfig, instance: str) -> None:
        from serving.loader import load  # torch: not needed by the process that only starts the server

        followers = {(f := Follower(store, reference, load)).name: f for reference in references}
        batcher = Batcher(
            max_batch_tokens=config.max_batch_tokens, max_queued_tokens=config.max_queued_tokens
        )
        self.desk = Desk(models=followers, batcher=batcher, proxied=True, instance=instance)
        self.watch = Watch(list(followers.values()), poll_seconds=config.poll_seconds).start()

    def __serve_build_asgi_app__(self) -> Any:
        from serving.routes.site import site

        return site(self.desk)


class Server:
    """A running server. Use it as a context manager, or call `stop`."""

    def __init__(self, url: str, *, owns_cluster: bool) -> None:
        self.url = url
        self._owns_cluster = owns_cluster

    def wait(self) -> None:
        """Block until the process is interrupted."""
        while True:
            time.sleep(3600)

    def stop(self) -> None:
        stop(disconnect=self._owns_cluster)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    models: Sequence[str],
    store: Folder | str,
    *,
    config: ServeConfig | None = None,
    ray_address: str | None = None,
) -> Server:
    """Serve `models` (name@production, name@v3) from the store; returns once every one of them answers over HTTP.

    Raises UnknownModel, PortInUse, NotServing and ConnectionError, each with one sentence.
    """
    config = config or ServeConfig()
    store = open_folder(store) if isinstance(store, str) else store
    if not models:
        raise ValueError("no model is named; say which to serve, for example docs-bert@production")
    references = [f"{name}@{selector}" for name, selector in map(rollout.parse, models)]
    names = [reference.partition("@")[0] for reference in references]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{repeated[0]} is named more than once; a server answers with one version of a model"
        )
    for reference in references:
        rollout.resolve(store, reference)
    port = free_port(config.host, config.port)
    owns_cluster = _connect(ray_address)
    try:
        url = _run(references, store, config, port)
    except BaseException:
        stop(disconnect=owns_cluster)
        raise
    return Server(url, owns_cluster=owns_cluster)


def stop(*, disconnect: bool = True) -> None:
    """Take the server down; with `disconnect`, the Ray cluster too if this process started it."""
    # Ray prints that the controller's last task failed because the controller has ended, which is what was asked for.
    with contextlib.redirect_stdout(io.StringIO()):
        _ray_serve().shutdown()
        if disconnect:
            ray_cluster.disconnect()


def free_port(host: str, port: int) -> int:
    """`port` if it can be listened on (0: any). Raises PortInUse naming one that is free.

    Ray's proxy sets SO_REUSEPORT, with which a second server would start silently and share the first one's requests.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of a server that has just ended (TIME_WAIT) do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise PortInUse(
                f"port {port} on {host} needs more rights than this process has; choose one above 1023"
            ) from None
        except socket.gaierror:
            raise PortInUse(
                f"host {host!r} is not a name or address of this machine; use 127.0.0.1"
            ) from None
        except OSError as error:
            if port == 0:
                raise PortInUse(
                    f"no port can be opened on {host} ({error.strerror}); use 127.0.0.1"
                ) from None
            free = free_port(host, 0)
            raise PortInUse(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another, for example {free}"
            ) from None
        return int(probe.getsockname()[1])


def _ray_serve() -> Any:
    """`ray.serve`; what it says about its own use of pydantic while being imported is not for our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import ray.serve.schema
    return ray.serve


def _connect(address: str | None) -> bool:
    """Join or start Ray; True if this process now owns it."""
    ray = sys.modules.get("ray")
    joined = ray is not None and ray.is_initialized()
    ray_cluster.connect(address)
    return not joined


def _run(references: Sequence[str], store: Folder, config: ServeConfig, port: int) -> str:
    serve = _ray_serve()
    LoggingConfig = serve.schema.LoggingConfig
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.host, "port": port},
        logging_config=quiet,
    )
    instance = uuid.uuid4().hex
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="models",
        num_replicas=config.replicas,
        # Ray sets OMP_NUM_THREADS to it: two processes of one thread beat one of two.
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=100_000,
        max_queued_requests=-1,
        max_surge_percent=100,
        health_check_period_s=5,
        logging_config=quiet,
    )
    serve.run(
        deployment.bind(store, references, config, instance),
        name=APPLICATION,
        route_prefix="/",
    )
    url = f"http://{reachable(config.host)}:{port}"
    _wait_ready(url, instance, config.start_timeout_seconds)
    return url


def reachable(host: str) -> str:
    """How a URL on this machine names a listening address."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


def _wait_ready(url: str, instance: str, timeout_seconds: float) -> None:
    """Until our own replica says ready over HTTP. Raises NotServing with the first problem it reports."""
    deadline = time.monotonic() + timeout_seconds
    reason = "nothing answered"
    while time.monotonic() < deadline:
        try:
            status, body, _ = call(f"{url}/health", timeout_seconds=10)
        except SmokeFailure as error:
            reason = str(error)
        else:
            if body.get("instance") != instance:
                reason = "another server answers there; stop it, or choose another port"
            elif status == 200:
                return
            else:
                problems = [m["problem"] for m in body["models"].values() if m["problem"]]
                if problems:
                    raise NotServing(problems[0])
        time.sleep(0.1)
    raise NotServing(f"the server at {url} was not ready after {timeout_seconds:g} s: {reason}")
