"""Local copies of remote files, so that a file is fetched once per machine and can be memory-mapped.

A copy is named by everything that identifies its bytes (endpoint, bucket, key, ETag), so it is never out of date; it
appears by rename, so it is never partial. The folder is `CLOZE_CACHE` (default ~/.cache/cloze) and is kept below
`CLOZE_CACHE_GB` (default 20) by removing the copies that were used least recently.

A copy is in use while somebody holds it (`held`: a shared flock, which the kernel frees when its process dies), and for
an hour after somebody asked for its path and may be about to open it. What is in use stays, also over the limit. A
holder that lets go says that it needs the copy no more, so a stream of files of any length keeps within the limit.
Removing a copy does not disturb who has it open or mapped.

The time of use is the file's atime. Its mtime stays what it was when it came, so that a copy that was verified once is
known to be the same.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from infra.folder_local import remove_leftovers, temporary_beside

DEFAULT_GB = 20.0
IN_USE_SECONDS = 3600.0  # whoever asked for a path has this long to open it
GRACE_SECONDS = 10.0  # and this long when another process, which held the copy, lets go meanwhile
_keeping = threading.Lock()
ADVICE = "free some space there, or set CLOZE_CACHE to a folder on a larger disk"


def directory() -> Path:
    return Path(os.environ.get("CLOZE_CACHE") or "~/.cache/cloze").expanduser().absolute()


def limit_bytes() -> int:
    """The size that the copies together may have. Raises ValueError for a setting that is no size."""
    text = os.environ.get("CLOZE_CACHE_GB") or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise ValueError(f"CLOZE_CACHE_GB is {text!r}; give the cache's size in GB, e.g. 20")
    return int(limit * 1e9)


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
        _use(path, time.time())
    except FileNotFoundError:
        return None
    return path


def keep(path: Path, identity: str, name: str, *, in_use: bool) -> Path:
    """Move a complete file in, and make room. What nobody uses yet (we wrote it ourselves) may be the first to go."""
    place = _place(identity, name)
    path.chmod(0o444)  # it must stay what its identity says
    _use(path, time.time() - (0 if in_use else IN_USE_SECONDS))
    with _keeping:  # room first, and one at a time: the threads of a process never exceed the limit together
        _make_room(path.stat().st_size)
        os.replace(path, place)
        _make_room()
    return place


def drop(identity: str, name: str) -> None:
    _place(identity, name).unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A copy is not removed inside the block; afterwards it is no longer in use. Of other files, nothing happens.

    Raises FileNotFoundError if the copy was removed before: ask for its path again.
    """
    if path.parent != directory():
        yield
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor, fcntl.LOCK_SH)
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(f"{path} was removed from the cache")
        try:
            yield
        finally:
            if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):  # else another holder lets go later
                with suppress(FileNotFoundError):
                    _use(path, time.time() - max(0.0, IN_USE_SECONDS - GRACE_SECONDS))
    finally:
        os.close(descriptor)


def _make_room(coming_bytes: int = 0) -> None:
    limit = limit_bytes() - coming_bytes
    remove_leftovers(directory())
    copies = []
    for entry in os.scandir(directory()):
        with suppress(FileNotFoundError):  # another process makes room too
            if not entry.name.startswith("."):
                stat = entry.stat()
                copies.append((stat.st_atime, stat.st_size, entry.path))
    total = sum(size for _, size, _ in copies)
    for used, size, path in sorted(copies):
        if total <= limit or time.time() - used < IN_USE_SECONDS:
            return
        if _removed(Path(path)):
            total -= size


def _removed(path: Path) -> bool:
    """Remove a copy unless somebody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if os.fstat(descriptor).st_nlink:  # else it was removed, and perhaps fetched again, since we looked
            path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    """Whether the lock is ours. On a file system without locks it always is: there, times alone say what is in use."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _use(path: Path, when: float) -> None:
    """Note that a copy was used then."""
    with suppress(PermissionError):  # another user's copy in a shared cache
        os.utime(path, ns=(int(when * 1e9), path.stat().st_mtime_ns))


def _place(identity: str, name: str) -> Path:
    """Ends with the name's last part: some readers go by the suffix."""
    return (
        directory()
        / f"{blake2b(identity.encode(), digest_size=16).hexdigest()}-{name.rpartition('/')[2][-100:]}"
    )
