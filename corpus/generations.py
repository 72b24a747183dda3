"""A corpus is an ordered list of immutable generations; a refresh reads what is new and adds one.

    generation 1   files a b c      documents, rows kept                     <- the vocabulary is learned here
    generation 2   files d          documents whose texts 1 has not          previous: 1
    generation 3   (b vanished)     no documents; b's are retired, by policy previous: 2

Content decides what is new, never names, order or dates: a renamed, copied or reordered file gives nothing new, and of a
split or edited file only the documents that are new. No earlier generation is ever written to. The name
`corpus-<digest of what must not change>` points at the newest one and moves by compare and swap.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.collect import REPEATED, generations
from corpus.document import ID_BYTES, ids_of, partition_files, read_documents, write_table
from corpus.ingest import SourceFile, listed_files
from infra.artifacts import Artifact, Counts, to_json
from infra.output import Output
from infra.storage import Folder

RETIRED = pa.schema([pa.field("id", pa.binary(ID_BYTES), nullable=False)])


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """`number` from 1. With `retire_vanished`, documents that no present file holds are retired from training; without
    it they stay, and are reported."""

    number: int = 1
    retire_vanished: bool = False


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a refresh has to do: files to read, and files that were there and are not any more."""

    new: tuple[SourceFile, ...]
    vanished: tuple[SourceFile, ...]
    renamed: int


def difference(files: Sequence[SourceFile], newest: Artifact | None) -> Difference:
    """Compare what the sources hold with what the corpus has read."""
    earlier = [] if newest is None else generations(newest)
    known = {f.content for g in earlier if "read" in g.inputs for f in listed_files(g.inputs["read"])}
    new: dict[tuple[str, str], SourceFile] = {}
    for file in sorted(files):
        if file.content not in known:
            new.setdefault(file.content, file)
    before = [] if newest is None else listed_files(newest.inputs["present"])
    now = {f.content for f in files}
    names = {(f.source, f.name) for f in before}
    return Difference(
        new=tuple(new.values()),
        vanished=tuple(f for f in before if f.content not in now),
        renamed=sum(f.content in known and (f.source, f.name) not in names for f in files),
    )


def add_generation(
    config: GenerationConfig,
    *,
    present: Artifact,
    read: Artifact | None,
    documents: Artifact | None,
    attributes: Artifact | None,
    kept: Artifact | None,
    previous: Artifact | None,
    out: Output,
) -> Counts:
    """Write generation.json, vanished.jsonl (files that are no more) and retired.parquet (ids, cumulative).

    present: the list of all files there now; read: of those read for this generation; documents, attributes and kept:
    what they gave (None: nothing new). Counts: generation, documents (kept in all generations), new, files, vanished,
    retired.
    """
    changes = difference(listed_files(present), previous)
    out.write("vanished.jsonl", "".join(f.line() + "\n" for f in changes.vanished).encode())
    chain = [] if previous is None else generations(previous)
    texts = [g.inputs["documents"] for g in chain if "documents" in g.inputs]
    lists = [g.inputs["read"] for g in chain if "read" in g.inputs]
    if documents is not None and read is not None:
        texts.append(documents)
        lists.append(read)
    retired = (
        _gone(listed_files(present), texts, lists) if config.retire_vanished else np.zeros((0, 16), np.uint8)
    )
    with out.writer("retired.parquet") as path:
        ids = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(ID_BYTES), len(retired), [None, pa.py_buffer(retired.tobytes())]
        )
        write_table(path, pa.table([ids], schema=RETIRED))
    new = 0 if kept is None else kept.counts["kept"]
    before = 0 if previous is None else previous.counts["documents"]
    counts: Counts = {
        "generation": config.number,
        "documents": before + new,
        "new": new,
        "files": present.counts["files"],
        "vanished": len(changes.vanished),
        "retired": len(retired),
    }
    out.write("generation.json", to_json(counts))
    return counts


def _gone(present: Iterable[SourceFile], texts: Sequence[Artifact], lists: Sequence[Artifact]) -> np.ndarray:
    """(n, 16) ids of documents that no present file holds, sorted. Memory: 16 bytes a document of a vanished file."""
    there = {f.content for f in present}
    gone: set[bytes] = set()
    alive: set[bytes] = set()
    for documents, read in zip(texts, lists, strict=True):
        missing = {(f.source, f.name) for f in listed_files(read) if f.content not in there}
        for name in partition_files(documents) if missing else ():
            gone.update(_ids_in(read_documents(documents, name, ["id", "source", "file"]), missing))
    for documents, read in zip(texts, lists, strict=True) if gone else ():
        held = {(f.source, f.name) for f in listed_files(read) if f.content in there}
        for name in partition_files(documents):
            again = pq.read_table(documents.path(f"{name.removesuffix('.parquet')}.repeated.parquet"))
            for table in (read_documents(documents, name, REPEATED.names), again):
                wanted = pc.is_in(table["id"], pa.array(sorted(gone), pa.binary(ID_BYTES)))
                alive.update(_ids_in(table.filter(wanted), held))
    left = b"".join(sorted(gone - alive))
    return np.frombuffer(left, np.uint8).reshape(-1, ID_BYTES)


def _ids_in(table: pa.Table, files: set[tuple[str, str]]) -> list[bytes]:
    columns = (table.column(name).to_pylist() for name in ("id", "source", "file"))
    return [id for id, source, file in zip(*columns, strict=True) if (source, file) in files]


def retired_ids(generation: Artifact) -> np.ndarray:
    """Void records of the ids that are retired as of a generation, sorted."""
    return ids_of(pq.read_table(generation.path("retired.parquet")))


def intact(newest: Artifact) -> bool:
    """Whether the records of all generations up to `newest`, and the file lists they rest on, are there."""
    while newest.finished:
        inputs = newest.inputs
        if not all(inputs[name].finished for name in ("present", "read") if name in inputs):
            return False
        if "previous" not in inputs:
            return True
        newest = inputs["previous"]
    return False


def newest(store: Folder, name: str) -> tuple[Artifact | None, str]:
    """The generation a corpus name points at, and the tag with which to move it."""
    try:
        data, tag = store.child("names").read_tagged(f"{name}.json")
    except FileNotFoundError:
        return None, ""
    step, digest = json.loads(data)["artifact"].split("/")
    return Artifact(store, step, digest), tag


def advance(store: Folder, name: str, generation: Artifact, tag: str) -> None:
    """Let the name point at a new generation. Raises RuntimeError if another refresh has moved it meanwhile."""
    names, data = store.child("names"), to_json({"artifact": generation.address})
    moved = names.replace(f"{name}.json", data, tag) if tag else names.create(f"{name}.json", data)
    if moved:
        return
    now, _ = newest(store, name)
    if now is None or now.address != generation.address:
        raise RuntimeError(
            f"{name} was refreshed by another run meanwhile; run the same command again to add to its result"
        )
