"""Local copies of remote files, so that a file is fetched once per machine and can be memory-mapped.

A copy is named by everything that identifies its bytes (endpoint, bucket, key, ETag), so it is never out of date; it
appears by rename, so it is never partial. The folder is `CLOZE_CACHE` (default ~/.cache/cloze) and is kept below
`CLOZE_CACHE_GB` (default 20) by removing the copies that were used least recently.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from infra.folder_local import remove_leftovers, temporary_beside

DEFAULT_GB = 20.0
IN_USE_SECONDS = (
    3600.0  # a copy used this recently stays, also over the limit: somebody may be about to open it
)
ADVICE = "free some space there, or set CLOZE_CACHE to a folder on a larger disk"


def directory() -> Path:
    return Path(os.environ.get("CLOZE_CACHE") or "~/.cache/cloze").expanduser().absolute()


@contextmanager
def temporary(name: str) -> Iterator[Path]:
    """A fresh path on the cache's file system; gone at the end unless `keep` took it."""
    with temporary_beside(directory() / name.rpartition("/")[2], ADVICE) as path:
        yield path


def find(identity: str, name: str, size: int) -> Path | None:
    """The copy, marked as used now."""
    path = _place(identity, name)
    try:
        if path.stat().st_size != size:
            return None
    except FileNotFoundError:
        return None
    with suppress(PermissionError):  # another user's copy in a shared cache
        os.utime(path)
    return path


def keep(path: Path, identity: str, name: str, *, in_use: bool) -> Path:
    """Move a complete file in, and make room. What nobody uses yet (we wrote it ourselves) may be the first to go."""
    place = _place(identity, name)
    path.chmod(0o444)  # it must stay what its identity says
    used = time.time() - (0 if in_use else IN_USE_SECONDS)
    os.utime(path, (used, used))
    os.replace(path, place)
    _make_room()
    return place


def drop(identity: str, name: str) -> None:
    _place(identity, name).unlink(missing_ok=True)


def _place(identity: str, name: str) -> Path:
    """Ends with the name's last part: some readers go by the suffix."""
    return (
        directory()
        / f"{blake2b(identity.encode(), digest_size=16).hexdigest()}-{name.rpartition('/')[2][-100:]}"
    )


def _make_room() -> None:
    limit = float(os.environ.get("CLOZE_CACHE_GB") or DEFAULT_GB) * 1e9
    remove_leftovers(directory())
    copies = []
    for entry in os.scandir(directory()):
        with suppress(FileNotFoundError):  # another process makes room too
            if not entry.name.startswith("."):
                stat = entry.stat()
                copies.append((stat.st_mtime, stat.st_size, entry.path))
    total = sum(size for _, size, _ in copies)
    for used, size, path in sorted(copies):
        if total <= limit or time.time() - used < IN_USE_SECONDS:
            return
        Path(path).unlink(missing_ok=True)
        total -= size
