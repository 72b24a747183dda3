"""Documentation markup -> prose: what a person would read aloud, one paragraph per line.

One pass over the lines understands as much of reStructuredText, Markdown, numpydoc and Google style as is needed to tell
prose from the rest. Dropped: code (fenced, literal, doctest), tables, directives and their bodies, headings, links'
targets, type lines. Kept: paragraphs, list items, admonitions, and the descriptions of parameters.

    Return the norm of `x`,                     Return the norm of x, see eig.
    see :func:`~numpy.linalg.eig`.              Input array, of any shape.

    Parameters                        ->
    ----------
    x : array_like
        Input array, of any shape.
    >>> norm([1])
"""

import re
from collections.abc import Iterator
from enum import Enum
from inspect import cleandoc

MIN_WORDS = 3  # a shorter paragraph is a heading, a name or a caption
MAX_PARAGRAPH = 1 << 16  # a longer one, in characters, is data

_ADMONITION = (
    r"note|warning|tip|hint|important|caution|attention|danger|seealso|admonition|topic|rubric"
    r"|versionadded|versionchanged|deprecated|versionremoved"
)
_DIRECTIVE = re.compile(rf"\.\. (?:({_ADMONITION})::|\S)[ ]*(.*)")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+_:.])\1{2,}$")
_TABLE = re.compile(r"\||\+[-=+]{2}|=+( +=+)+$|-+( +-+)+$")
_ITEM = re.compile(r"(?:[-*+•] +|\(?\d{1,3}[.)] +|\(?[a-z]\) +|#\. +)(?=\S)")
_FIELD = re.compile(r":(\w+)(?: +[^:`]*)?:(?!`) *(.*)")
_NUMPYDOC = re.compile(r"\*{0,2}\w+(?:, ?\*{0,2}\w+)* : .{0,120}$")
_SECTION = re.compile(r"[A-Z][A-Za-z ]{2,24}:$")
_GOOGLE = re.compile(r"\*{0,2}`{0,2}[\w.]+`{0,2} ?\([^()]*(?:\([^()]*\)[^()]*)*\): ?")
_NAMED = re.compile(r"(?!Default|Note|Ex)\*{0,2}`{0,2}[\w.]+`{0,2} ?: +(?=\S)")
_VERSION = re.compile(r"^[\d.]+$")
_FENCE = re.compile(r"(```|~~~)")
_TYPES_ONLY = frozenset({"type", "rtype", "vartype", "orphan"})

_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)|\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)"), ""),  # images, badges
    (re.compile(r"<!--.*?-->"), ""),
    (re.compile(r":(?:[\w+.-]+:){1,2}`([^`<]*?)\s*<[^`>]*>`"), r"\1"),  # :role:`text <target>`
    (re.compile(r":(?:[\w+.-]+:){1,2}`[~!.]*([^`]*)`"), r"\1"),  # :role:`target`
    (re.compile(r"`+([^`<]*?)\s*<[^`>]*>`+_{0,2}"), r"\1"),  # `text <url>`_
    (re.compile(r"`+([^`]+)`+_{0,2}"), r"\1"),  # ``code``, `text`
    (re.compile(r"\[([^\]\[]+)\]\((?:[^()]|\([^()]*\))*\)"), r"\1"),  # [text](url)
    (re.compile(r"\[([^\]\[]+)\]\[[^\]]*\]"), r"\1"),  # [text][ref]
    (re.compile(r"</?[a-zA-Z][^<>]{0,200}>"), ""),  # HTML
    (re.compile(r"(?<!\w)(\*{1,3}|_{2,3})(?=\S)(.+?)(?<=\S)\1(?!\w)"), r"\2"),  # **bold**, *stress*
    (re.compile(r"\\([*_`\\|])"), r"\1"),
    (re.compile(r" ?\[[\w#*-]{1,12}\]_"), ""),  # [1]_
)
_MARKED = re.compile(r"[`*_\[<\\!]")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CODE = re.compile(r"[=(){}\[\]<>_/\\|$%^*#@&~;+]")


def prose(text: str) -> str:
    """Paragraphs separated by newlines; "" if nothing in `text` is prose."""
    paragraphs = (_plain(p) for p in _paragraphs(cleandoc(text).split("\n")) if len(p) <= MAX_PARAGRAPH)
    return "\n".join(p for p in paragraphs if _is_prose(p))


