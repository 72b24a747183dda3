"""The store's interface: named files in a folder, wherever that folder is.

Every implementation keeps these promises, and the tests run the same functions over all of them:

- a name holds a whole file or nothing: a writer killed, cut off or out of space at any moment publishes nothing;
- `create` has one winner, `replace` succeeds only on the version it was given, among any number of processes;
- a Folder is a value: it pickles (to Ray workers and child processes) and holds no connection and no credentials.

Names are relative, '/' separated and stay inside the folder. A part that begins with '.' is refused: those names are
the implementations' own (temporary files, locks).
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreUnreachable(OSError):
    """The store does not answer, or refuses us. The message is one sentence that says what to check."""


class StoreFull(OSError):
    """There is no room for a file. The message says where, and what to do."""


class Folder(ABC):
    """A folder of a store. `url` is what `open_folder` takes to open it again."""

    url: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    @abstractmethod
    def child(self, *parts: str) -> "Folder":
        """The folder below, whether or not it exists yet."""

    @abstractmethod
    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The content and its version tag, for `replace`. Raises FileNotFoundError."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Let the name hold `data`, whatever it held before."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """True: the name was free and now holds our data. False: it holds somebody else's."""

    @abstractmethod
    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """Compare and swap: True if the name still held the version `tag` and now holds `data`.

        On S3, False can also mean that ours was stored and replaced by a third party before the answer reached us.
        """

    @abstractmethod
    def writer(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write. Its file is published whole when the block ends well, removed when it raises."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """A local path that holds the content; not to be written. Raises FileNotFoundError."""

    def forget(self, name: str) -> None:  # noqa: B027 (a local store has no copies)
        """Drop the local copy of a remote file, so that `local` fetches it anew: for a copy found damaged."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes. Raises FileNotFoundError."""

    @abstractmethod
    def names(self, under: str = "") -> list[str]:
        """Every file below (below the sub-folder `under`), relative to this folder, sorted."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the immediate sub-folders that hold something, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; absent is fine."""

    @abstractmethod
    def delete_all(self) -> None:
        """Remove everything below, leftovers of killed writers included."""

    def read(self, name: str) -> bytes:
        """The content. Raises FileNotFoundError."""
        return self.read_tagged(name)[0]

    def exists(self, name: str) -> bool:
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True


def check_name(name: str) -> str:
    """Return the name, or raise ValueError if it could leave the folder or meet an implementation's own files."""
    parts = name.split("/")
    if any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
        raise ValueError(
            f"{name!r} is not a name in a store: parts are separated by single '/', none is empty or starts with '.', "
            "and '\\' does not occur; use a relative name such as 'partitions/0a1b.json'"
        )
    return name


@contextmanager
def explain_full_disk(path: Path, advice: str) -> Iterator[None]:
    """Turn 'no space left', 'quota exceeded' and 'file too large' into a StoreFull that names the place."""
    try:
        yield
    except StoreFull:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = os.strerror(error.errno).lower()
        message = f"cannot write {path} ({reason}); nothing half-written was published; {advice}"
        raise StoreFull(error.errno, message) from error
