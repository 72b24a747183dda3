"""Does a running server answer? Real HTTP requests, one per served model, by nothing but the standard library."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

EXAMPLES = {
    "fill-mask": "Return a [MASK] of all the names in the module.",
    "text-classification": "Return a new array of the given shape and type, filled with zeros.",
}


class SmokeFailure(RuntimeError):
    """The server did not answer as it must; the message says which request and what came back."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request that was answered: `best` is the first guess, in words, and its score."""

    model: str
    task: str
    version: str
    text: str
    best: str
    score: float
    milliseconds: float
    curl: str
    answer: Any


def smoke_test(url: str, *, timeout_seconds: float = 30.0) -> list[Sample]:
    """Ask /health, then every served model its example. Raises SmokeFailure unless all answer with plausible scores."""
    url = url.rstrip("/")
    status, body, _ = call(f"{url}/health", timeout_seconds=timeout_seconds)
    if status != 200:
        raise SmokeFailure(
            f"{url}/health says {body.get('status', status)!r}, not ready: {json.dumps(body)[:300]}"
        )
    _, models, _ = call(f"{url}/models", timeout_seconds=timeout_seconds)
    return [_sample(url, model, timeout_seconds) for model in models]


def _sample(url: str, model: dict[str, Any], timeout_seconds: float) -> Sample:
    target, task = f"{url}{model['url']}", model["task"]
    if task not in EXAMPLES:
        raise SmokeFailure(f"{target} answers {task!r}, for which there is no example")
    text = EXAMPLES[task].replace("[MASK]", model.get("mask") or "[MASK]")
    body = {"inputs": text}
    began = time.monotonic()
    status, answer, headers = call(target, body, timeout_seconds=timeout_seconds)
    milliseconds = (time.monotonic() - began) * 1000
    if status != 200:
        raise SmokeFailure(f"POST {target} was answered {status}: {json.dumps(answer)[:300]}")
    try:
        first = answer[0] if task == "fill-mask" else answer[0][0]
        best, score = (
            str(first["token_str"] if task == "fill-mask" else first["label"]),
            float(first["score"]),
        )
    except (LookupError, TypeError, ValueError):
        raise SmokeFailure(
            f"POST {target} was answered in another form: {json.dumps(answer)[:300]}"
        ) from None
    if not 0.0 <= score <= 1.0:
        raise SmokeFailure(f"POST {target} gave the score {score}, which is not a probability")
    return Sample(
        model=model["name"],
        task=task,
        version=headers.get("x-model-version", ""),
        text=text,
        best=best,
        score=score,
        milliseconds=milliseconds,
        curl=f"curl -s {target} -H 'Content-Type: application/json' -d '{json.dumps(body)}'",
        answer=answer,
    )


def call(url: str, body: Any = None, *, timeout_seconds: float) -> tuple[int, Any, dict[str, str]]:
    """(status, parsed JSON, headers in lower case); POST when there is a body. Raises SmokeFailure if nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    # A proxy set in the environment must not see requests to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_seconds) as response:
            return (
                response.status,
                json.loads(response.read()),
                {k.lower(): v for k, v in response.headers.items()},
            )
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
        try:
            return error.code, json.loads(content), {k.lower(): v for k, v in error.headers.items()}
        except ValueError:
            raise SmokeFailure(f"{url} was answered {error.code} and no JSON: {content[:200]!r}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SmokeFailure(f"{url} does not answer ({reason}); is the server running?") from None
