"""Wikitext -> paragraphs: what a reader of the article would read. Parsed by mwparserfromhell, rendered here.

Left out: templates, tables, references, files and their captions, categories, links to other languages, formulas,
galleries, comments. Kept: paragraphs, list items, headings, the words of links.
"""

import re
from collections.abc import Iterable
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes

# Where nothing else is known; a dump names its own (`namespaces` of wikipedia.py).
SKIPPED_NAMESPACES = frozenset({"file", "image", "media", "category"})
_SKIPPED_TAGS = frozenset(
    (
        *(
            "table",
            "ref",
            "references",
            "gallery",
            "math",
            "chem",
            "ce",
            "syntaxhighlight",
            "source",
            "code",
            "pre",
        ),
        *(
            "timeline",
            "score",
            "imagemap",
            "hiero",
            "mapframe",
            "maplink",
            "templatestyles",
            "graph",
            "section",
        ),
        *("inputbox", "includeonly", "style", "script"),
    )
)
_BLOCKS = frozenset(("br", "p", "div", "blockquote", "li", "dd", "dt", "ul", "ol", "dl", "hr", "center"))
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,10})*$|simple$")
_SWITCH = re.compile(r"__[A-Z]+__")
_VARIANT = re.compile(r"-\{(?:[A-Za-z;-]*\|)?([^{}]*)\}-")
_EMPTY_BRACKETS = re.compile(r"[ \u00a0]?[((][\s,;:,;、·-]*[))]")
_TABLE_REMAINS = re.compile(r"^(?:\{\||\|\}|\|-|[|!])")
_WORD = re.compile(r"\w")


def plain(wikitext: str, skipped: Iterable[str] = SKIPPED_NAMESPACES) -> str:
    """The paragraphs, one per line. Raises ValueError for text that cannot be parsed."""
    try:
        code = mwparserfromhell.parse(wikitext)
    except mwparserfromhell.parser.ParserError as error:
        raise ValueError(str(error)) from None
    out: list[str] = []
    _render(code, frozenset(skipped), out)
    text = _VARIANT.sub(_first_variant, _SWITCH.sub("", "".join(out)))
    lines = (" ".join(_EMPTY_BRACKETS.sub("", line).split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if _WORD.search(line) and not _TABLE_REMAINS.match(line))


def _render(code: Any, skipped: frozenset[str], out: list[str]) -> None:
    for node in code.nodes if code is not None else ():
        match node:
            case nodes.Text():
                out.append(str(node.value))
            case nodes.Wikilink():
                _link(node, skipped, out)
            case nodes.ExternalLink():
                if node.title is not None:
                    _render(node.title, skipped, out)
            case nodes.Heading():
                out.append("\n")
                _render(node.title, skipped, out)
                out.append("\n")
            case nodes.HTMLEntity():
                out.append(str(node.normalize()))
            case nodes.Tag():
                name = str(node.tag).strip().lower()
                if name in _SKIPPED_TAGS:
                    continue
                if name in _BLOCKS:
                    out.append("" if node.wiki_markup else "\n")
                _render(node.contents, skipped, out)


def _link(node: Any, skipped: frozenset[str], out: list[str]) -> None:
    target = str(node.title).strip()
    space, colon, _ = target.partition(":")
    if colon and space and (space.strip().lower() in skipped or _LANGUAGE_LINK.match(space)):
        return
    if node.text is None:
        out.append(target.lstrip(":"))
    else:
        _render(node.text, skipped, out)


def _first_variant(found: re.Match[str]) -> str:
    """-{zh-hans:A;zh-hant:B}- is A here; -{A}- is A."""
    first = found[1].partition(";")[0]
    return first.partition(":")[2] if re.match(r"\s*zh-?\w*\s*:", first) else found[1]
