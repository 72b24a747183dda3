"""The sections of the report, each a function of summary.json."""

from collections.abc import Callable
from typing import Any

from corpus.summary.differences import marked
from corpus.summary.markup import Markup, counted, el, join, percent, ratio, share, short, size, table
from corpus.summary.pictures import columns, curve

SHOWN_ROWS = 15  # of a table; the rest can be unfolded
STATIONS = {
    "read": "read from files",
    "unique": "unique texts",
    "selected": "passed the rules",
    "near_unique": "no near duplicate",
    "training": "to train on",
    "held_out": "held out, to measure on",
}
LENGTHS = {"bytes": "Bytes a document", "tokens": "Tokens a document", "sentences": "Sentences a document"}

Summary = dict[str, Any]


def funnel(summary: Summary) -> Markup:
    """How much each station let through."""
    counts = summary["funnel"]
    read = counts["read"]
    rows = [
        [name, _track(counts[key], 0, read), f"{counts[key]:,}", share(counts[key], read)]
        for key, name in STATIONS.items()
    ]
    repeated = summary["repeated"]
    copies = repeated["exact_duplicate"] + repeated["in_history"]
    said = (
        f"{counted(counts['files'], 'file')} read over all generations. {counted(copies, 'text')} repeated another one, "
        f"{repeated['in_history']:,} of them one of an earlier generation."
    )
    notes = [[el("code", name), f"{count:,}"] for name, count in sorted(summary["reading"].items()) if count]
    return _section(
        "From files to training",
        el("p", said),
        el("div", table(["", "", "documents", "share"], rows, 2), class_="panel"),
        _folded("What reading repaired, masked or left out", table(["reason", "count"], notes, 1))
        if notes
        else "",
    )


def changes(summary: Summary) -> Markup:
    """What the newest generation brought."""
    found = summary["changes"]
    number = summary["generation"]["generation"]
    if not found["previous"]:
        return join()
    said = [
        f"{counted(found['files_read'], 'new or changed file')} read, {counted(found['documents'], 'new document')}",
        f"{counted(found['in_history'], 'text')} known already",
        f"{counted(found['files_vanished'], 'file')} vanished",
        f"{counted(found['retired'] - found['retired_before'], 'document')} retired",
    ]
    lists = [
        _folded(
            f"{what} ({found[count]:,})",
            table(["source", "file"], [[_safe(s), _safe(f)] for s, f in found[key]]),
        )
        for what, key, count in (
            ("Files read", "read", "files_read"),
            ("Files vanished", "vanished", "files_vanished"),
        )
        if found[key]
    ]
    return _section(
        f"What generation {number} changed", el("p", "; ".join(said) + "."), *_drift(found["drift"]), *lists
    )


def _drift(drift: Summary | None) -> list[Markup]:
    if drift is None:
        return []
    now, before = drift["overall"], drift["training"]
    then = "" if before is None else f" ({ratio(before['fertility'])} where it was learned)"
    unknown = "" if before is None else f" ({percent(before['unknown_rate'])})"
    said = (
        f"The vocabulary splits a word of the new text into {ratio(now['fertility'])} tokens{then}; "
        f"{percent(now['unknown_rate'])} of the tokens are unknown{unknown}."
    )
    words = [el("bdi", w["word"], " ", el("small", f"{w['count']:,}")) for w in drift["new_words"]]
    shown = (
        [_folded("Frequent words the vocabulary has never met", el("p", *words, class_="words"))]
        if words
        else []
    )
    return [el("p", said), *shown]


def sources(summary: Summary) -> Markup:
    return _section(
        "Sources", _key(summary), _sizes("source", summary["sources"], summary["totals"]["bytes"])
    )


def languages(summary: Summary) -> Markup:
    said = el(
        "p", "As sources declare them, otherwise as identified; ", el("code", "und"), " where nobody is sure."
    )
    return _section(
        "Languages", said, _key(summary), _sizes("language", summary["languages"], summary["totals"]["bytes"])
    )


def _key(summary: Summary) -> Markup:
    if not summary["changes"]["previous"]:
        return join()
    number = summary["generation"]["generation"]
    return el(
        "p", el("i", class_="key"), "earlier", el("i", class_="key new"), f"generation {number}", class_="dim"
    )


