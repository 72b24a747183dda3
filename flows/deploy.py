"""Serve what is in production and send it real requests.

Whether a server runs now is not a result, so it is no part of any digest; that the promoted models answered, and what,
is: `smoke_test` starts a server (or finds the running one), waits until it serves exactly these models, and asks.
"""

import time
from dataclasses import dataclass

from flows import run as runs
from flows import server
from flows.step import step
from infra.artifacts import Artifact, Counts
from infra.output import Output
from serving.smoke import SmokeFailure, call
from serving.smoke import smoke_test as ask

ANSWERS = "answers.json"
FOLLOW_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class SmokeConfig:
    """The registered names that must answer; the server's own example is sent to each."""

    names: tuple[str, ...]


def smoke_test(
    config: SmokeConfig, *, language_model: Artifact | None, classifier: Artifact | None, out: Output
) -> Counts:
    """Write answers.json: each model's task, text, best guess and whole answer. Raises SmokeFailure."""
    run = runs.current()
    assert run is not None, "a smoke test needs a run, which says where the server is"
    url = server.ensure(run.settings, [f"{name}@production" for name in config.names])
    wanted = {a.digest for a in (language_model, classifier) if a is not None}
    _wait_for(url, config.names, wanted)
    samples = [s for s in ask(url) if s.model in config.names]
    answers = [
        {"model": s.model, "task": s.task, "text": s.text, "best": s.best, "score": round(s.score, 4)}
        for s in samples
    ]
    out.write_json(ANSWERS, answers)
    out.measure(**{f"{s.model}_milliseconds": round(s.milliseconds, 1) for s in samples})
    return {"answers": len(answers)}


def _wait_for(url: str, names: tuple[str, ...], digests: set[str]) -> None:
    """Until the server has followed the pointers to the promoted models, or somebody has promoted others."""
    end = time.monotonic() + FOLLOW_SECONDS
    while True:
        _, models, _ = call(f"{url}/models", timeout_seconds=10)
        served = {str(m["digest"]) for m in models if m["name"] in names}
        if digests <= served:
            return
        if time.monotonic() > end:
            raise SmokeFailure(
                f"{url} serves {', '.join(sorted(d[:12] for d in served)) or 'nothing'} and not what this run promoted; "
                "see `cloze models` for what is in production"
            )
        time.sleep(0.5)


smoke_step = step(smoke_test)
