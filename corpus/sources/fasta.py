"""FASTA: sequences of letters (DNA, RNA, proteins), one record a document, upper case, without blanks.

    >seq1 some description        ->   title "seq1 some description", text "ACGTACGT"
    acgt
    ACGT

A record longer than `max_document_bytes` (a chromosome) goes on as further documents of that size with the same title.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import open_text
from corpus.sources.source import Found


@dataclass(frozen=True, kw_only=True)
class Fasta(FolderSource):
    """Records begin with '>'; lines that begin with ';' are comments; a '*' at the end (translation stop) is left out."""

    patterns: tuple[str, ...] = field(
        default=with_compression(".fasta", ".fa", ".fna", ".ffn", ".faa", ".frn"), compare=False
    )
    name: str = "fasta"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        reader = open_text(stream, self.label(name), dropped, self.max_document_bytes)
        title: str | None = None
        parts: list[bytes] = []
        size = position = begun = 0
        if reader is None:
            return
        for number, line in reader.lines():
            if line.startswith(b">"):
                if title is not None:
                    yield from _record(title, begun or position, parts, dropped, first=not begun)
                title = line[1:].strip().decode("utf-8", "replace") or f"{name}:{number}"
                parts, size, position, begun = [], 0, number, 0
            elif title is None:
                dropped["no_header"] += bool(line.strip())
            elif not line.startswith(b";"):
                letters = b"".join(line.split()).upper()
                if size + len(letters) > self.max_document_bytes:
                    yield from _record(title, begun or position, parts, dropped, first=not begun)
                    parts, size, begun = [], 0, number
                parts.append(letters)
                size += len(letters)
        if title is not None:
            yield from _record(title, begun or position, parts, dropped, first=not begun)


def _record(
    title: str, position: int, parts: list[bytes], dropped: Counter[str], *, first: bool
) -> Iterator[Found]:
    sequence = b"".join(parts).removesuffix(b"*")
    if not sequence:
        dropped["empty"] += first
    elif not sequence.isascii():
        dropped["not_letters"] += 1
    else:
        yield Found(title, position, sequence.decode())
