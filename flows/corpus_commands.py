"""`cloze corpus sample|search|stats|diff|where`: look into a corpus from the command line.

Only the standard library is imported until a command runs. Whatever comes from a document or a file name is stripped of
control characters before it reaches the terminal; with --json nothing is cut and nothing is coloured.
"""

import argparse
import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from flows.corpus_choice import corpus_of, generation_of, id_of_row, named_generation, summary_of
from flows.corpus_terminal import (
    SHOWN_CHARACTERS,
    excerpt,
    line,
    more,
    print_json,
    show,
    show_pair,
    table,
    terminal,
)

if TYPE_CHECKING:
    from corpus.summary.texts import Corpus, Wanted

Record = dict[str, Any]


def add_corpus_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `corpus` with its sub-commands to a command line."""
    help = "look into a corpus: sample, search, stats, diff, where"
    top = commands.add_parser("corpus", help=help, description=help)
    parts = top.add_subparsers(dest="corpus_command", metavar="COMMAND", required=True)

    def add(name: str, help: str) -> argparse.ArgumentParser:
        sub = parts.add_parser(name, help=help, description=help)
        sub.set_defaults(target=f"corpus_commands:{name}")
        sub.add_argument(
            "--store",
            default="",
            metavar="URL",
            help="a folder or s3://bucket/prefix (default $CLOZE_STORE or .cloze/store)",
        )
        which = sub.add_mutually_exclusive_group()
        which.add_argument(
            "--recipe", metavar="NAME", help="the corpus of this recipe (default: the newest of the store)"
        )
        which.add_argument(
            "--corpus", metavar="NAME", help="a corpus by its name, as `cloze corpus stats` prints it"
        )
        sub.add_argument("--generation", type=int, metavar="N", help="as it was then (default: the newest)")
        sub.add_argument("--json", action="store_true", help="print JSON, one object a line")
        return sub

    def filters(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--source", metavar="NAME", help="only documents of this source")
        sub.add_argument(
            "--language", metavar="TAG", help="only documents in this language, such as en or zh"
        )

    sub = add("sample", "show documents drawn at random; the same seed draws the same ones")
    sub.add_argument("-n", "--count", type=int, default=3, metavar="N", help="how many (default 3)")
    sub.add_argument("--seed", type=int, default=0)
    filters(sub)
    what = sub.add_mutually_exclusive_group()
    what.add_argument(
        "--dropped",
        nargs="?",
        const="",
        metavar="RULE",
        help="documents that a rule dropped (without RULE: any rule)",
    )
    what.add_argument("--duplicates", action="store_true", help="removed near duplicates, beside what stays")
    sub = add("search", "show documents that hold a text")
    sub.add_argument("text", metavar="TEXT")
    sub.add_argument(
        "--regex",
        action="store_true",
        help=r"TEXT is a regular expression (RE2; \pL is any letter, \w only ASCII)",
    )
    sub.add_argument("-i", "--ignore-case", action="store_true")
    sub.add_argument(
        "--count", action="store_true", help="only say how many documents hold it, and how often"
    )
    sub.add_argument(
        "--limit", type=int, default=10, metavar="N", help="show at most so many documents (default 10)"
    )
    filters(sub)
    add("stats", "print the corpus report's tables")
    sub = add("diff", "what differs between two generations, or two corpora")
    for name, default in (("old", "the generation before"), ("new", "the newest")):
        sub.add_argument(
            name,
            nargs="?",
            metavar=name.upper(),
            help=f"a generation N, a corpus NAME, or NAME@N (default: {default})",
        )
    sub = add("where", "from a document, or a row of a token shard, back to its line")
    sub.add_argument(
        "id", metavar="ID|SHARD:ROW", help="an id (its first digits are enough), or shard/DIGEST[/FILE]:ROW"
    )


def sample(args: Namespace) -> int:
    """Documents drawn by a seed."""
    from corpus.summary import sampling

    _at_least_one("--count", args.count)
    corpus, wanted = corpus_of(args), _wanted(args)
    if args.duplicates:
        if args.language:
            raise ValueError("--language does not go with --duplicates; use --source, or leave it out")
        found = sampling.sample_duplicates(corpus, wanted, args.count, args.seed)
    elif args.dropped is not None:
        found = sampling.sample_dropped(corpus, wanted, args.dropped, args.count, args.seed)
    else:
        found = sampling.sample(corpus, wanted, args.count, args.seed)
    if not found:
        raise ValueError(_nothing(corpus, wanted))
    if args.json:
        return print_json(found)
    console = terminal()
    for record in found:
        if args.duplicates:
            show_pair(console, record)
        else:
            show(console, record, line(record["text"][:SHOWN_CHARACTERS] + more(record["text"])))
    return 0


def search(args: Namespace) -> int:
    """Documents that hold a text, with the first place where they do."""
    from itertools import islice

    from corpus.summary.searching import Pattern, count
    from corpus.summary.searching import search as find

    _at_least_one("--limit", args.limit)
    corpus, wanted = corpus_of(args), _wanted(args)
    pattern = Pattern(text=args.text, regex=args.regex, ignore_case=args.ignore_case)
    if args.count:
        documents, times = count(corpus, wanted, pattern)
        print(
            json.dumps({"documents": documents, "times": times})
            if args.json
            else f"{documents:,} documents, {times:,} times"
        )
        return 0 if documents else 1
    console, shown = terminal(), 0
    for record, times in islice(find(corpus, wanted, pattern), args.limit):
        shown += 1
        if args.json:
            print_json([record | {"times": times}])
            continue
        begin, end = pattern.first(record["text"])
        show(console, record, excerpt(record["text"], begin, end, times))
    if not shown and not args.json:
        print(f"no document holds {args.text!r}", file=sys.stderr)
    return 0 if shown else 1


def stats(args: Namespace) -> int:
    """The tables of summary.json."""
    from corpus.summary.measure import FIGURES
    from corpus.summary.sections import STATIONS

    generation, name = generation_of(args)
    found = summary_of(generation)
    if found is None:
        raise ValueError(
            f"{name} has no report of generation {generation.counts['generation']}; run `cloze refresh` with its recipe to make one"
        )
    if args.json:
        return print_json([found])
    console, totals = terminal(), found["totals"]
    console.print(
        line(
            f"{name}, generation {found['generation']['generation']}, {found['generation']['files']:,} files"
        )
    )
    console.print(line(", ".join(f"{k.replace('_', ' ')} {totals[k]:,}" for k in FIGURES)))
    console.print(
        table("station", ["documents"], [[name, found["funnel"][k]] for k, name in STATIONS.items()])
    )
    for what in ("source", "language"):
        columns = ["documents", "bytes", "tokens", "fertility", "unknown_rate"]
        rows = [[r["name"], *(r[c] for c in columns)] for r in found[f"{what}s"]]
        console.print(table(what, columns, rows))
    rules = sorted(((r["count"], n) for n, r in found["dropped"].items()), reverse=True)
    near = found["duplicates"]
    rows = [[n, c] for c, n in rules] + [[n, c] for n in ("near_duplicate", "contained") if (c := near[n])]
    console.print(table("dropped by", ["documents"], rows + list(map(list, found["repeated"].items()))))
    return 0


def diff(args: Namespace) -> int:
    """Documents, sources, languages and files that differ."""
    from corpus.summary.comparing import compare
    from corpus.summary.texts import Corpus

    new = named_generation(args, args.new) if args.new else generation_of(args)[0]
    old = named_generation(args, args.old) if args.old else new.inputs.get("previous")
    if old is None:
        raise ValueError(
            "generation 1 has none before it; name two to compare, such as `cloze corpus diff 1 2`"
        )
    found = compare(Corpus.of(old), Corpus.of(new))
    report = summary_of(new)
    found["drift"] = report and report["changes"]["drift"]
    if args.json:
        return print_json([found])
    console, files, documents = terminal(), found["files"], found["documents"]
    console.print(
        line(
            f"generation {old.counts['generation']} -> {new.counts['generation']}: {documents['added']:,} documents added, "
            f"{documents['gone']:,} gone ({documents['retired']:,} retired)"
        )
    )
    columns = ["added", "added_bytes", "gone", "gone_bytes"]
    for what in ("source", "language"):
        console.print(
            table(what, columns, [[n, *(r[c] for c in columns)] for n, r in found[f"{what}s"].items()])
        )
    console.print(
        line(
            f"files: {files['before']:,} -> {files['now']:,}, {files['added']:,} added, {files['vanished']:,} vanished"
        )
    )
    for sign, key in (("+", "added"), ("-", "vanished")):
        for source, name in files[f"{key}_names"]:
            console.print(line(f"  {sign} {source}: {name}"))
        if (more := files[key] - len(files[f"{key}_names"])) > 0:
            console.print(line(f"  {sign} and {more:,} more"))
    if found["drift"]:
        console.print(line(_drift(found["drift"])))
    return 0


def where(args: Namespace) -> int:
    """Source, file and position of one document, and its text."""
    from corpus.summary import origins

    corpus = corpus_of(args)
    digits = args.id if ":" not in args.id else id_of_row(corpus.generation.store, args.id)
    found = origins.find(corpus, digits)
    if not found:
        raise ValueError(
            f"no document of this corpus has an id that begins with {digits}; `cloze corpus sample` shows some"
        )
    if len(found) > 1:
        some = ", ".join(id.hex() for *_, id in found[:4])
        raise ValueError(
            f"{len(found)} documents have ids that begin with {digits} ({some}); give more digits"
        )
    record = origins.origin(corpus, *found[0])
    if args.json:
        return print_json([record])
    console = terminal()
    show(console, record, line(record["text"]))
    if record["path"]:
        console.print(line(f"file      {record['path']}"))
    console.print(line(f"fate      {record['fate']}"))
    for copy in record["copies"]:
        console.print(line(f"also in   {copy['source']}: {copy['file']}:{copy['position']}"))
    return 0


def _wanted(args: Namespace) -> "Wanted":
    from corpus.summary.texts import Wanted

    return Wanted(source=args.source, language=args.language)


def _nothing(corpus: "Corpus", wanted: "Wanted") -> str:
    sources = corpus.sources
    if wanted.source is not None and wanted.source not in sources:
        return f"the corpus has no source {wanted.source!r}; it has {', '.join(sources)}"
    return "no document fits; loosen --source or --language (`cloze corpus stats` lists what there is)"


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{option} is {value}; ask for at least 1")


def _drift(drift: Record) -> str:
    now, before = drift["overall"], drift["training"] or {}
    parts = [
        f"{name.replace('_', ' ')} {before[name]:.4f} -> {now[name]:.4f}"
        if before.get(name) is not None
        else f"{name} {now[name]}"
        for name in ("fertility", "unknown_rate")
    ]
    return "vocabulary on the newest text: " + ", ".join(parts)
