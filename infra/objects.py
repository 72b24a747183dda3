"""Other people's objects in a bucket: listed page by page, read as streams. For input; a store of ours is a Folder.

    list_objects   (key, bytes, version) of every object below a prefix, lazily, a thousand a request
    open_object    a seekable stream; what is read in order is fetched one block ahead

Blocks grow from 256 KiB to 8 MiB while reading goes forward and start small again after a jump, so a file read from its
end (Parquet) costs little. A request that fails or breaks off is repeated for its block alone: reading goes on from there.
"""

import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, cast

from infra.folder_s3 import S3Folder
from infra.s3 import body, request, status

FIRST_BLOCK = 256 << 10
LARGEST_BLOCK = 8 << 20
GROWTH = 4


class ObjectChanged(OSError):
    """The object became another one while it was being read."""


def split_url(url: str) -> tuple[str, str]:
    """ "s3://bucket/some/key" -> ("bucket", "some/key"). Raises ValueError for a bucket that cannot exist."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return S3Folder(bucket).bucket, key


def list_objects(bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
    """(key, bytes, version) of every object whose key begins with `prefix`, in key order. Raises StoreUnreachable.

    The version is the ETag: for objects written in one piece a hash of the content, else of its parts.
    """
    arguments = {"Prefix": prefix}
    while True:
        page = request(bucket, "list_objects_v2", **arguments)
        yield from ((i["Key"], i["Size"], i["ETag"].strip('"')) for i in page.get("Contents", ()))
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def open_object(bucket: str, key: str) -> BinaryIO:
    """One version of an object, from its first byte to its last.

    Raises FileNotFoundError and StoreUnreachable; while reading also ObjectChanged.
    """
    return cast(BinaryIO, io.BufferedReader(_Object(bucket, key), 64 << 10))


class _Object(io.RawIOBase):
    def __init__(self, bucket: str, key: str) -> None:
        super().__init__()
        self._bucket, self._key = bucket, key
        now = status(bucket, key)
        self._size, self._tag = now.size, now.tag
        self._at = 0  # the next byte to hand out
        self._start, self._block = 0, b""  # what is here, and where it begins
        self._length = FIRST_BLOCK
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[bytes]] | None = None

    @property
    def version(self) -> str:
        """The ETag of what is read, as `list_objects` gives it."""
        return self._tag

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at >= self._size:
            return 0
        if not self._start <= self._at < self._start + len(self._block):
            self._load()
        begin = self._at - self._start
        count = min(len(buffer), len(self._block) - begin)
        buffer[:count] = self._block[begin : begin + count]
        self._at += count
        return count

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._block, self._ahead = b"", None
        super().close()

    def _load(self) -> None:
        """Bring the block that begins at the position; if reading goes forward, ask for the next one."""
        forward = self._at == self._start + len(self._block)
        ahead, self._ahead = self._ahead, None
        if forward and ahead is not None and ahead[0] == self._at:
            block = ahead[1].result()
        else:
            self._length = FIRST_BLOCK
            block = self._fetch(self._at, self._length)
        self._start, self._block = self._at, block
        after = self._start + len(block)
        if forward and after < self._size:
            self._length = min(self._length * GROWTH, LARGEST_BLOCK)
            self._pool = self._pool or ThreadPoolExecutor(1, "read-ahead")
            self._ahead = (after, self._pool.submit(self._fetch, after, self._length))

    def _fetch(self, start: int, length: int) -> bytes:
        stop = min(start + length, self._size)
        data, tag = body(self._bucket, Key=self._key, Range=f"bytes={start}-{stop - 1}")
        # the tag is compared here rather than sent as If-Match, which servers spell differently (folder_s3.replace)
        if tag != self._tag or len(data) != stop - start:
            raise ObjectChanged(
                f"s3://{self._bucket}/{self._key} was replaced while it was read (at byte {start}); read it again"
            )
        return data
