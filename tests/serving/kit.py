"""What the serving tests share: a model without a network, a desk around it, and a server in this process."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn

from infra.storage import Folder
from serving import rollout
from serving.batching import Batcher
from serving.follow import Follower
from serving.predictors.predictor import Prepared, known, whole_number
from serving.rollout import Version
from serving.routes.exchange import Desk, Limits
from serving.routes.site import site

WHEN = "2026-01-02T03:04:05Z"


def register(store: Folder, name: str, digest: str, **scores: float) -> Version:
    return rollout.register(store, name, artifact=f"export/{digest}", scores=scores, when=WHEN)


def promote(store: Folder, name: str, number: int, **changes: Any) -> rollout.Entry:
    settings = {"gate": None, "who": "ada", "why": "a test", "when": WHEN}
    return rollout.promote(store, name, number, **(settings | changes))


class Words:
    """Fill-mask by counting: every word is a token, the answer says which digest gave it and what shared its batch."""

    task = "fill-mask"
    labels = None
    mask: str | None = "[MASK]"
    max_seq_len = 8

    def __init__(self, mark: str = "", seconds: float = 0.0) -> None:
        self.mark, self.seconds = mark, seconds
        self.batches: list[int] = []

    def read(self, parameters: Mapping[str, Any]) -> Any:
        return whole_number("top_k", known(parameters, ("top_k", "targets")).get("top_k", 1), 3)

    def prepare(self, text: str, options: Any) -> Prepared:
        words = text.split()
        return Prepared(
            tokens=np.zeros(min(len(words), self.max_seq_len), np.int64),
            options=options,
            whole_tokens=len(words),
        )

    def run(self, items: Sequence[Prepared]) -> list[Any]:
        self.batches.append(len(items))
        time.sleep(self.seconds)
        guess = {"score": 1.0, "token": 7, "token_str": self.mark, "sequence": self.mark}
        return [[guess] * item.options for item in items]

    def check(self) -> None:
        if "bad" in self.mark:
            raise ValueError("probe answers are not finite")


class Topics(Words):
    task = "text-classification"
    labels = ("a", "b")
    mask = None

    def run(self, items: Sequence[Prepared]) -> list[Any]:
        return [
            [{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}][: item.options] for item in items
        ]


@dataclass(eq=False)
class FakeLoaded:
    version: Version
    predictor: Words

    def run(self, items: Sequence[Any]) -> list[Any]:
        return self.predictor.run(items)


def fake_load(_: Folder, version: Version) -> FakeLoaded:
    predictor = (Topics if version.name == "topics" else Words)(mark=version.digest)
    predictor.check()
    return FakeLoaded(version, predictor)


def desk_of(
    store: Folder, *references: str, batcher: Batcher | None = None, limits: Limits | None = None
) -> Desk:
    """Models loaded by `fake_load`, looked at once."""
    followers = {(f := Follower(store, reference, fake_load)).name: f for reference in references}
    for follower in followers.values():
        follower.look(0.0)
    return Desk(models=followers, batcher=batcher or Batcher(), limits=limits or Limits())


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    """The URL of a real HTTP server on loopback, in a thread of this process."""
    server = uvicorn.Server(
        uvicorn.Config(site(desk), host="127.0.0.1", port=0, log_level="error", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        desk.batcher.close()
