"""One request to an S3 server: the client, repetition, and errors in one sentence. The only importer of `botocore`.

`botocore` itself rather than s3fs: conditional writes rest on ETags, metadata and the exact refusal, and a synchronous
client needs no event loop, which would not survive a fork. Endpoint, keys and region come from the usual environment
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ...) or Amazon's configuration files.

A request is repeated while the server fails or the line breaks: `ATTEMPTS` times, 13 s in all when each is refused at
once. Then StoreUnreachable says what to check. Refusals are not repeated.
"""

import errno
import logging
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from infra.folder import StoreFull, StoreUnreachable

ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
CONNECTIONS = 16
_SETTINGS = (
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
_AGAIN = (
    "RequestTimeout",
    "IncompleteBody",
    "SlowDown",
    "Throttling",
    "OperationAborted",
    "ConditionalRequestConflict",
)
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity")

T = TypeVar("T")

log = logging.getLogger("cloze.storage")


class Refused(Exception):
    """The condition of a conditional write did not hold."""


class _Cut(Exception):
    """An answer that ended too soon."""


# What a whole answer must hold. A connection cut in the headers is not an error to the HTTP library: it takes the
# headers that came for all of them, and an answer without a body looks complete.
_PROOF = {
    "put_object": "ETag",
    "head_object": "ETag",
    "upload_part": "ETag",
    "create_multipart_upload": "UploadId",
    "complete_multipart_upload": "ETag",
    "list_objects_v2": "Name",
    "list_multipart_uploads": "Bucket",
}


def request(bucket: str, operation: str, **arguments: Any) -> Any:
    """The answer of one operation. Raises FileNotFoundError, Refused, StoreFull, StoreUnreachable."""
    proof = _PROOF.get(operation)

    def check(answer: Any) -> Any:
        if proof == "ETag":
            tag_of(answer)
        elif proof is not None and proof not in answer:
            raise _Cut
        return answer

    return _repeat(bucket, operation, arguments, check)


def body(bucket: str, **arguments: Any) -> tuple[bytes, str]:
    """The whole body of an object (or of its `Range`) and its tag."""

    def read(answer: Any) -> tuple[bytes, str]:
        return _read(answer), tag_of(answer)

    return _repeat(bucket, "get_object", arguments, read)


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of an object without reading it."""

    size: int
    tag: str
    metadata: dict[str, str]


def status(bucket: str, key: str) -> Status:
    """Ask for an object's first byte rather than its HEAD: where that byte came, the headers before it are whole."""

    def read(answer: Any) -> Status:
        _read(answer)
        size = (
            int(str(answer["ContentRange"]).rpartition("/")[2])
            if "ContentRange" in answer
            else answer["ContentLength"]
        )
        return Status(size=size, tag=tag_of(answer), metadata=answer["Metadata"])

    try:
        return _repeat(bucket, "get_object", {"Key": key, "Range": "bytes=0-0"}, read)
    except _Empty:
        answer = request(bucket, "head_object", Key=key)
        return Status(size=answer.get("ContentLength", 0), tag=tag_of(answer), metadata=answer["Metadata"])


class _Empty(Exception):
    """The object has no first byte."""


def _read(answer: Any) -> bytes:
    with answer["Body"] as stream:
        data: bytes = stream.read()
    if len(data) != answer.get("ContentLength"):
        raise _Cut
    return data


def tag_of(answer: Any) -> str:
    """The ETag without its quotes."""
    found = re.fullmatch(r'"([^"]+)"', answer.get("ETag", ""))
    if found is None:
        raise _Cut
    return found[1]


def _repeat(bucket: str, operation: str, arguments: dict[str, Any], use: Callable[[Any], T]) -> T:
    from botocore.exceptions import BotoCoreError, ClientError

    where = "/".join(filter(None, ("s3:/", bucket, arguments.get("Key") or arguments.get("Prefix"))))
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
            level = logging.WARNING if attempt > 2 else logging.DEBUG
            log.log(level, "%s at %s: %s; trying again", where, endpoint(), reason)
            time.sleep(wait * random.uniform(0.5, 1.0))  # so that many workers do not come back together
        try:
            return use(getattr(client(), operation)(Bucket=bucket, **arguments))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "")) or "error"
            http = error.response["ResponseMetadata"]["HTTPStatusCode"]
            lasting = code in _FULL or (http < 500 and http != 429 and code not in _AGAIN)
            if lasting:
                raise _refusal(bucket, where, code, http) from None
            reason = f"{code}, HTTP {http}"
        except _line_errors() as error:
            reason = _words(error)
        except BotoCoreError as error:
            raise StoreUnreachable(f"cannot ask for {where} ({_words(error)}); {_KEYS}") from None
    raise StoreUnreachable(
        f"{where} cannot be reached at {endpoint()}: {ATTEMPTS} attempts failed ({reason}); check that the server "
        "runs, that AWS_ENDPOINT_URL names it and that this machine can reach it"
    )


@cache
def _line_errors() -> tuple[type[Exception], ...]:
    """What a broken line raises; a repetition may succeed."""
    from botocore.exceptions import ConnectionError, HTTPClientError, IncompleteReadError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError  # botocore lets those of short, unstreamed answers through

    return ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError, HTTPError, _Cut


_KEYS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and, for a server other than Amazon's, AWS_ENDPOINT_URL"
)


def _refusal(bucket: str, where: str, code: str, status: int) -> Exception:
    if status in (409, 412):
        return Refused(where)
    if status == 416:
        return _Empty(where)
    if code == "NoSuchBucket":
        return StoreUnreachable(
            f"there is no bucket {bucket!r} at {endpoint()}; create it, or correct the store's url"
        )
    if status == 404:
        return FileNotFoundError(errno.ENOENT, "no such object", where)
    if code in _FULL:
        return StoreFull(
            errno.ENOSPC,
            f"cannot write {where} ({code}); nothing half-written was published; make room on that server",
        )
    return StoreUnreachable(
        f"{endpoint()} refuses a request for {where} ({code}, HTTP {status}); check AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, the region and the rights on the bucket"
    )


def _words(error: Exception) -> str:
    """The kind of error in words; never its text, which may quote a url with credentials in it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.lstrip("_")).lower()


def endpoint() -> str:
    """The server's address for messages, without any user and password in it."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return "Amazon S3"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def client() -> Any:
    """The client of this process and these settings: connections survive neither a fork nor a changed environment."""
    return _client(os.getpid(), ANSWER_SECONDS, tuple(os.environ.get(name) for name in _SETTINGS))


@cache
def _client(pid: int, answer_seconds: float, settings: tuple[str | None, ...]) -> Any:
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=answer_seconds,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},  # repetition is ours
        s3={"addressing_style": "auto" if endpoint() == "Amazon S3" else "path"},
        request_checksum_calculation="when_required",  # other servers refuse the newer trailing checksums
        response_checksum_validation="when_required",
    )
    region = session.get_config_variable("region") or "us-east-1"
    try:
        return session.create_client("s3", region_name=region, config=config)
    except ValueError:
        raise StoreUnreachable(
            f"AWS_ENDPOINT_URL is not a url a server can have ({endpoint()!r}); give http://host:port or https://host"
        ) from None
