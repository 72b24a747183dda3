"""What a source is: it finds files, and turns the content of one file into documents.

Finding (`files`) and reading (`documents`) are apart, because between them the listing is written down: it names every
file by its content, and a worker on any machine finds the file again by `locate`. Where files lie is never an identity.
"""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

MAX_BAD_SHARE = 0.01  # above this share of undecodable characters, a file is in some other encoding


class Found(NamedTuple):
    """A document as it lies in its file: raw text, not yet normalised. `position` as in corpus/document.py."""

    title: str
    position: int
    text: str


class Source(Protocol):
    """A frozen config that is also the reader. Its fields say what is wanted; methods find it on this machine."""

    @property
    def name(self) -> str: ...  # unique in a corpus; the `source` column

    @property
    def language(self) -> str: ...

    def files(self) -> Iterable[tuple[str, str, Path]]:
        """(root, relative name with '/', path) of every file. Raises ValueError or FileNotFoundError in one sentence."""

    def locate(self, root: str, name: str) -> Path:
        """The path on this machine of a file that `files` found on some machine."""

    def documents(self, name: str, data: bytes, dropped: Counter[str]) -> Iterator[Found]:
        """The documents of one file; what cannot become one is counted in `dropped` under its reason."""


def decode(data: bytes, dropped: Counter[str]) -> str | None:
    """Text of a file, or None with a reason counted: `empty`, `binary`, `not_utf8`.

    The policy: UTF-8, or UTF-16 if it begins with that byte order mark. Bytes that are not UTF-8 are replaced (U+FFFD,
    which normalising removes) and the file is counted as `repaired_utf8`, unless they are more than 1 % of it: then it
    is in some other encoding, and guessing would put wrong letters into the corpus. A NUL in the first 8 KiB is binary.
    """
    if not data.strip():
        dropped["empty"] += 1
        return None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    elif b"\0" in data[:8192]:
        dropped["binary"] += 1
        return None
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("utf-8-sig", "replace")
    bad = text.count("\ufffd")
    if bad > MAX_BAD_SHARE * len(text):
        dropped["not_utf8"] += 1
        return None
    if bad:
        dropped["repaired_utf8"] += 1
    return text
