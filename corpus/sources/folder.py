"""What all sources that read files have in common: where the files lie, and how they are found and opened."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from corpus.sources.compression import SUFFIXES
from corpus.sources.places import list_files, open_file, place
from corpus.sources.reading import MAX_DOCUMENT_BYTES
from corpus.sources.source import FoundFile


def with_compression(*suffixes: str) -> tuple[str, ...]:
    """Patterns for all files below a folder that end in one of the suffixes, compressed or not."""
    return tuple(f"**/*{s}{c}" for s in suffixes for c in ("", *SUFFIXES))


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Files at `folder` (a folder, a file, a glob, or any of them on s3://; see places.py) that match one of `patterns`.

    Where files are is not what they are, so `folder` and `patterns` are left out of a result's name: moving or splitting
    files changes nothing. A document (or a line, where a line is read whole) longer than `max_document_bytes` is counted
    as `too_long` and not read into memory.
    """

    folder: str = field(compare=False)  # fields outside equality do not name results
    patterns: tuple[str, ...] = field(default=("**/*",), compare=False)
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    name: str = "files"
    language: str = "und"

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError(
                f"folder of source {self.name!r} is empty; name a folder, a glob or s3://bucket/prefix"
            )
        if not self.patterns:
            raise ValueError(
                f"patterns of source {self.name!r} is empty, so it names no file; use e.g. ('**/*.txt',)"
            )
        if self.max_document_bytes < 1:
            raise ValueError(
                f"max_document_bytes of source {self.name!r} is {self.max_document_bytes}; it must be 1 or more"
            )

    def files(self) -> Iterator[FoundFile]:
        where = place(self.folder, self.patterns)
        chosen = self.patterns != type(self).__dataclass_fields__["patterns"].default
        try:
            yield from list_files(where, every=chosen and where.patterns == self.patterns)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"source {self.name!r} cannot be listed: {error}") from None
        except ValueError as error:
            raise ValueError(f"source {self.name!r} finds no file: {error}") from None

    def open(self, root: str, name: str) -> BinaryIO:
        return open_file(place(self.folder, self.patterns), name)

    def label(self, name: str) -> str:
        """A file in a sentence."""
        return f"{name} of source {self.name!r}"
