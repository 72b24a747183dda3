"""Your own text: everything below a folder that we know how to read, each file by the name it has without compression.

    .txt .text .md .rst      one document a file, or, with `separator`, one between every two separators
    .jsonl .ndjson .json     one document a line: an object with the field `text_field`
    .csv .tsv                one document a record: the column `text_field`
    .parquet .arrow ...      one document a row: the column `text_field`
    .html  .warc  .xml  .conllu  .fasta ...   as the source of that kind reads them, with its defaults

Any other file is counted as `unknown_kind`. For settings that only one kind has, use its own source.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from corpus.normalize import unwrap
from corpus.sources.compression import without_compression
from corpus.sources.conllu import ConllU
from corpus.sources.csv_files import Csv
from corpus.sources.fasta import Fasta
from corpus.sources.folder import FolderSource
from corpus.sources.html_pages import Html
from corpus.sources.json_lines import JsonLines
from corpus.sources.reading import TextReader, open_text
from corpus.sources.source import Found, Source
from corpus.sources.tables import Tables
from corpus.sources.warc import Warc
from corpus.sources.wikipedia import Wikipedia

PLAIN = (".txt", ".text", ".md", ".markdown", ".rst")
_WITH_FIELDS = (JsonLines, Csv, Tables)
_WITHOUT = (Html, Warc, Wikipedia, ConllU, Fasta)


@dataclass(frozen=True, kw_only=True)
class TextFiles(FolderSource):
    """Files at `folder` that match any of `patterns`. Set `wrapped` for hard-wrapped plain text (books, mails).

    A plain document longer than `max_document_bytes` goes on as the next document, from the start of a line.
    """

    text_field: str = "text"
    title_field: str = "title"
    separator: str | None = None
    wrapped: bool = False
    name: str = "text-files"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator is not None and not self.separator:
            raise ValueError(f"separator of source {self.name!r} is empty; use None for one document a file")

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        known = without_compression(name.lower())
        if known.endswith(PLAIN):
            reader = open_text(stream, self.label(name), dropped, self.max_document_bytes)
            if reader is not None:
                yield from self._plain(name, reader)
        elif (source := self._source(known)) is not None:
            yield from source.documents(name, stream, dropped)
        else:
            dropped["unknown_kind"] += 1

    def _source(self, name: str) -> Source | None:
        """The source that reads a file of this name, with our settings."""
        suffix = "." + name.rpartition(".")[2]
        for kind in (*_WITH_FIELDS, *_WITHOUT):
            if suffix in suffixes_of(kind):
                settings: dict[str, Any] = {
                    "folder": self.folder,
                    "max_document_bytes": self.max_document_bytes,
                    "name": self.name,
                    "language": self.language,
                }
                if kind in _WITH_FIELDS:
                    settings |= {"text_field": self.text_field, "title_field": self.title_field}
                return kind(**settings)
        return None

    def _plain(self, name: str, reader: TextReader) -> Iterator[Found]:
        separator = (self.separator or "").encode()
        open_part, first = bytearray(), 1  # what no separator has ended yet, and the line it begins on
        for number, line in reader.lines():
            if open_part and len(open_part) + len(line) >= self.max_document_bytes:
                yield from self._part(name, bytes(open_part), first, reader)
                open_part, first = bytearray(), number
            look = max(0, len(open_part) - len(separator) + 1)
            open_part += line.removesuffix(b"\r") + b"\n"
            while separator and (end := open_part.find(separator, look)) >= 0:
                yield from self._part(name, bytes(open_part[:end]), first, reader)
                end += len(separator)
                first += open_part.count(b"\n", 0, end)
                del open_part[:end]
                look = 0
        yield from self._part(name, bytes(open_part), first, reader)

    def _part(self, name: str, data: bytes, line: int, reader: TextReader) -> Iterator[Found]:
        if not data.strip():
            return
        text = reader.text(data)
        if text is not None:
            line += text.count("\n", 0, len(text) - len(text.lstrip()))
            yield Found(name, line, unwrap(text) if self.wrapped else text)


def suffixes_of(kind: type[FolderSource]) -> frozenset[str]:
    """The endings of names that a kind of source looks for by default, without compression."""
    patterns: Any = kind.__dataclass_fields__["patterns"].default
    return frozenset(without_compression(p).removeprefix("**/*") for p in patterns)
