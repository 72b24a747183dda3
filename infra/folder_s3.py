"""A store in an S3 bucket (Amazon's, MinIO, Ceph, moto).

How the promises of folder.py are kept:

    whole or nothing   data is written locally first; an object appears when its PUT, or its multipart completion, is done
    one winner         PUT with If-None-Match: *, or If-Match: <ETag>
    a lost answer      every conditional write carries a random mark in its metadata; when its repetition is refused, the
                       mark of what is there tells whether an earlier attempt of ours won (equal content would not tell:
                       two processes may both write "7")
    whole reads        lengths are checked; a cut body is fetched again, and parts of two versions never mix
"""

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from infra import download_cache
from infra.folder import Folder, StoreUnreachable, check_name
from infra.s3 import Refused, body, client, endpoint, request, status, tag_of

PART_BYTES = 32 << 20  # larger files travel in parts, `STREAMS` at a time
STREAMS = 4
CHANGES = 5  # downloads begun again because the file was replaced under them
ABANDONED = timedelta(days=1)  # age at which an unfinished upload is taken for a killed writer's
MARK = "cloze-write"


class _Changed(Exception):
    """The object became another version between two reads."""


def _foreign(name: str) -> bool:
    """What other tools put into a bucket: folder markers ("a/") and hidden files. They are no names of ours."""
    return any(not part or part.startswith(".") for part in name.split("/"))


