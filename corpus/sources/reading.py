"""Bytes -> lines -> text, as a stream: bounded memory, one policy for encodings, line numbers that stay true.

The policy. A file is UTF-8, or UTF-16/32 if it begins with that byte order mark; a NUL in its first 8 KiB makes it
`binary`. Its first MiB decides whether it is trusted: at most 1 % of the characters may be bytes that are no UTF-8.

    a document of a trusted file        bad bytes become U+FFFD (which normalising removes): `repaired_utf8`;
                                        more than 1 % of them: dropped as `not_utf8`
    a document of any other file        one bad byte: dropped as `not_utf8` (guessing would put wrong letters into the corpus)

Trust ends when more than 1 % of all that was read, and at least 1 % of a MiB, is bad; what was read before stays. A file
that is one document is thus kept or dropped as a whole, and of a file that mixes encodings the UTF-8 lines are kept.
"""

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from corpus.sources.compression import decompress
from corpus.sources.source import BLOCK

MAX_BAD_SHARE = 0.01  # above this share of undecodable characters, text is in some other encoding
MAX_DOCUMENT_BYTES = 16 << 20
_BAD = re.compile("[\udc80-\udcff]")  # how "surrogateescape" carries a byte that is no UTF-8
_MARKS = (  # the longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def bad_characters(text: str) -> int:
    """How many characters of a text decoded with "surrogateescape" are bytes that were no UTF-8."""
    return len(_BAD.findall(text))


class TextReader:
    """The lines of one file, and the judge of its bytes. Made by `open_text`."""

    def __init__(self, first: bytes, rest: Iterator[bytes], dropped: Counter[str], limit: int) -> None:
        self._first, self._rest = first, rest
        self._dropped, self._limit = dropped, limit
        start = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(first)
        self._trusted = bad_characters(start) <= MAX_BAD_SHARE * len(start)
        self._seen = self._bad = 0  # characters

    def pieces(self) -> Iterator[bytes]:
        """Lines with their ends. A line longer than the limit comes in pieces, of which only the last has an end."""
        pending: list[bytes] = []
        size = 0
        for block in self._blocks():
            *lines, tail = block.split(b"\n")
            for line in lines:
                if pending:
                    line = b"".join([*pending, line])
                    pending, size = [], 0
                yield line + b"\n"
            if tail:
                pending.append(tail)
                size += len(tail)
            if size > self._limit:
                yield b"".join(pending)
                pending, size = [], 0
        if pending:
            yield b"".join(pending)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(number from 1, line without its end). One that is longer than the limit is counted and comes as b""."""
        number, skipping = 1, False
        for piece in self.pieces():
            ended = piece.endswith(b"\n")
            if skipping:
                skipping = not ended
                continue
            if len(piece) - ended > self._limit:
                self._dropped["too_long"] += 1
                skipping = not ended
                piece = b"\n"
            yield number, piece.rstrip(b"\n")
            number += 1

    def _blocks(self) -> Iterator[bytes]:
        yield self._first
        yield from self._rest

    def text(self, data: bytes) -> str | None:
        """A document's bytes as text; None if the policy drops it, which is then counted."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return self.judge(data.decode("utf-8", "surrogateescape"))
        self._seen += len(text)
        return text

    def judge(self, text: str) -> str | None:
        """The same for a text decoded with "surrogateescape" in some other way."""
        bad = bad_characters(text)
        self._seen += len(text)
        if not bad:
            return text
        self._bad += bad
        self._trusted = self._trusted and self._bad <= MAX_BAD_SHARE * max(self._seen, BLOCK)
        if not self._trusted or bad > MAX_BAD_SHARE * len(text):
            self._dropped["not_utf8"] += 1
            return None
        self._dropped["repaired_utf8"] += 1
        return _BAD.sub("\ufffd", text)


def open_text(
    stream: BinaryIO, label: str, dropped: Counter[str], limit: int = MAX_DOCUMENT_BYTES
) -> TextReader | None:
    """A reader of a file, decompressed if need be; None for one that is `empty` or `binary`, which is counted.

    `limit` in bytes is the longest line. TruncatedFile comes out of the reader where the file breaks off.
    """
    stream = decompress(stream, label)
    first = stream.read(BLOCK)
    rest = iter(lambda: stream.read(BLOCK), b"")
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            decoder = codecs.getincrementaldecoder(encoding)("replace")
            first, rest = _as_utf8(decoder, first), (_as_utf8(decoder, block) for block in rest)
            break
    else:
        if b"\0" in first[:8192]:
            dropped["binary"] += 1
            return None
        first = first.removeprefix(codecs.BOM_UTF8)
    if len(first) < BLOCK and not first.strip():
        # nothing but blanks so far: empty, unless the stream was only slow or is broken (then reading on says so)
        following = next(rest, b"")
        if not following:
            dropped["empty"] += 1
            return None
        first += following
    return TextReader(first, rest, dropped, limit)


def _as_utf8(decoder: codecs.IncrementalDecoder, block: bytes) -> bytes:
    """UTF-8; what the other encoding could not hold becomes a byte that is no UTF-8, so that the judge sees it."""
    return decoder.decode(block).encode().replace(b"\xef\xbf\xbd", b"\xff")


def read_whole(stream: BinaryIO, label: str, dropped: Counter[str], limit: int) -> bytes | None:
    """All bytes of a file that is one document, decompressed; None if longer than `limit`, which is counted."""
    stream = decompress(stream, label)
    parts, size = [], 0
    while block := stream.read(BLOCK):
        parts.append(block)
        size += len(block)
        if size > limit:
            dropped["too_long"] += 1
            return None
    return b"".join(parts)


def decode(data: bytes, dropped: Counter[str]) -> str | None:
    """The text of a file that is one document, or None with the reason counted: `empty`, `binary`, `not_utf8`."""
    reader = open_text(io.BytesIO(data), "", dropped, max(len(data), 1))
    if reader is None:
        return None
    return reader.text(b"".join(reader.pieces()))
