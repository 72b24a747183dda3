"""Is it right, what is it: GET /health and GET /info, also below a model's URL, where huggingface_hub asks.

Ready means that every model has passed its golden check, not that a process is up. A newer version that was refused does
not make the replica unready (the old one answers), but it is shown.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.routes.exchange import Desk, answer
from serving.routes.hub import describe


async def health(request: Request) -> Response:
    """200 when every model answers (or the one in the path), else 503 with the reason."""
    desk: Desk = request.app.state.desk
    asked = request.path_params.get("name")
    names = list(desk.models) if asked is None else [asked]
    models: dict[str, Any] = {}
    for name in names:
        follower = desk.models.get(name)
        if follower is None:
            return answer({"status": "unknown", "error": f"no model {name!r} is served here"}, status=404)
        loaded = follower.current
        models[name] = {
            "ready": loaded is not None,
            "version": loaded.version.number if loaded else None,
            "problem": follower.problem,
        }
    ready = all(model["ready"] for model in models.values())
    body = {"status": "ready" if ready else "starting", "models": models, "instance": desk.instance}
    return answer(body, status=200 if ready else 503)


async def info(request: Request) -> Response:
    """What is served and how busy it is. Figures are of this replica since it started."""
    desk: Desk = request.app.state.desk
    batcher = desk.batcher
    return answer(
        {
            "server": "cloze",
            "models": [describe(desk, name) for name in desk.models],
            "limits": {
                "body_bytes": desk.limits.body_bytes,
                "texts": desk.limits.texts,
                "batch_tokens": batcher.max_batch_tokens,
                "queued_tokens": batcher.max_queued_tokens,
            },
            "queue": {
                "queued_tokens": batcher.queued_tokens,
                "tokens_per_second": round(batcher.tokens_per_second),
                "batches": batcher.batches,
                "texts": batcher.items,
            },
        }
    )


ROUTES = [
    Route("/health", health, methods=["GET"]),
    Route("/info", info, methods=["GET"]),
    Route("/models/{name}/health", health, methods=["GET"]),
    Route("/models/{name}/info", info, methods=["GET"]),
]
