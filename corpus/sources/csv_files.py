"""CSV and TSV: one document a record. Quoted fields may hold line ends; a record's position is the line it begins on.

Memory stays bounded by a trick. The parser asks for lines; when a record has taken more than allowed, the feed stops it.
That can only have happened inside a quoted field (or a line of its own), so the parser is started anew on the following
lines with a quote put before them: it believes to be inside that field, and what it finds by its end is thrown away.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import TextReader, open_text
from corpus.sources.source import Found


@dataclass(frozen=True, kw_only=True)
class Csv(FolderSource):
    """`text_field` names a column of the header line; a number counts columns from 0 in files without one.

    `delimiter` None: a tab in .tsv files, a comma in all others.
    """

    text_field: str | int = "text"
    title_field: str | int | None = "title"
    delimiter: str | None = None
    patterns: tuple[str, ...] = field(default=with_compression(".csv", ".tsv"), compare=False)
    name: str = "csv"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(
                f"delimiter of source {self.name!r} is {self.delimiter!r}; it must be one character, e.g. ',' or '\\t'"
            )

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        reader = open_text(stream, self.label(name), dropped, self.max_document_bytes)
        if reader is None:
            return
        delimiter = self.delimiter or ("\t" if ".tsv" in name else ",")
        records = _records(reader, delimiter, dropped, self.max_document_bytes)
        text_column, title_column = self.text_field, self.title_field
        if isinstance(text_column, str):
            header = next(records, None)
            if header is None:
                return
            text_column = self._column(header[1], text_column, name)
            title_column = header[1].index(title_column) if title_column in header[1] else None
        for number, row in records:
            if len(row) <= text_column:
                dropped["no_text_field"] += 1
                continue
            text = reader.judge(row[text_column])
            if text is None:
                continue
            if not text.strip():
                dropped["empty"] += 1
                continue
            title = row[title_column] if isinstance(title_column, int) and len(row) > title_column else ""
            yield Found(title or f"{name}:{number}", number, text)

    def _column(self, header: list[str], wanted: str, name: str) -> int:
        if wanted not in header:
            columns = ", ".join(header)[:200]
            raise ValueError(
                f"{self.label(name)} has no column {wanted!r}, only {columns}; set text_field, or a number if the file has "
                "no header line"
            )
        return header.index(wanted)


class _TooLong(Exception):
    """A record has taken more than it may."""


class _Feed:
    """Lines for the parser. `first` is the line on which the present record begins."""

    def __init__(self, reader: TextReader, limit: int) -> None:
        self._pieces = reader.pieces()
        self._limit = limit
        self._line = 1
        self.begin()
        self.ended = False

    def begin(self, *, inside: bool = False) -> None:
        """The next piece begins a record, or goes on `inside` a quoted field."""
        self.first, self.taken, self.inside = self._line, 0, inside
        self.whole = True  # the piece given last was a line to its end

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self.taken > self._limit:
            raise _TooLong
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
            raise StopIteration
        self.taken += len(piece)
        self.whole = piece.endswith(b"\n") or len(piece) <= self._limit
        self._line += piece.endswith(b"\n")
        text = piece.decode("utf-8", "surrogateescape")
        if self.inside:
            self.inside = False
            return '"' + text
        return text


def _records(
    reader: TextReader, delimiter: str, dropped: Counter[str], limit: int
) -> Iterator[tuple[int, list[str]]]:
    """(first line, fields) of every whole record that is not blank."""
    if csv.field_size_limit() < sys.maxsize:
        csv.field_size_limit(sys.maxsize)  # one setting for the whole process; the feed watches the size
    feed = _Feed(reader, limit)
    parser = csv.reader(feed, delimiter=delimiter)
    skipping = False  # what ends next is the rest of a record that was too long
    while True:
        try:
            row = next(parser)
        except StopIteration:
            return
        except _TooLong:
            dropped["too_long"] += not skipping
            skipping = True
            parser = csv.reader(feed, delimiter=delimiter)
            feed.begin(inside=True)
            continue
        except csv.Error:
            dropped["bad_record"] += 1
            skipping = False
            parser = csv.reader(feed, delimiter=delimiter)
            feed.begin()
            continue
        first, whole, long = feed.first, feed.whole, feed.taken > limit
        if feed.ended:  # the parser asked for more and there was none
            dropped["unclosed_quote"] += not skipping
            return
        feed.begin()
        if skipping or long or not whole:
            dropped["too_long"] += not skipping
            skipping = (
                not whole
            )  # a line longer than the limit, without quotes: its record goes on in the next piece
        elif row:
            yield first, row
