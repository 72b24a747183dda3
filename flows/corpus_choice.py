"""Which corpus, which generation, which document a command line means; every mistake is one sentence."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus.summary.texts import Corpus
    from infra.artifacts import Artifact
    from infra.storage import Folder


def corpus_of(args: Namespace) -> "Corpus":
    from corpus.summary.texts import Corpus

    return Corpus.of(generation_of(args)[0])


def generation_of(args: Namespace) -> "tuple[Artifact, str]":
    """The generation that the options name, and the name of its corpus."""
    store = _store(args)
    names = _corpora(store)
    if args.recipe:
        from flows.commands import load
        from flows.refresh_corpus import corpus_name

        name = corpus_name(load(args.recipe, []).corpus)
        if name not in names:
            raise ValueError(
                f"recipe {args.recipe!r} has no corpus in {store.url} yet; run `cloze refresh {args.recipe}`"
            )
    elif args.corpus:
        name = _one_of(names, args.corpus, store)
    else:
        if not names:
            raise ValueError(
                f"there is no corpus in {store.url}; run `cloze refresh quickstart`, or name another --store"
            )
        name = max(names, key=lambda n: (names[n].manifest.made.get("at", ""), n))
        if len(names) > 1:
            print(
                f"cloze: of {len(names)} corpora the newest, {name}; --corpus or --recipe chooses another ({', '.join(sorted(names))})",
                file=sys.stderr,
            )
    return _numbered(names[name], args.generation, name), name


def _store(args: Namespace) -> "Folder":
    from flows import run as runs
    from flows.settings import Settings

    return runs.open_store(Settings(store=args.store))


def _corpora(store: "Folder") -> "dict[str, Artifact]":
    """The newest generation of every corpus of a store, by name."""
    from infra.collect import names

    return {n: a for n, a in names(store).items() if n.startswith("corpus-") and a.finished}


def _one_of(names: "dict[str, Artifact]", text: str, store: "Folder") -> str:
    hits = [n for n in names if n == text] or [n for n in names if n.startswith(text)]
    if len(hits) == 1:
        return hits[0]
    known = ", ".join(sorted(hits or names)) or "none"
    raise ValueError(f"{text!r} names {len(hits)} corpora in {store.url}; there: {known}")


def _numbered(newest: "Artifact", number: int | None, name: str) -> "Artifact":
    from corpus.collect import generations

    every = {g.counts["generation"]: g for g in generations(newest)}
    if number is not None and number not in every:
        raise ValueError(f"{name} has no generation {number}; it has 1 to {max(every)}")
    return newest if number is None else every[number]


def named_generation(args: Namespace, text: str) -> "Artifact":
    """N, NAME or NAME@N of `diff`."""
    store = _store(args)
    name, _, number = (
        text.rpartition("@") if "@" in text else ("", "", text) if text.isdigit() else (text, "", "")
    )
    if number and not number.isdigit():
        raise ValueError(f"{text!r} is not N, NAME or NAME@N; give a generation's number, such as 1")
    if not name:
        return generation_of(Namespace(**vars(args) | {"generation": int(number)}))[0]
    names = _corpora(store)
    name = _one_of(names, name, store)
    return _numbered(names[name], int(number) if number else None, name)


def summary_of(generation: "Artifact") -> Any:
    """The newest summary.json of a generation, if one was made."""
    from infra.artifacts import Artifact

    store = generation.store
    every = [Artifact(store, "summarize", digest) for digest in store.child("summarize").folders()]
    mine = [a for a in every if a.finished and a.manifest.inputs["generation"] == generation.address]
    newest = max(mine, key=lambda a: (a.manifest.made.get("at", ""), a.digest), default=None)
    return None if newest is None else newest.read_json("summary.json")


def id_of_row(store: "Folder", text: str) -> str:
    """`shard/3f2a:12` or `shard/3f2a/p000.arrow:12` -> the id of that document, in hexadecimal digits."""
    from corpus.shard_index import ShardIndex
    from infra.materialize import find

    address, _, row = text.rpartition(":")
    parts = address.split("/")
    if not row.isdigit() or len(parts) not in (2, 3):
        raise ValueError(
            f"{text!r} is not SHARD:ROW; give shard/DIGEST:ROW or shard/DIGEST/FILE:ROW, rows from 0"
        )
    index, number = ShardIndex(find(store, "/".join(parts[:2]))), int(row)
    files = [n for n, f in enumerate(index.files) if len(parts) == 2 or f.name == parts[2]]
    if not files:
        raise ValueError(
            f"{'/'.join(parts[:2])} has no file {parts[2]!r}; it has {', '.join(f.name for f in index.files[:8])}"
        )
    documents = sum(index.files[n].documents for n in files)
    if number >= documents:
        raise ValueError(f"{address} has {documents:,} rows, numbered from 0; there is no row {number:,}")
    file, at = (files[0], number) if len(parts) == 3 else index.document_at(number)
    return bytes(index.shard(file).document_ids[at]).hex()
