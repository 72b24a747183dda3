"""What the protocols share: the desk that answers, reading a JSON body with a limit, and errors as clients print them.

Every error body is `{"error": sentence, "error_type": ...}`: huggingface_hub shows `error` to its user and raises by
`error_type` (reference, serving-api.md 2.1). Overload is 429 and never 503, which old clients retry once a second for ever.
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.batching import Batcher, Overloaded, TooLarge
from serving.follow import Follower

PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one request."""

    body_bytes: int = 1 << 20
    texts: int = 128


@dataclass(kw_only=True)
class Desk:
    """Everything a replica answers with: its models by name, one queue for all of them, the limits of a request."""

    models: Mapping[str, Follower[Any]]
    batcher: Batcher
    limits: Limits = field(default_factory=Limits)
    proxied: bool = False  # Ray Serve's proxy adds X-Request-Id itself, and two would be joined by a comma
    instance: str = ""  # shown by /health: whoever started a server can tell that it is this one that answers


class Refused(Exception):
    """An answer other than 200: status, sentence, the client's error type, extra headers."""

    def __init__(
        self, status: int, message: str, kind: str = "validation", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})


def request_id(request: Request) -> str:
    """The client's own id (X-Request-Id, or the trace id huggingface_hub sends), or a new one."""
    for header in ("x-request-id", "x-amzn-trace-id"):
        if PRINTABLE.fullmatch(value := request.headers.get(header, "")):
            return value
    return uuid.uuid4().hex


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def refusal(error: Exception) -> Response:
    """The response for an exception; anything unexpected is a 500 that names its type and no more."""
    if isinstance(error, Overloaded):
        seconds = error.retry_after_seconds
        headers = {"Retry-After": str(seconds), "RateLimit": f'"serve";r=0;t={seconds}'}
        return answer(
            {"error": f"overloaded: {error}", "error_type": "overloaded"}, status=429, headers=headers
        )
    if isinstance(error, Refused):
        return answer(
            {"error": str(error), "error_type": error.kind}, status=error.status, headers=error.headers
        )
    if isinstance(error, TooLarge):
        return answer({"error": str(error), "error_type": "validation"}, status=413)
    return answer(
        {
            "error": f"{type(error).__name__} while answering; see the server's log",
            "error_type": "generation",
        },
        status=500,
    )


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """The body as a JSON object, read no further than the limit. Raises Refused."""
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limits.body_bytes:
                raise Refused(
                    413, f"the body is larger than {limits.body_bytes} bytes; send less text at once"
                )
    except ClientDisconnect:
        raise Refused(400, "the connection was closed before the whole body had arrived") from None
    try:
        body = orjson.loads(bytes(data))
    except json.JSONDecodeError as error:
        raise Refused(400, f'the body is not JSON ({error}); send {{"inputs": "..."}}') from None
    if not isinstance(body, dict):
        raise Refused(400, f'the body is a JSON {_kind(body)}; send an object, {{"inputs": "..."}}')
    return body


def read_texts(inputs: Any, limits: Limits) -> list[str]:
    """`inputs` as a list of texts. Raises Refused."""
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(422, f"inputs is a {_kind(inputs)}; it must be a string or a list of strings")
    if not texts or not all(text.strip() for text in texts):
        raise Refused(422, "inputs is empty; send at least one text that is not blank")
    if len(texts) > limits.texts:
        raise Refused(
            413,
            f"inputs holds {len(texts)} texts, at most {limits.texts} are taken at once; send several requests",
        )
    return texts


def truncation(lengths: Sequence[tuple[int, int]], model_tokens: int) -> dict[str, str]:
    """The header huggingface_hub logs as a warning; empty when nothing was cut. `lengths`: (whole, kept) of each text."""
    cut = [whole for whole, kept in lengths if whole > kept]
    if not cut:
        return {}
    which = "input" if len(lengths) == 1 else f"{len(cut)} of {len(lengths)} inputs, the longest"
    return {"X-HF-Warning": f"truncation; {which} truncated {max(cut)} -> {model_tokens} tokens"}


def _kind(value: Any) -> str:
    names = {
        dict: "object",
        list: "list",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