def _plain(paragraph: str) -> str:
    """Inline markup removed."""
    if _MARKED.search(paragraph):
        for pattern, replacement in _MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
    return paragraph.strip()


def _is_prose(paragraph: str) -> bool:
    """At least MIN_WORDS words, letters the greater part, and few of the marks that code is full of."""
    words = _WORD.findall(paragraph)
    if len(words) < MIN_WORDS:
        return False
    size = len(paragraph)
    return sum(map(len, words)) > 0.6 * size and len(_CODE.findall(paragraph)) <= 0.06 * size


# What a line is. TEXT and ITEM carry text; the others say what to leave out.
_Kind = Enum("_Kind", "TEXT ITEM HEADING FENCE BLOCK DEEPER NOTHING")


def _classify(line: str, deeper_next: bool) -> tuple[_Kind, str]:
    """(kind, text) of a stripped line that is not blank; `deeper_next`: the next line is indented more."""
    first = line[0]
    if first in "`~" and _FENCE.match(line):
        return (_Kind.NOTHING if len(line) > 6 and line.endswith(line[:3]) else _Kind.FENCE), line[:3]
    if line.startswith((">>>", "$ ")):
        return _Kind.BLOCK, ""  # a doctest or a shell session lasts until a blank line
    if first in "|+=-" and _TABLE.match(line):
        return (_Kind.BLOCK if first in "=-" else _Kind.NOTHING), ""
    if _UNDERLINE.match(line):
        return _Kind.HEADING, ""
    if (first == "#" and line.lstrip("#").startswith(" ")) or _SECTION.match(line):
        return _Kind.NOTHING, ""
    if first == "." and (found := _DIRECTIVE.match(line)):
        return (_Kind.ITEM, _VERSION.sub("", found[2])) if found[1] else (_Kind.DEEPER, "")
    if first == "@" and line[1:2].isalpha():  # @param x: text
        return _Kind.ITEM, line.partition(": ")[2]
    if first == ":" and (found := _FIELD.match(line)):
        return _Kind.ITEM, "" if found[1] in _TYPES_ONLY else found[2]
    if found := _ITEM.match(line) or _GOOGLE.match(line):
        return _Kind.ITEM, line[found.end() :]
    if deeper_next and _NUMPYDOC.match(line):
        return _Kind.ITEM, ""
    return _Kind.TEXT, line


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Join lines that belong together; leave out blocks that are not prose."""
    current: list[str] = []
    hanging = False  # `current` is an item: its continuation is indented
    margin = 0  # indent of the first line of `current`
    fence = ""  # leave out lines up to this one
    block = False  # leave out lines up to the next blank one
    deeper: int | None = None  # leave out lines that are indented more than this
    for i, raw in enumerate(lines):
        line = raw.strip()
        if line.startswith("> "):  # a Markdown quotation
            line = line.lstrip("> ").removeprefix("[!")
        indent = _indent(raw)
        if fence:
            fence = "" if line.startswith(fence) else fence
            continue
        if not line:
            block = False
            if current:
                yield " ".join(current)
            current = []
            continue
        if block or (deeper is not None and indent > deeper):
            continue
        deeper = None
        kind, text = _classify(line, i + 1 < len(lines) and _indent(lines[i + 1]) > indent)
        if kind is _Kind.TEXT and indent and (found := _NAMED.match(line)):  # Google style without a type
            kind, text = _Kind.ITEM, line[found.end() :]
        if kind is _Kind.TEXT and current and (indent == margin or (hanging and indent > margin)):
            current.append(text)
        elif kind is _Kind.HEADING:
            current = []  # the line above it was the heading
        else:
            if current:
                yield " ".join(current)
            current = [text] if text and kind in (_Kind.TEXT, _Kind.ITEM) else []
            margin, hanging = indent, kind is _Kind.ITEM
            fence = text if kind is _Kind.FENCE else ""
            block = kind is _Kind.BLOCK
            deeper = indent if kind is _Kind.DEEPER else None
        if text.endswith("::"):  # what follows, indented, is literal
            current[-1] = current[-1][:-1]
            deeper = indent
    if current:
        yield " ".join(current)


def _indent(line: str) -> int:
    """Width of the leading blanks; a blank line is not indented at all."""
    return len(line) - len(line.lstrip()) if line.strip() else -1
