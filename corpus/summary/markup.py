"""HTML from Python calls: whatever is not markup already is escaped, so no text of a document can become markup.

el("p", "1 < 2 ", el("b", "yes"), class_="note")   ->   <p class="note">1 &lt; 2 <b>yes</b></p>
"""

import re
from html import escape

_VOID = {"meta", "br", "rect", "line", "path", "circle"}
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")  # a parser would drop or misread them


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(name: str, /, *children: "str | Markup", **attributes: str | float | None) -> Markup:
    """One element. Of attributes a trailing `_` is dropped, other `_` become `-`; None leaves the attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{given}>" if name in ("meta", "br") else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: "str | Markup") -> Markup:
    """Children one after the other, escaped where they are not markup."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def text(value: str) -> Markup:
    """Escaped text; a control character becomes its visible picture."""
    return Markup(escape(_CONTROLS.sub(_picture, value)))


def _picture(match: "re.Match[str]") -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def table(head: list[str], rows: list[list[str | Markup]], numbers: int = 0) -> Markup:
    """A table whose last `numbers` columns are numbers; it scrolls sideways on a narrow screen."""
    first_number = len(head) - numbers

    def cells(name: str, row: "list[str] | list[str | Markup]") -> Markup:
        return join(*(el(name, c, class_="n" if i >= first_number else None) for i, c in enumerate(row)))

    body = el("tbody", *(el("tr", cells("td", row)) for row in rows))
    return el("div", el("table", el("thead", el("tr", cells("th", head))), body), class_="scroll")


def short(value: float) -> str:
    """1234567 -> 1.23M; 12345 -> 12.3k; 999 -> 999."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def size(value: int) -> str:
    """Bytes: 1234567 -> 1.23 MB."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g}\u00a0{unit}"
    return f"{value}\u00a0B"


def counted(number: int, what: str) -> str:
    """1 file; 2 files."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def share(part: float, whole: float, digits: int = 1) -> str:
    """12.3 %, or a dash where there is no whole."""
    return f"{100 * part / whole:.{digits}f}\u00a0%" if whole else "–"


def ratio(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}\u00a0%"
