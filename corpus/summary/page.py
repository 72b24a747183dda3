"""report.html: what a corpus holds, on one page that needs nothing else: no script, no font, no picture from outside.

Texts of documents are hostile: they enter only through corpus.summary.markup, which escapes them, and a content security
policy in the page forbids whatever might get through. Equal summaries give equal bytes.
"""

from dataclasses import dataclass
from typing import Any

from corpus.summary import sections
from corpus.summary.markup import Markup, counted, el, join, share, short, size
from corpus.summary.style import STYLE
from corpus.summary.summarize import SUMMARY
from infra.artifacts import Artifact, Counts
from infra.output import Output

PAGE = "report.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """`title` is the page's heading."""

    title: str = "Corpus report"

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError("title is empty; give the page a heading, such as 'Corpus report'")


def report_page(config: PageConfig, *, summary: Artifact, out: Output) -> Counts:
    """Write report.html. Counts: bytes."""
    data = page(config.title, summary.read_json(SUMMARY)).encode()
    out.write(PAGE, data)
    return {"bytes": len(data)}


def page(title: str, summary: dict[str, Any]) -> str:
    """The whole page of a summary.json."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    body = el("body", _header(title, summary), *(s(summary) for s in sections.ALL), _footer(summary))
    return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"


def _header(title: str, summary: dict[str, Any]) -> Markup:
    totals, generation = summary["totals"], summary["generation"]
    read, kept = summary["funnel"]["read"], totals["documents"]
    number, files = generation["generation"], counted(generation["files"], "file")
    gone = f" Retired, as their files are gone: {counted(generation['retired'], 'document')}, dropped ones included."
    retired = gone if generation["retired"] else ""
    cards = [
        (short(kept), "documents"),
        (size(totals["bytes"]), "of text"),
        (
            short(totals["tokens"]),
            f"tokens, {share(totals['training_tokens'], totals['tokens'])} to train on",
        ),
        (short(totals["sentences"]), "sentences"),
        (str(len(summary["languages"])), "languages"),
        (str(len(summary["sources"])), "sources"),
        (share(read - kept, read), "of what was read was dropped"),
    ]
    return el(
        "header",
        el("h1", title),
        el("p", f"Generation {number}, from {files}.{retired}", class_="dim"),
        el("div", *(el("div", el("b", value), el("span", what)) for value, what in cards), class_="cards"),
    )


def _footer(summary: dict[str, Any]) -> Markup:
    commands = (
        "cloze corpus sample",
        "cloze corpus search WORDS",
        "cloze corpus diff",
        "cloze corpus where ID",
    )
    listed = [part for c in commands for part in (el("code", c), " · ")][:-1]
    return el(
        "footer",
        el("p", "To look further: ", join(*listed)),
        el("p", "Vocabulary ", el("code", summary["vocabulary"]["artifact"])),
    )
