"""What a source is: it finds files, and turns the content of one file into documents.

Finding (`files`), opening (`open`) and reading (`documents`) are apart, because between them the listing is written
down: it names every file by its content, and a worker on any machine opens the file again by (root, name). Where files
lie is never an identity. Reading is a stream: memory depends on the longest document allowed, never on a file's size.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

BLOCK = 1 << 20


class FoundFile(NamedTuple):
    """One file. `root` and `name` find it again on any machine; `name` is relative, with '/'. `size` in bytes, as stored.

    `version` is what an object store calls this content, so that listing a bucket does not mean reading it.
    """

    root: str
    name: str
    size: int
    version: str = ""


class Found(NamedTuple):
    """A document as it lies in its file: raw text, not yet normalised. `position` as in corpus/document.py; for a
    compressed file it counts in the decompressed text. `language` "" is the source's."""

    title: str
    position: int
    text: str
    language: str = ""


class TruncatedFile(ValueError):
    """A file ends too early or is damaged. `documents` raises it after every whole document before that place."""


class Source(Protocol):
    """A frozen config that is also the reader. Its fields say what is wanted; methods find it on this machine."""

    @property
    def name(self) -> str: ...  # unique in a corpus; the `source` column

    @property
    def language(self) -> str: ...  # BCP 47, "und" when nobody has said

    def files(self) -> Iterator[FoundFile]:
        """Every file, lazily, sorted within its folder. Raises ValueError or FileNotFoundError in one sentence, at the
        latest when the listing ends. A folder that cannot be listed appears like a file, and opening it says why."""

    def open(self, root: str, name: str) -> BinaryIO:
        """The bytes of a file as stored, buffered. Raises OSError (FileNotFoundError if it has vanished)."""

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        """The documents of one opened file; what cannot become one is counted in `dropped` under its reason.

        Raises TruncatedFile as said there, and ValueError when the config does not fit the file (no such column).
        """


def content_of(stream: BinaryIO) -> str:
    """64 hex digits that name a file's content: its version where the store gives one, else its bytes, read to the end."""
    version: str = getattr(getattr(stream, "raw", None), "version", "")
    return versioned(version) if version else fingerprint(stream)[0]


def versioned(version: str) -> str:
    """The name of a content that a store knows as `version`."""
    return hashlib.sha256(f"version {version}".encode()).hexdigest()


def fingerprint(stream: BinaryIO) -> tuple[str, int]:
    """(sha256 as 64 hex digits, number of bytes) of what is left of a stream."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size
