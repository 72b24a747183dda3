"""HTML -> the text a reader came for: resiliparse finds the main content and leaves out menus, footers and scripts.

Paragraphs stay apart as lines. The encoding of a page is UTF-8 if it can be (a page that says otherwise but is valid UTF-8
is wrong about itself), else what it or its server declares, by the WHATWG's table of names; nothing is guessed.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import MAX_BAD_SHARE, decode, read_whole
from corpus.sources.source import Found

_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]{2,40})|<\?xml[^>]{0,80}?encoding\s*=\s*["']([\w:.-]{2,40})""",
    re.IGNORECASE,
)
_HEAD_BYTES = 4096
MAX_DEPTH = 2000  # finding the main content takes time by the square of the depth: 0.4 s here, 13 s at eight times this
# Tags that nest, and that HTML does not close by itself. Counting the others would take long lists for deep pages.
_NESTING = re.compile(
    r"<(/?)(?:div|span|section|article|main|aside|nav|header|footer|ul|ol|dl|table|blockquote|center|font|b|i|em|strong|u|a"
    r"|form|figure|details)(?=[\s>/])",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?![a-zA-Z])")


@dataclass(frozen=True, kw_only=True)
class Html(FolderSource):
    """One document a page, with the page's title. `main_content` False keeps menus, footers and comments too."""

    main_content: bool = True
    patterns: tuple[str, ...] = field(default=with_compression(".html", ".htm", ".xhtml"), compare=False)
    name: str = "html"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        data = read_whole(stream, self.label(name), dropped, self.max_document_bytes)
        if (
            data is not None
            and (page := extract(data, "", dropped, main_content=self.main_content)) is not None
        ):
            title, text, language = page
            yield Found(title or name, 1, text, language if self.language == "und" else "")


def extract(
    data: bytes, charset: str, dropped: Counter[str], *, main_content: bool = True
) -> tuple[str, str, str] | None:
    """(title, text, language the page declares or "") of a page; None with the reason counted. `charset` as the server said.

    Counted: no_main_text, too_deep, and what reading.py counts.
    """
    html = _decoded(data, charset, dropped)
    if html is None:
        return None
    if _depth(html) > MAX_DEPTH:
        dropped["too_deep"] += 1
        return None
    tree = HTMLTree.parse(html)
    text = extract_plain_text(
        tree,
        main_content=main_content,
        preserve_formatting=True,
        list_bullets=False,
        alt_texts=False,
    )
    if not text.strip():
        dropped["no_main_text"] += 1
        return None
    root = tree.document.query_selector("html[lang]") if tree.document is not None else None
    declared = _LANGUAGE.match(root.getattr("lang") or "") if root is not None else None
    return " ".join((tree.title or "").split()), text, declared[0].lower() if declared else ""


def _depth(html: str) -> int:
    """About how deep the elements of a page nest."""
    depth = deepest = 0
    for tag in _NESTING.finditer(html) if html.count("<") > MAX_DEPTH else ():
        depth = max(0, depth + (-1 if tag[1] else 1))
        deepest = max(deepest, depth)
    return deepest


def _decoded(data: bytes, charset: str, dropped: Counter[str]) -> str | None:
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode(data, dropped)
    try:
        if data.strip() and b"\0" not in data:
            return data.decode()
    except UnicodeDecodeError:
        pass
    found = _DECLARED.search(data[:_HEAD_BYTES])
    declared = (found[1] or found[2]).decode() if found else charset
    encoding = map_encoding_to_html5(declared, fallback_utf8=False) if declared else None
    if encoding in (None, "utf-8") or b"\0" in data[:8192]:
        return decode(data, dropped)
    try:
        text = data.decode(encoding, "replace")
    except LookupError:  # a name of the web that Python has no codec for
        dropped["not_utf8"] += 1
        return None
    if text.count("\ufffd") > MAX_BAD_SHARE * len(text):
        dropped["not_utf8"] += 1
        return None
    return text
