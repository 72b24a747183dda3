"""The Hugging Face InferenceClient protocol: the client posts to the URL it was given, verbatim.

    POST /models/{name}                     the task is the model's own
    POST /models/{name}/pipeline/{task}     the task is stated, and refused if the model does another
    {"inputs": str | [str], "parameters": {...}}   ->   fill-mask [{score, token, token_str, sequence}]  (several masks: a list of lists)
                                                        text-classification [[{label, score}]]
    GET  /models, /models/{name}            what is served

Wire facts: reference, serving-api.md 2.1. `InferenceClient(model="http://host/models/NAME").fill_mask("a [MASK].")`.
"""

import asyncio
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.routes.exchange import (
    Desk,
    Refused,
    answer,
    read_object,
    read_texts,
    refusal,
    request_id,
    truncation,
)

log = logging.getLogger("cloze.serving")

ROOT_KEYS = frozenset(
    {"inputs", "parameters", "options", "model", "stream"}
)  # what clients of any age put at the root


async def predict(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    identity = request_id(request)
    try:
        response = await _predict(desk, request)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        response = refusal(error)
        if response.status_code >= 500 and not isinstance(error, Refused):
            log.exception("request %s failed", identity)
    if not desk.proxied:
        response.headers["X-Request-Id"] = identity
    return response


async def _predict(desk: Desk, request: Request) -> Response:
    loaded = _served(desk, request.path_params["name"])
    predictor = loaded.predictor
    task = request.path_params.get("task", predictor.task)
    if task != predictor.task:
        raise Refused(
            400,
            f"{loaded.version.name} answers {predictor.task}, not {task}; post to /models/{loaded.version.name}",
        )
    body = await read_object(request, desk.limits)
    inputs, parameters = body.get("inputs"), body.get("parameters") or {}
    if stray := sorted(set(body) - ROOT_KEYS):
        raise Refused(422, f"unknown field {stray[0]!r}; options of the task go into 'parameters'")
    if not isinstance(parameters, dict):
        raise Refused(422, 'parameters is not an object; send {"parameters": {"top_k": 5}}')
    texts = read_texts(inputs, desk.limits)
    try:
        # Tokenising releases the GIL in a thread and must come before admission: the queue is counted in tokens.
        prepared = await asyncio.to_thread(_prepare, predictor, texts, parameters)
    except ValueError as error:
        raise Refused(422, str(error)) from None
    answers = await desk.batcher.submit(loaded, prepared, [len(p.tokens) for p in prepared])
    headers = {"X-Model-Version": str(loaded.version.number), "X-Model-Digest": loaded.version.digest}
    headers |= truncation([(p.whole_tokens, len(p.tokens)) for p in prepared], predictor.max_seq_len)
    # Classification is nested even for one text: the client reads the first element of a flat list only.
    alone = isinstance(inputs, str) and predictor.task != "text-classification"
    return answer(answers[0] if alone else answers, headers=headers)


def _prepare(predictor: Any, texts: list[str], parameters: dict[str, Any]) -> list[Any]:
    options = predictor.read(parameters)
    return [predictor.prepare(text, options) for text in texts]


def _served(desk: Desk, name: str) -> Any:
    """The loaded model of that name, held by the request from here on: a swap meanwhile does not touch it."""
    follower = desk.models.get(name)
    if follower is None:
        raise Refused(404, f"no model {name!r} is served here; served are {', '.join(desk.models)}")
    loaded = follower.current
    if loaded is None:
        reason = follower.problem or "it is being loaded"
        raise Refused(503, f"{name} is not ready: {reason}", "overloaded", {"Retry-After": "2"})
    return loaded


async def list_models(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    return answer([describe(desk, name) for name in desk.models])


async def show_model(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    name = request.path_params["name"]
    if name not in desk.models:
        return refusal(Refused(404, f"no model {name!r} is served here; served are {', '.join(desk.models)}"))
    return answer(describe(desk, name))


def describe(desk: Desk, name: str) -> dict[str, Any]:
    """One served model, as plain JSON."""
    follower = desk.models[name]
    loaded = follower.current
    facts: dict[str, Any] = {"name": name, "reference": follower.reference, "ready": loaded is not None}
    if follower.problem:
        facts["problem"] = follower.problem
    if loaded is not None:
        version = loaded.version
        facts |= {
            "task": loaded.predictor.task,
            "version": version.number,
            "digest": version.digest,
            "labels": loaded.predictor.labels,
            "mask": loaded.predictor.mask,
            "max_seq_len": loaded.predictor.max_seq_len,
            "scores": version.scores,
            "lineage": version.lineage,
            "registered": version.registered,
            "url": f"/models/{name}",
        }
    return facts


ROUTES = [
    Route("/models", list_models, methods=["GET"]),
    Route("/models/{name}", show_model, methods=["GET"]),
    Route("/models/{name}", predict, methods=["POST"]),
    Route("/models/{name}/pipeline/{task}", predict, methods=["POST"]),
]