class S3Folder(Folder):
    """The objects of `bucket` whose key begins with `prefix/`."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise ValueError(
                f"{bucket!r} is not an S3 bucket name: 3 to 63 of a-z, 0-9, '.', '-'; give s3://bucket/prefix"
            )
        self.bucket = bucket
        self.prefix = check_name(prefix) if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    def _call(self, operation: str, **arguments: Any) -> Any:
        return request(self.bucket, operation, **arguments)

    def child(self, *parts: str) -> "S3Folder":
        return S3Folder(self.bucket, self._key("/".join(parts)))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{check_name(name)}" if self.prefix else check_name(name)

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        return body(self.bucket, Key=self._key(name))

    def write(self, name: str, data: bytes) -> None:
        self._put(self._key(name), data)

    def create(self, name: str, data: bytes) -> bool:
        return self._put_if(self._key(name), data, IfNoneMatch="*")

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        key = self._key(name)
        if self._put_if(key, data, IfMatch=tag):
            return True
        # radosgw matches the bare tag, the HTTP standard asks for quotes, moto takes both: refused although the
        # version is still the one we named can only mean that this server wants the other spelling
        try:
            unchanged = status(self.bucket, key).tag == tag
        except FileNotFoundError:
            return False
        return unchanged and self._put_if(key, data, IfMatch=f'"{tag}"')

    @contextmanager
    def writer(self, name: str) -> Iterator[Path]:
        key = self._key(name)
        with download_cache.temporary(name) as path:
            yield path
            size = path.stat().st_size
            tag = self._put_parts(key, path, size) if size > PART_BYTES else self._put(key, path.read_bytes())
            download_cache.keep(path, self._identity(key, tag), name, in_use=False)

    def local(self, name: str) -> Path:
        key = self._key(name)
        for _ in range(CHANGES):
            now = status(self.bucket, key)
            identity = self._identity(key, now.tag)
            if (path := download_cache.find(identity, name, now.size)) is not None:
                return path
            with download_cache.temporary(name) as path, suppress(_Changed):
                self._get_parts(key, path, now.size, now.tag)
                return download_cache.keep(path, identity, name, in_use=True)
        raise StoreUnreachable(
            f"{self.url}/{name} changed during each of {CHANGES} downloads; read it when its writer has finished"
        )

    def forget(self, name: str) -> None:
        key = self._key(name)
        with suppress(FileNotFoundError):
            download_cache.drop(self._identity(key, status(self.bucket, key).tag), name)

    def size(self, name: str) -> int:
        return status(self.bucket, self._key(name)).size

    def names(self, under: str = "") -> list[str]:
        start = f"{self._key(under) if under else self.prefix}/".lstrip("/")
        skip = len(self.prefix) + 1 if self.prefix else 0
        keys = (item["Key"] for page in self._pages(Prefix=start) for item in page.get("Contents", ()))
        return sorted(key[skip:] for key in keys if not _foreign(key[skip:]))

    def folders(self) -> list[str]:
        start = f"{self.prefix}/".lstrip("/")
        pages = self._pages(Prefix=start, Delimiter="/")
        return sorted(
            item["Prefix"][len(start) : -1] for page in pages for item in page.get("CommonPrefixes", ())
        )

    def delete(self, name: str) -> None:
        self._call("delete_object", Key=self._key(name))

    def delete_all(self) -> None:
        start = f"{self.prefix}/".lstrip("/")
        keys = [item["Key"] for page in self._pages(Prefix=start) for item in page.get("Contents", ())]
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(lambda key: self._call("delete_object", Key=key), keys))
        for upload in self._call("list_multipart_uploads", Prefix=start).get("Uploads", ()):
            self._abort(upload["Key"], upload["UploadId"])

    def _identity(self, key: str, tag: str) -> str:
        return f"{endpoint()} {self.bucket} {key} {tag}"

    def _put(self, key: str, data: bytes) -> str:
        return tag_of(self._call("put_object", Key=key, Body=data))

    def _put_if(self, key: str, data: bytes, **condition: str) -> bool:
        mark = secrets.token_hex(8)
        try:
            self._call("put_object", Key=key, Body=data, Metadata={MARK: mark}, **condition)
        except (Refused, FileNotFoundError):
            return self._mark(key) == mark
        return True

    def _mark(self, key: str) -> str:
        try:
            return status(self.bucket, key).metadata.get(MARK, "")
        except FileNotFoundError:
            return ""

    def _put_parts(self, key: str, path: Path, size: int) -> str:
        """Upload in parts; returns the tag. Nothing is visible before the last request; on any failure nothing ever is."""
        mark = secrets.token_hex(8)
        step = max(PART_BYTES, -(-size // 10_000))  # S3 allows 10,000 parts
        self._abort_abandoned(key)
        upload = self._call("create_multipart_upload", Key=key, Metadata={MARK: mark})["UploadId"]

        def send(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * step)
                body = file.read(step)
            answer = self._call("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(STREAMS) as pool:
                parts = list(pool.map(send, range(1, -(-size // step) + 1)))
            try:
                self._call(
                    "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            except FileNotFoundError:  # NoSuchUpload: the answer to an earlier attempt was lost
                if self._mark(key) != mark:
                    raise
        except BaseException:
            self._abort(key, upload)
            raise
        return status(self.bucket, key).tag

    def _abort(self, key: str, upload: str) -> None:
        # once, and a failure is no failure: an upload that stays is invisible and goes with delete_all
        with suppress(Exception):
            client().abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def _abort_abandoned(self, key: str) -> None:
        answer = self._call("list_multipart_uploads", Prefix=key)
        if "date" in (headers := answer["ResponseMetadata"]["HTTPHeaders"]):  # the server's clock, not ours
            now = parsedate_to_datetime(headers["date"])
            for upload in answer.get("Uploads", ()):
                if upload["Key"] == key and now - upload["Initiated"] > ABANDONED:
                    self._abort(key, upload["UploadId"])

    def _get_parts(self, key: str, path: Path, size: int, tag: str) -> None:
        """Download one version. Raises _Changed when another appears meanwhile."""
        path.touch()
        starts = range(0, size, PART_BYTES)

        def fetch(start: int) -> None:
            stop = min(start + PART_BYTES, size)
            data, seen = body(self.bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
            if seen != tag or len(data) != stop - start:
                raise _Changed
            with path.open("r+b") as file:
                file.seek(start)
                file.write(data)

        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(fetch, starts))

    def _pages(self, **arguments: str) -> Iterator[Any]:
        while True:
            page = self._call("list_objects_v2", **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]
