"""WARC archives (crawls): the pages of successful HTML responses, and the ready texts of WET files.

    WARC/1.0  headers  blank line  Content-Length bytes  two blank lines     and so on

The frame is read here, because what breaks off must be told from what ends, and reading must go on after a record whose
length is wrong (at the next line that begins a record); warcio parses what is inside, HTTP with its encodings included.
A position is the number of the record in its file, counted from 1; the title is the page's address.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from warcio.exceptions import ArchiveLoadFailed  # type: ignore[import-untyped]
from warcio.recordloader import ArcWarcRecord, ArcWarcRecordLoader  # type: ignore[import-untyped]

from corpus.sources.compression import decompress
from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.html_pages import extract
from corpus.sources.reading import decode
from corpus.sources.source import BLOCK, Found, TruncatedFile

MAX_LINE = 64 << 10
MAX_HEADER_BYTES = 1 << 20
_BEGIN = re.compile(rb"WARC/\d")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_PAGES = ("text/html", "application/xhtml+xml")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w:.-]+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Warc(FolderSource):
    """Records `response`, `resource` (HTML) and `conversion` (plain text, as in WET files); others hold no text of pages.

    Counted: not_html, http_error (any status but 200), too_long, damaged_record, truncated_record (the crawler cut it: what
    is there is kept), and what extraction counts.
    """

    main_content: bool = True
    patterns: tuple[str, ...] = field(default=with_compression(".warc", ".wet"), compare=False)
    name: str = "warc"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        label, number = self.label(name), 0
        # reading in lines needs a buffer; what it may lose where the file breaks off belongs to no whole record
        lines = io.BufferedReader(cast(io.RawIOBase, decompress(stream, label)), BLOCK)
        try:
            for number, data in _records(cast(BinaryIO, lines), self.max_document_bytes, dropped):
                if data is not None and (found := self._read(data, number, dropped)) is not None:
                    yield found
        except EOFError as error:
            raise TruncatedFile(
                f"{label} breaks off or is damaged after record {error}; the records before are kept; replace the file with a "
                "whole copy"
            ) from None
        finally:
            lines.detach()
        if not number:
            dropped["empty"] += 1

    def _read(self, data: bytes, number: int, dropped: Counter[str]) -> Found | None:
        try:
            record = ArcWarcRecordLoader().parse_record_stream(io.BytesIO(data), known_format="warc")
            return self._page(record, number, dropped)
        except (ArchiveLoadFailed, EOFError, ValueError):
            dropped["damaged_record"] += 1
            return None

    def _page(self, record: ArcWarcRecord, number: int, dropped: Counter[str]) -> Found | None:
        if record.rec_type not in ("response", "resource", "conversion"):
            return None
        uri = record.rec_headers.get_header("WARC-Target-URI") or ""
        content = record.content_type or ""
        if record.http_headers is not None:
            if record.http_headers.get_statuscode() != "200":
                dropped["http_error"] += 1
                return None
            content = record.http_headers.get_header("Content-Type") or ""
        kind = content.partition(";")[0].strip().lower()
        plain = record.rec_type == "conversion" and kind in ("text/plain", "")
        if not plain and kind not in _PAGES:
            dropped["not_html"] += 1
            return None
        data = self._content(record, dropped)
        if data is None:
            return None
        if record.rec_headers.get_header("WARC-Truncated"):
            dropped["truncated_record"] += 1
        if plain:
            text, title, language = decode(data, dropped), "", ""
        else:
            charset = _CHARSET.search(content)
            page = extract(data, charset[1] if charset else "", dropped, main_content=self.main_content)
            title, text, language = page or ("", None, "")
        if text is None:
            return None
        return Found(uri or title or str(number), number, text, language if self.language == "und" else "")

    def _content(self, record: ArcWarcRecord, dropped: Counter[str]) -> bytes | None:
        """The body, without its transfer and content encodings."""
        body = record.content_stream()
        parts, size = [], 0
        while block := body.read(BLOCK):
            parts.append(block)
            size += len(block)
            if size > self.max_document_bytes:
                dropped["too_long"] += 1
                return None
        return b"".join(parts)


def _records(lines: BinaryIO, limit: int, dropped: Counter[str]) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, header and body) of every record; None for the body of one that is too long or damaged.

    Raises EOFError with the number of the last whole record.
    """
    number = 0
    line = _next_line(lines)
    while line:
        if not _BEGIN.match(line):
            if not number:
                raise EOFError("0, for it begins like no WARC archive")
            line = lines.readline(MAX_LINE)  # the rest of a record that was longer than it said
            continue
        head = line
        while (line := lines.readline(MAX_LINE)).strip() and len(head) < MAX_HEADER_BYTES:
            head += line
        if not line:
            raise EOFError(number)
        number += 1
        length = _LENGTH.search(head)
        if length is None:
            dropped["damaged_record"] += 1
            yield number, None
            line = lines.readline(MAX_LINE)
            continue
        body = _body(lines, int(length[1]), limit)
        if body is None:
            raise EOFError(number - 1)
        line = lines.readline(MAX_LINE)
        if line.strip():  # no blank line: the length is wrong, so the body is, too
            dropped["damaged_record"] += 1
            yield number, None
            continue
        if len(body) < int(length[1]):
            dropped["too_long"] += 1
            yield number, None
        else:
            yield number, head + b"\r\n" + body
        line = _next_line(lines)


def _next_line(lines: BinaryIO) -> bytes:
    """The next line that is not blank; b"" at the end."""
    while (line := lines.readline(MAX_LINE)) and not line.strip():
        pass
    return line


def _body(lines: BinaryIO, length: int, limit: int) -> bytes | None:
    """The body; its beginning if it is longer than the limit (and it is passed over); None if it is not all there."""
    body = lines.read(min(length, limit))
    left = length - len(body)
    while left and (block := lines.read(min(left, BLOCK))):
        left -= len(block)
    return None if left else body
