"""Wikipedia's own dumps (pages-articles.xml.bz2, also multistream): one document an article, through expat, no tree held.

A position is the line on which the article's <page> begins in the decompressed dump. The dump says in which language it
is and what its namespaces are called; articles are namespace 0.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.parsers import expat

from corpus.sources.compression import decompress
from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.source import Found, TruncatedFile
from corpus.sources.wikitext import SKIPPED_NAMESPACES, plain

READ_BYTES = 64 << 10  # pages that end in one read wait together
_LEFT_OUT = ("-2", "6", "14")  # media, file, category: links to them are no text
_KEPT = frozenset({"title", "ns", "text", "model", "namespace"})


@dataclass(frozen=True, kw_only=True)
class Wikipedia(FolderSource):
    """Counted: redirect, other_namespace, not_wikitext, empty, too_long, and not_mediawiki for other XML files."""

    patterns: tuple[str, ...] = field(default=with_compression(".xml"), compare=False)
    name: str = "wikipedia"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        label = self.label(name)
        unpacked = decompress(stream, label)
        dump = _Dump(self.max_document_bytes)
        block = unpacked.read(READ_BYTES)
        if not block.strip():
            dropped["empty"] += 1
            return
        while True:
            error = dump.feed(block)
            for page in dump.taken():
                if (text := _article(page, dump.skipped, dropped)) is not None:
                    yield Found(page.title, page.line, text, dump.language if self.language == "und" else "")
            if dump.root != "mediawiki" and (dump.root or error):
                dropped["not_mediawiki"] += 1
                return
            if error:
                raise TruncatedFile(
                    f"{label} breaks off or is damaged at line {dump.line} ({error}); the articles before are kept; "
                    "replace the file with a whole copy"
                )
            if not block:
                return
            block = unpacked.read(READ_BYTES)


def _article(page: "_Page", skipped: frozenset[str], dropped: Counter[str]) -> str | None:
    reason = page.reason
    if not reason:
        try:
            text = plain(page.text, skipped)
        except ValueError:
            reason = "not_wikitext"
        else:
            if text:
                return text
            reason = "empty"
    dropped[reason] += 1
    return None


class _Page:
    def __init__(self, line: int) -> None:
        self.line = line
        self.title = self.text = self.model = ""
        self.space = "0"
        self.redirect = self.too_long = False

    @property
    def reason(self) -> str:
        """Why this page is no article; "" if it is one."""
        reasons = (
            ("other_namespace", self.space != "0"),
            ("redirect", self.redirect),
            ("not_wikitext", self.model not in ("", "wikitext")),
            ("too_long", self.too_long),
        )
        return next((name for name, holds in reasons if holds), "")


class _Dump:
    """Takes XML in blocks, gives pages. Holds the page that is open and those that just ended."""

    def __init__(self, limit: int) -> None:
        self.root = self.language = self.title = ""
        self.skipped = SKIPPED_NAMESPACES
        self._limit = limit
        self._page: _Page | None = None
        self._ended: list[_Page] = []
        self._parts: list[str] | None = None  # the text of the element that is open, if it is kept
        self._size = 0
        self._key = ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        handlers: dict[str, Callable[..., None]] = {
            "StartElementHandler": self._start,
            "EndElementHandler": self._end,
            "CharacterDataHandler": self._characters,
        }
        for handler, function in handlers.items():
            setattr(self._parser, handler, function)

    @property
    def line(self) -> int:
        return self._parser.ErrorLineNumber

    def feed(self, block: bytes) -> str:
        """Take a block (b"": the end). Returns what is wrong, or ""."""
        try:
            self._parser.Parse(block, not block)
        except expat.ExpatError as error:
            return expat.ErrorString(error.code)
        return ""

    def taken(self) -> list[_Page]:
        """The pages that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.root:
            self.root, self.language = name, attributes.get("xml:lang", "")
        if name == "page":
            self._page = _Page(self._parser.CurrentLineNumber)
        elif name == "redirect" and self._page is not None:
            self._page.redirect = True
        if name in _KEPT:
            self._parts, self._size = [], 0
            self._key = attributes.get("key", "")

    def _characters(self, text: str) -> None:
        if self._parts is None:
            return
        self._size += len(text.encode("utf-8", "replace"))
        if self._size <= self._limit:
            self._parts.append(text)
        else:
            self._parts.clear()

    def _end(self, name: str) -> None:
        page = self._page
        if self._parts is not None and name in _KEPT:
            value, self._parts = "".join(self._parts), None
            if name == "namespace" and self._key in _LEFT_OUT:
                self.skipped |= {value.lower()}
            elif page is not None and name == "text":
                page.text, page.too_long = value, self._size > self._limit
            elif page is not None and name in ("title", "model"):
                setattr(page, name, value)
            elif page is not None and name == "ns":
                page.space = value
        if name == "page" and page is not None:
            self._ended.append(page)
            self._page = None
