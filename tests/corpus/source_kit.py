"""What every test of a source does: list, open, read; and streams that misbehave on purpose."""

import io
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from corpus.sources.source import Found, Source, TruncatedFile


def read(source: Source) -> tuple[list[Found], Counter[str]]:
    """All documents of all files of a source, and what was dropped."""
    dropped: Counter[str] = Counter()
    found: list[Found] = []
    for root, name, *_ in source.files():
        with source.open(root, name) as stream:
            found += source.documents(name, stream, dropped)
    return found, dropped


def read_bytes(source: Source, name: str, data: bytes) -> tuple[list[Found], Counter[str]]:
    """The documents of one file in memory."""
    dropped: Counter[str] = Counter()
    return list(source.documents(name, io.BytesIO(data), dropped)), dropped


def read_broken(source: Source, name: str, data: bytes) -> tuple[list[Found], str]:
    """The documents before the damage, and what the error says; fails if there is none."""
    found: list[Found] = []
    try:
        for document in source.documents(name, io.BytesIO(data), Counter()):
            found.append(document)
    except TruncatedFile as error:
        return found, str(error)
    raise AssertionError(f"{name} was read to its end")


class OneWay(io.RawIOBase):
    """A stream made of blocks that cannot be sought and hands out little at a time, as a socket does."""

    def __init__(self, blocks: Iterable[bytes], most: int = 1 << 30) -> None:
        self._blocks, self._left, self._most = iter(blocks), memoryview(b""), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        count = min(len(buffer), len(self._left), self._most)
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def one_way(blocks: Iterable[bytes], most: int = 1 << 30) -> BinaryIO:
    return cast(BinaryIO, OneWay(blocks, most))


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """Fails if Python holds more than this at any moment of the block."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert peak < megabytes, f"{peak:.1f} MB were held at once, allowed are {megabytes}"


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
