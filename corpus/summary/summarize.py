"""The numbers behind a corpus report, from what was measured of each generation: summary.json.

totals, funnel, generations     how much there is, and how much each station let through
sources, languages              sizes, tokens per word, the share of unknown tokens; `new` is the newest generation's
lengths, dropped, reading       histograms, reasons with samples, what reading repaired or masked
duplicates, zipf                similarity and pairs; rank and frequency of the words that the vocabulary learned from
changes                         what the newest generation brought, what vanished, and how the vocabulary fits it
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.collect import generations
from corpus.ingest import SourceFile, listed_files
from corpus.summary.measure import MEASURED, SummaryConfig, add, merge, total_of
from corpus.summary.samples import merge_pairs
from corpus.vocabulary.counts import COUNTS_FILE, exact_sum, read_counts
from infra.artifacts import Artifact, Counts
from infra.output import Output

SUMMARY = "summary.json"
SHOWN_NAMES = 20  # files, words
POINTS_PER_OCTAVE = 4  # of the curve over ranks


def summarize(
    config: SummaryConfig,
    *,
    generation: Artifact,
    measured: tuple[Artifact, ...],
    vocabulary: Artifact,
    drift: Artifact | None = None,
    out: Output,
) -> Counts:
    """Write summary.json. `measured`: one `measure_generation` for each generation that brought text, oldest first.

    Counts: generation, documents, tokens, dropped, sources, languages.
    """
    every = [m.read_json(MEASURED) for m in measured]
    newest = every[-1] if _brought_text(generation) else None
    merged = merge(every, config.samples)
    summary = {
        "generation": dict(generation.counts),
        "totals": total_of(merged["groups"]),
        "funnel": _sum([m["funnel"] for m in every]),
        "generations": [
            {"generation": number} | m["funnel"] | total_of(m["groups"])
            for number, m in zip(_numbers(generation), every, strict=True)
        ],
        "sources": _by("source", merged["groups"], newest),
        "languages": _by("language", merged["groups"], newest),
        "lengths": merged["lengths"],
        "dropped": merged["dropped"],
        "reading": _sum([m["reading"] for m in every]),
        "repeated": _sum([m["repeated"] for m in every]),
        "duplicates": _duplicates([m["duplicates"] for m in every], config.pairs),
        "zipf": zipf(vocabulary),
        "vocabulary": {"artifact": vocabulary.address, "size": vocabulary.counts.get("vocab_size", 0)},
        "changes": _changes(generation, newest, drift),
    }
    out.write_json(SUMMARY, summary)
    totals: Counts = summary["totals"]
    return {
        "generation": generation.counts["generation"],
        "documents": totals["documents"],
        "tokens": totals["tokens"],
        "dropped": sum(rule["count"] for rule in merged["dropped"].values()),
        "sources": len(summary["sources"]),
        "languages": len(summary["languages"]),
    }


def _brought_text(generation: Artifact) -> bool:
    return "kept" in generation.inputs


def _numbers(generation: Artifact) -> list[int]:
    """The numbers of the generations that brought text, oldest first."""
    return [g.counts["generation"] for g in generations(generation) if _brought_text(g)]


def _sum(counts: Sequence[Counts]) -> Counts:
    total: Counts = {}
    for one in counts:
        total = add(total, one)
    return total


def _by(key: str, groups: list[dict[str, Any]], newest: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Figures by source or by language, the most bytes first; `new` are those of the newest generation."""
    names = sorted({g[key] for g in groups})
    latest = [] if newest is None else newest["groups"]
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            **(figures := total_of(g for g in groups if g[key] == name)),
            **rates(figures),
            "new": (new := total_of(g for g in latest if g[key] == name)) | rates(new),
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: (-row["bytes"], row["name"]))


def rates(figures: Counts) -> dict[str, float | None]:
    """Tokens per word, and the share of tokens that are unknown; None where there is nothing to divide by."""
    words, tokens = figures["words"], figures["tokens"]
    return {
        "fertility": tokens / words if words else None,
        "unknown_rate": figures["unknown"] / tokens if tokens else None,
    }


def _duplicates(found: Sequence[dict[str, Any]], pairs: int) -> dict[str, Any]:
    return {
        "near_duplicate": sum(d["near_duplicate"] for d in found),
        "contained": sum(d["contained"] for d in found),
        "similarity": np.sum([d["similarity"] for d in found], axis=0, dtype=np.int64).tolist(),
        "pairs": merge_pairs([d["pairs"] for d in found], pairs),
    }


def zipf(vocabulary: Artifact) -> dict[str, Any] | None:
    """Word frequency by rank, at log-spaced ranks, and the most frequent words. Memory: the counts of the vocabulary's
    training. None for a vocabulary that is not learned from counts."""
    if COUNTS_FILE not in vocabulary.names():
        return None
    words = read_counts(vocabulary.path(COUNTS_FILE))
    counts = words.column("count").to_numpy().astype(np.uint64)
    order = np.argsort(~counts, kind="stable")  # equal counts stay in the order of their words
    ranks = log_spaced(len(counts))
    top = words.take(order[:SHOWN_NAMES])
    return {
        "words": exact_sum(words.column("count")),
        "distinct": len(counts),
        "once": int((counts == 1).sum()),
        "points": [[int(rank), int(counts[order[rank - 1]])] for rank in ranks.tolist()],
        "top": [[row["word"], row["count"]] for row in top.to_pylist()],
    }


def log_spaced(count: int) -> npt.NDArray[np.int64]:
    """Ranks 1 ... count, POINTS_PER_OCTAVE to each doubling, both ends included."""
    if not count:
        return np.zeros(0, np.int64)
    steps = np.arange(POINTS_PER_OCTAVE * count.bit_length() + 1)
    ranks = np.unique(np.rint(2.0 ** (steps / POINTS_PER_OCTAVE)).astype(np.int64))
    return np.append(ranks[ranks < count], count)


def _changes(generation: Artifact, newest: dict[str, Any] | None, drift: Artifact | None) -> dict[str, Any]:
    """What the newest generation did. `previous` is 0 for the first one."""
    vanished = [SourceFile.of_line(line) for line in generation.read("vanished.jsonl").decode().splitlines()]
    read = listed_files(generation.inputs["read"]) if newest is not None else []
    before = generation.inputs.get("previous")
    return {
        "previous": 0 if before is None else before.counts["generation"],
        "files_read": len(read),
        "read": [[f.source, f.name] for f in read[:SHOWN_NAMES]],
        "files_vanished": len(vanished),
        "vanished": [[f.source, f.name] for f in vanished[:SHOWN_NAMES]],
        "retired": generation.counts["retired"],
        "retired_before": 0 if before is None else before.counts["retired"],
        "documents": 0 if newest is None else newest["funnel"]["near_unique"],
        "in_history": 0 if newest is None else newest["repeated"]["in_history"],
        "drift": None if drift is None else _drift(drift),
    }


def _drift(drift: Artifact) -> dict[str, Any]:
    """The part of drift.json that a person reads."""
    found = json.loads(drift.read("drift.json"))
    shown = {name: found[name][:SHOWN_NAMES] for name in ("split_words", "new_words")}
    return {"overall": found["overall"], "training": found.get("training"), **shown}
