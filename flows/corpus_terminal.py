"""Documents in a terminal: folded at its width, without the control characters that a hostile text may hold.

Colours are for people: where output is no terminal, or NO_COLOR is set, there are none.
"""

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text as Line

SHOWN_CHARACTERS = 1200
CONTEXT_CHARACTERS = 160
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

Record = dict[str, Any]


def terminal() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def line(text: str, style: str = "") -> "Line":
    """Text for the terminal: no control characters, folded at its width."""
    from rich.text import Text

    return Text(CONTROLS.sub("\ufffd", text), style=style, overflow="fold")


def show(console: "Console", record: Record, body: "Line") -> None:
    title = record["title"] or record["file"]
    console.print(
        line(title, "bold"),
        line(f"{record['id']}  {record['language']}  generation {record['generation']}", "dim"),
        sep="\n",
    )
    console.print(line(f"{record['source']}: {record['file']}:{record['position']}", "cyan"))
    if "rule" in record:
        also = f"; also {', '.join(record['also'])}" if record["also"] else ""
        console.print(
            line(f"{record['rule']}: {record['value']:g}, the limit is {record['limit']:g}{also}", "yellow")
        )
    console.print(body, end="\n\n")


def show_pair(console: "Console", pair: Record) -> None:
    from corpus.summary.sampling import pieces

    console.print(
        line(
            f"{pair['rule']}  Jaccard {pair['jaccard']:.3f}  containment {pair['containment']:.3f}", "yellow"
        )
    )
    for side, style, texts in zip(
        ("removed", "kept"), ("black on red", "black on green"), pieces(pair), strict=True
    ):
        console.print(line(f"{side}  {pair[f'{side}_id']}  {pair[f'{side}_title']}", "bold"))
        console.print(
            line(f"{pair[f'{side}_source']}: {pair[f'{side}_file']}:{pair[f'{side}_position']}", "cyan")
        )
        body = line("")
        for text, differs in texts:
            body.append(CONTROLS.sub("\ufffd", text), style if differs else "")
        console.print(body, end="\n\n")


def more(text: str) -> str:
    return f" … ({len(text) - SHOWN_CHARACTERS:,} more characters)" if len(text) > SHOWN_CHARACTERS else ""


def excerpt(text: str, begin: int, end: int, times: int) -> "Line":
    """The first match, marked, with what stands around it."""
    before, after = text[max(0, begin - CONTEXT_CHARACTERS) : begin], text[end : end + CONTEXT_CHARACTERS]
    body = line(("…" if begin > CONTEXT_CHARACTERS else "") + before)
    body.append_text(line(text[begin:end], "bold reverse"))
    body.append_text(line(after + ("…" if end + CONTEXT_CHARACTERS < len(text) else "")))
    return body.append_text(line(f"  ({times:,} times)" if times > 1 else "", "dim"))


def table(first: str, columns: list[str], rows: Iterable[list[Any]]) -> Any:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, title=None)
    shown.add_column(first, overflow="fold")
    for name in columns:
        shown.add_column(name.replace("_", " "), justify="right")
    for name, *values in rows:
        shown.add_row(
            line(str(name)),
            *("–" if v is None else f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in values),
        )
    return shown


def print_json(records: Iterable[Record]) -> int:
    for record in records:
        print(json.dumps(record, ensure_ascii=False))
    return 0