def _sizes(what: str, rows: list[Summary], whole: int) -> Markup:
    most = max([r["bytes"] for r in rows], default=0)
    shown = [
        [
            _safe(r["name"]),
            _track(r["bytes"] - (new := _new(r, rows)), new, most),
            size(r["bytes"]),
            share(r["bytes"], whole),
            f"{r['documents']:,}",
            short(r["tokens"]),
        ]
        for r in rows
    ]
    return _panel([what, "", "text", "share", "documents", "tokens"], shown, 4)


def _new(row: Summary, rows: list[Summary]) -> int:
    """The newest generation's bytes; none if that generation is all there is."""
    everything = all(r["new"]["documents"] == r["documents"] for r in rows)
    return 0 if everything else int(row["new"]["bytes"])


def lengths(summary: Summary) -> Markup:
    """Histograms whose columns double in width."""
    pictures = []
    for key, title in LENGTHS.items():
        bins = summary["lengths"][key]
        used = [n for n, count in enumerate(bins) if count] or [0]
        span = range(used[0], used[-1] + 1)
        names = [short(_from(n)) for n in span]
        tips = [f"{_from(n):,} to {max(0, 2**n - 1):,}: {bins[n]:,} documents" for n in span]
        picture = columns([bins[n] for n in span], names, title, tips)
        pictures.append(el("div", el("h3", title), picture, class_="panel"))
    return _section(
        "Lengths",
        el("p", "Each column reaches to twice where it begins."),
        el("div", *pictures, class_="pictures"),
    )


def _from(bin: int) -> int:
    return 0 if not bin else 1 << (bin - 1)


def dropped(summary: Summary) -> Markup:
    """Rules by how much they drop, each with samples to judge it by."""
    rules = sorted(summary["dropped"].items(), key=lambda item: (-item[1]["count"], item[0]))
    if not rules:
        return _section("Dropped by rules", el("p", "No document was dropped by a rule."))
    total, unique = sum(rule["count"] for _, rule in rules), summary["funnel"]["unique"]
    said = f"{total:,} of {unique:,} unique documents ({share(total, unique)}), each counted under the first rule that it breaks."
    folded = [
        _folded(
            join(el("code", name), el("span", f"{rule['count']:,}", class_="n")),
            *(_sample(s) for s in rule["samples"]),
        )
        for name, rule in rules
    ]
    return _section("Dropped by rules", el("p", said), *folded)


def _sample(sample: Summary) -> Markup:
    why = f"measured {_number(sample['value'])}, limit {_number(sample['limit'])}"
    also = f"; also {', '.join(sample['also'])}" if sample["also"] else ""
    detail = f"; shares “{sample['detail']}”" if sample["detail"] else ""
    return el(
        "div",
        _origin(sample),
        el("small", f"{why}{also}{detail}"),
        el("div", sample["text"] + (" …" if sample["cut"] else ""), class_="text", dir="auto"),
        class_="sample",
    )


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:,.0f}" if value.is_integer() else f"{value:.3f}"


def duplicates(summary: Summary) -> Markup:
    """How similar removed documents were to what stays, and pairs side by side."""
    found = summary["duplicates"]
    removed = found["near_duplicate"] + found["contained"]
    if not removed:
        return _section("Near duplicates", el("p", "No document was removed as a near duplicate."))
    bins = found["similarity"]
    first = next(n for n, count in enumerate(bins) if count)
    names = [f"{n / len(bins):.2f}" for n in range(first, len(bins))]
    tips = [
        f"{n / len(bins):.2f} to {(n + 1) / len(bins):.2f}: {bins[n]:,} documents"
        for n in range(first, len(bins))
    ]
    picture = columns(bins[first:], names, "Similarity of removed documents to the one that stays", tips)
    said = (
        f"{removed:,} documents were removed as near duplicates of one that stays"
        + (f", {found['contained']:,} of them because they are contained in it" if found["contained"] else "")
        + ". Below, the least similar pairs, where a limit would err first, and some others."
    )
    panel = el("div", el("h3", "Jaccard similarity of shingles"), picture, class_="panel")
    return _section(
        "Near duplicates",
        el("p", said),
        el("div", panel, class_="pictures"),
        *(_pair(p, n == 0) for n, p in enumerate(found["pairs"])),
    )


