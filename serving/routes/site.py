"""The whole ASGI application: every protocol's routes, the playground page, and JSON errors for everything else.

Plain Starlette, no Ray: tests run it under uvicorn, `serving.app` puts it into a Ray Serve replica.
"""

import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.routes import health, hub
from serving.routes.exchange import Desk, answer, refusal

PAGE = Path(__file__).resolve().parents[1] / "page"
PAGE_HEADERS = {
    # Nothing is loaded from, or sent to, another host; nobody frames the page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def site(desk: Desk) -> Starlette:
    """The application around one desk."""
    app = Starlette(
        routes=[
            Route("/", _file("index.html"), methods=["GET"]),
            *(
                Route(f"/page/{name}", _file(name), methods=["GET"])
                for name in ("style.css", "playground.js")
            ),
            *hub.ROUTES,
            *health.ROUTES,
        ],
        exception_handlers={HTTPException: _plain_error, Exception: _unexpected},
    )
    app.state.desk = desk
    return app


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = (PAGE / name).read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind, headers=PAGE_HEADERS)

    return serve


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = {
        404: f"there is nothing at {request.url.path}; GET /models lists what is served",
        405: f"{request.method} is not answered at {request.url.path}",
    }.get(error.status_code, str(error.detail))
    return answer(
        {"error": sentence, "error_type": "validation"}, status=error.status_code, headers=error.headers
    )


async def _unexpected(_: Request, error: Exception) -> Response:
    return refusal(error)
