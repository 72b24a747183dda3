"""A store in a local (or network-mounted) folder.

    writer, write   temporary file beside the target, fsync, rename over it, fsync of the directory
    create          the same, but a hard link instead of the rename: link(2) fails when the name is taken
    replace         the same under flock(2) on a hidden file of the directory; the kernel frees it when we die

A temporary file carries its writer's identity, so `names` can remove those of killed writers while it walks past them.
"""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from infra.folder import Folder, check_name, explain_full_disk
from infra.process import Process, this_process

LOCK = ".lock"
STALE_SECONDS = 24 * 3600  # for temporary files of other hosts, whose processes we cannot see
ADVICE = "free some space there or use another store, then run the same command again: finished work is kept"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalFolder(Folder):
    """Files under `path`. Folders are made when something is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.url = str(self.path)

    def child(self, *parts: str) -> "LocalFolder":
        return LocalFolder(self.path / check_name("/".join(parts)))

    def _at(self, name: str) -> Path:
        return self.path / check_name(name)

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        with _folders_are_no_files(name):
            data = self._at(name).read_bytes()
        return data, blake2b(data, digest_size=16).hexdigest()

    def write(self, name: str, data: bytes) -> None:
        with self.writer(name) as path:
            path.write_bytes(data)

    @contextmanager
    def writer(self, name: str) -> Iterator[Path]:
        target = self._at(name)
        with temporary_beside(target, ADVICE) as path:
            yield path
            _sync(path)
            os.replace(path, target)
            _sync(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        target = self._at(name)
        if target.exists():
            return False
        with temporary_beside(target, ADVICE) as path:
            path.write_bytes(data)
            _sync(path)
            try:
                os.link(path, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with _locked(target.parent):  # a file system without hard links
                    if target.exists():
                        return False
                    os.replace(path, target)
            _sync(target.parent)
        return True

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        target = self._at(name)
        if not target.is_file():
            return False
        with temporary_beside(target, ADVICE) as path:
            path.write_bytes(data)
            _sync(path)
            with _locked(target.parent):
                try:
                    if self.read_tagged(name)[1] != tag:
                        return False
                except FileNotFoundError:
                    return False
                os.replace(path, target)
                _sync(target.parent)
        return True

    def local(self, name: str) -> Path:
        self.size(name)
        return self._at(name)

    def size(self, name: str) -> int:
        path = self._at(name)
        with _folders_are_no_files(name):
            if path.is_dir():
                raise IsADirectoryError
            return path.stat().st_size

    def names(self, under: str = "") -> list[str]:
        root = self._at(under) if under else self.path
        prefix = len(str(self.path)) + 1
        return sorted(path[prefix:] for path in _walk(str(root)))

    def folders(self) -> list[str]:
        try:
            entries = [e for e in os.scandir(self.path) if e.is_dir() and not e.name.startswith(".")]
        except FileNotFoundError:
            return []
        return sorted(e.name for e in entries if next(_walk(e.path), None) is not None)

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._at(name).unlink()

    def delete_all(self) -> None:
        # renamed first, so that a kill in between leaves no half of the folder under its name
        trash = self.path.with_name(_temporary_name("trash"))
        try:
            os.rename(self.path, trash)
        except FileNotFoundError:
            return
        except OSError:  # the parent is not ours to write, or this is a mount point
            trash = self.path
        shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def _folders_are_no_files(name: str) -> Iterator[None]:
    """As on S3, where only files exist: asking for a folder, or below a file, finds nothing."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, "no such file", name) from None


def _temporary_name(name: str) -> str:
    me = this_process()
    return f".tmp-{me.ground}-{me.pid}-{me.start}-{secrets.token_hex(4)}-{name}"


@contextmanager
def temporary_beside(target: Path, advice: str) -> Iterator[Path]:
    """A fresh hidden path beside the target (same suffix: some writers go by it); gone at the end."""
    path = target.with_name(_temporary_name(target.name[-100:]))
    with explain_full_disk(target, advice):
        _make(target.parent)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _make(directory: Path) -> None:
    """mkdir -p that survives a power cut: a new folder is synced into its parent."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync(directory.parent)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # a descriptor of our own: threads of one process exclude each other too
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(directory: str) -> Iterator[str]:
    """Paths of the files below, temporary files of dead writers removed on the way."""
    try:
        entries = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            if entry.name.startswith(".tmp-"):
                _remove_if_stale(entry)
        elif entry.is_dir():
            yield from _walk(entry.path)
        else:
            yield entry.path


def remove_leftovers(directory: Path) -> None:
    """Remove the temporary files that killed writers left in this one folder."""
    for entry in os.scandir(directory):
        if entry.name.startswith(".tmp-"):
            _remove_if_stale(entry)


def _remove_if_stale(entry: "os.DirEntry[str]") -> None:
    _, ground, pid, start, *_ = entry.name.split("-") + [""] * 3
    if not (pid.isdigit() and start.isdigit()):
        return
    with suppress(
        OSError
    ):  # somebody else removed it, or the store is read-only: it stays invisible either way
        me = this_process()
        if ground == me.ground:
            writer = Process(
                host=me.host, boot=me.boot, namespace=me.namespace, pid=int(pid), start=int(start)
            )
            stale = writer.state() == "dead"
        else:
            stale = time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS
        if stale and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif stale:
            os.unlink(entry.path)