def _pair(pair: Summary, unfolded: bool) -> Markup:
    open_end = bool(pair["removed"]["after"] or pair["kept"]["after"])
    left, right = marked(pair["removed"]["text"], pair["kept"]["text"], open_end=open_end)
    sides = []
    for side, pieces, mark, title in (("removed", left, "del", "Removed"), ("kept", right, "ins", "Kept")):
        one = pair[side]
        before = f"… ({one['before']:,} characters) " if one["before"] else ""
        after = f" … ({one['after']:,} more)" if one["after"] else ""
        texts = [el(mark, text) if differs else text for text, differs in pieces]
        text = el("div", el("small", before), *texts, el("small", after), class_="text", dir="auto")
        sides.append(el("div", el("h3", title), _origin(one), text))
    earlier = (
        f", against {'the generation before' if pair['kept_generation'] == 1 else 'an earlier generation'}"
    )
    title = f"Jaccard {pair['jaccard']:.3f}, containment {pair['containment']:.3f}" + (
        earlier if pair["kept_generation"] else ""
    )
    return _folded(
        join(title, ": ", _safe(pair["removed"]["title"] or pair["removed"]["file"])),
        el("div", *sides, class_="sides"),
        open="open" if unfolded else None,
    )


def words(summary: Summary) -> Markup:
    """The words the vocabulary learned from, and how well it fits each language."""
    parts: list[Markup] = []
    found = summary["zipf"]
    if found:
        said = (
            f"The vocabulary of {summary['vocabulary']['size']:,} entries was learned from {short(found['words'])} words, "
            f"{found['distinct']:,} of them different; {share(found['once'], found['distinct'], 0)} of those occur once. "
            "The dashed line is Zipf's: frequency falls as one over rank."
        )
        frequent = [el("bdi", word, " ", el("small", short(count))) for word, count in found["top"]]
        picture = curve([(x, y) for x, y in found["points"]], "Word frequency by rank", "rank", "frequency")
        parts.append(el("p", said))
        zipf = el("div", el("h3", "Frequency by rank"), picture, class_="panel")
        parts.append(
            el(
                "div",
                zipf,
                el("div", el("h3", "Most frequent"), el("p", *frequent, class_="words"), class_="panel"),
                class_="pictures",
            )
        )
    rows = [
        [
            _safe(r["name"]),
            short(r["words"]),
            ratio(r["fertility"]),
            ratio(r["new"]["fertility"]),
            percent(r["unknown_rate"]),
            percent(r["new"]["unknown_rate"]),
        ]
        for r in summary["languages"]
    ]
    head = ["language", "words", "tokens a word", "newest", "unknown tokens", "newest"]
    return _section(
        "Words and tokens",
        *parts,
        el("h3", "How the vocabulary fits", style="margin-top:1.2rem"),
        _panel(head, rows, 5),
    )


ALL: tuple[Callable[[Summary], Markup], ...] = (
    funnel,
    changes,
    sources,
    languages,
    lengths,
    dropped,
    duplicates,
    words,
)


def _section(title: str, *children: "str | Markup") -> Markup:
    return el("section", el("h2", title), *children)


def _folded(title: "str | Markup", *children: Markup, open: str | None = None) -> Markup:
    return el("details", el("summary", title), *children, open=open)


def _panel(head: list[str], rows: list[list[str | Markup]], numbers: int) -> Markup:
    """A table in a box; what goes beyond SHOWN_ROWS can be unfolded."""
    shown = el("div", table(head, rows[:SHOWN_ROWS], numbers), class_="panel")
    rest = rows[SHOWN_ROWS:]
    return join(shown, _folded(f"{len(rest):,} more", table(head, rest, numbers))) if rest else shown


def _track(part: int, new: int, whole: int) -> Markup:
    """A bar: what was there, and what is new, of the whole."""
    widths = [(100 * n / whole if whole else 0, name) for n, name in ((part, None), (new, "new"))]
    return el(
        "div", *(el("i", style=f"width:{w:.2f}%", class_=name) for w, name in widths if w), class_="track"
    )


def _origin(sample: Summary) -> Markup:
    where = f"{sample['source']}: {sample['file']}:{sample['position']}"
    return el(
        "div",
        el("b", el("bdi", sample["title"])),
        " ",
        el("small", el("bdi", where), " ", el("code", sample["id"])),
    )


def _safe(text: str) -> Markup:
    """A name from outside: it may be written from right to left, but nothing around it is."""
    return el("bdi", text)
