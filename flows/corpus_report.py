"""The end of a refresh: what the corpus holds now, as a self-contained page and on the run's page in the Prefect UI.

documents, attributes, kept, shards of each generation  -> measure_generation (once each)
all of them, the vocabulary, its drift                  -> summarize            summary.json
summary                                                 -> report_page          report.html
"""

import io
from typing import TYPE_CHECKING, Any

from corpus.summary import measure, page
from corpus.summary import summarize as summary_of
from corpus.summary.sections import STATIONS
from flows.report import console, image, in_prefect, markdown, table
from flows.step import step
from infra.artifacts import Artifact

if TYPE_CHECKING:
    from flows.refresh_corpus import Corpus

measure_generation = step(measure.measure_generation)
summarize = step(summary_of.summarize)
report_page = step(page.report_page)


def corpus_report(
    corpus: "Corpus",
    drift: Artifact | None = None,
    config: measure.SummaryConfig | None = None,
    title: str = "Corpus report",
) -> Artifact:
    """Make the report of a refreshed corpus and show it; returns the artifact that holds report.html.

    `drift` is the `measure_drift` of the newest generation, if there is more than one. Plans only, in a dry run.
    """
    config = config or measure.SummaryConfig()
    each = zip(corpus.documents, corpus.attributes, corpus.kept, corpus.shards, corpus.held_out, strict=True)
    measured = tuple(
        measure_generation(config, documents=d, attributes=a, kept=k, shards=s, held_out=h)
        for d, a, k, s, h in each
    )
    summary = summarize(
        config, generation=corpus.generation, measured=measured, vocabulary=corpus.vocabulary, drift=drift
    )
    made = report_page(page.PageConfig(title=title), summary=summary)
    show(summary, made)
    return made


def show(summary: Artifact, made: Artifact) -> None:
    """Say where the page is; in Prefect also post tables and pictures. Nothing for a report that is only planned."""
    if not made.finished:
        return
    where = f"{made.folder.url}/{page.PAGE}"
    console(f"report  {where}")
    if not in_prefect():
        return
    found = summary.read_json(summary_of.SUMMARY)
    markdown("corpus-report", headline(found, where), "The corpus in a few numbers, and where its report is")
    for key, (rows, description) in tables(found).items():
        table(key, rows, description)
    image(
        "corpus-pictures",
        pictures(found),
        "Lengths of documents, similarity of removed ones, word frequency by rank",
    )


def headline(found: dict[str, Any], where: str) -> str:
    """A few numbers and the address of the page, as Markdown that no name can break."""
    totals, number = found["totals"], found["generation"]["generation"]
    return (
        f"Generation {number}: **{totals['documents']:,} documents**, {totals['bytes'] / 1e6:,.1f} MB of text, "
        f"{totals['tokens']:,} tokens in {len(found['languages'])} languages.\n\nThe whole report: `{where}`\n"
    )


def tables(found: dict[str, Any]) -> dict[str, tuple[list[dict[str, Any]], str]]:
    """Rows and descriptions of the tables on a run's page, by key."""
    funnel = [{"station": name, "documents": found["funnel"][key]} for key, name in STATIONS.items()]
    rules = sorted(((rule["count"], name) for name, rule in found["dropped"].items()), reverse=True)
    drops = [{"rule": name, "documents": count} for count, name in rules]
    pairs = [
        {"removed": p["removed"]["title"], "kept": p["kept"]["title"], "jaccard": round(p["jaccard"], 3)}
        for p in found["duplicates"]["pairs"]
    ]
    return {
        "corpus-stations": (funnel, "From files to training: how many documents each station let through"),
        "corpus-sources": (_sizes("source", found["sources"]), "Sources, the most text first"),
        "corpus-languages": (
            _sizes("language", found["languages"]),
            "Languages, and how the vocabulary fits them",
        ),
        "corpus-drops": (drops, "Documents that rules dropped, by the first rule that each breaks"),
        "corpus-duplicates": (pairs, "Some near duplicates: removed, and the document that stays"),
    }


def _sizes(what: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            what: r["name"],
            "documents": r["documents"],
            "new": r["new"]["documents"],
            "bytes": r["bytes"],
            "tokens": r["tokens"],
            "tokens a word": r["fertility"] and round(r["fertility"], 3),
            "unknown": r["unknown_rate"] and round(r["unknown_rate"], 5),
        }
        for r in rows
    ]


def pictures(found: dict[str, Any]) -> bytes:
    """One PNG: histograms of lengths and similarity, and word frequency by rank."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    size, tokens, similarity, zipf = figure.subplots(1, 4)
    for axis, name in ((size, "bytes"), (tokens, "tokens")):
        bins = found["lengths"][name]
        used = [n for n, count in enumerate(bins) if count] or [0]
        span = range(used[0], used[-1] + 1)
        axis.bar(span, [bins[n] for n in span], width=0.9, align="edge")
        axis.set_title(f"documents by {name} (power of 2)", fontsize=9)
    bins = found["duplicates"]["similarity"]
    similarity.bar([n / len(bins) for n in range(len(bins))], bins, width=0.9 / len(bins), align="edge")
    similarity.set_title("removed, by Jaccard similarity", fontsize=9)
    points = (found["zipf"] or {"points": []})["points"]
    if points:
        zipf.loglog([x for x, _ in points], [y for _, y in points], linewidth=1.2)
    zipf.set_title("word frequency by rank", fontsize=9)
    for axis in (size, tokens, similarity, zipf):
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
