"""The full text decides: which proposed pairs are near duplicates.

    extract  (a part, of any generation)   mentioned rows -> the shingle set of each, and what the review shows of it
    verify   (a part of this generation)   pairs whose worse document lies in it -> those that are duplicates

Every mentioned text is read and cut once, however many pairs it is in; earlier generations' texts are read from their own
documents artifact, row groups without a mentioned row left out. Jaccard and containment are exact counts of shingles.

Memory: 8 bytes a distinct shingle of the documents of a part that are mentioned, on disk; two sets at a time in memory.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.columns import utf8
from corpus.document import SCHEMA, ids_of
from corpus.near.candidates import PAIR, unique_pairs
from corpus.near.references import (
    groups,
    read_batches,
    rows_in,
    scratch,
    slice_of,
    text_column,
    write_scratch,
)
from corpus.near.shingles import shared, shingle_sets
from corpus.ragged import Ints, offsets_of
from corpus.stream import Words
from infra.artifacts import Artifact, Counts
from infra.output import WORK, PartitionOutput
from infra.storage import Folder

HEAD_CHARACTERS = 500
SHOWN = pa.schema(
    [
        *(SCHEMA.field(name) for name in ("id", "title", "source", "file", "position")),
        pa.field("head", pa.string(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
    ]
)
EDGE = np.dtype(
    [
        ("worse", "<u8"),
        ("better", "<u8"),
        *((f"{which}_{name}", kind) for which in ("worse", "better") for name, kind in (("size", "<u8"), ("length", "<u8"), ("id", "V16"))),
        ("shared", "<u8"),
    ]
)  # fmt: skip


class Thresholds(NamedTuple):
    """What a duplicate is: at least this Jaccard similarity, or this share of the worse one in the better (None: off)."""

    jaccard: float
    containment: float | None

    def possible(self, worse: Ints, better: Ints) -> npt.NDArray[np.bool_]:
        """Whether sets of these sizes can be duplicates at all; most proposals by chance end here."""
        least = np.minimum(worse, better)
        possible = least >= self.jaccard * np.maximum(worse, better) * (1 - 1e-12)
        if self.containment is not None:
            possible |= least >= self.containment * worse * (1 - 1e-12)
        return possible

    def met(self, worse: int, better: int, shared: int) -> bool:
        contained = self.containment is not None and shared / worse >= self.containment
        return contained or shared / (worse + better - shared) >= self.jaccard


def extracted(generation: int, part: str) -> str:
    """The partition that holds the mentioned documents of a part."""
    return f"extract-{generation}-{part}"


def extract(
    item: tuple[int, int, str], *, documents: list[Artifact], proposals: list[str], out: PartitionOutput
) -> Counts:
    """The shingle sets of a part's mentioned documents, and what is shown of them; `documents` by generation."""
    generation, number, part = item
    mentions = (scratch(out.folder, f"{p}.mentions", np.uint64) for p in proposals)
    rows = np.unique(np.concatenate([rows_in(m[slice_of(m, generation, number)]) for m in mentions]))
    sizes = []
    with (
        out.writer(f"{WORK}/{out.id}.sets") as sets_path,
        out.writer(f"{WORK}/{out.id}.arrow") as shown_path,
        sets_path.open("wb") as sets,
        pa.OSFile(str(shown_path), "wb") as file,
        pa.ipc.new_file(file, SHOWN) as shown,
    ):
        for _, table in read_batches(documents[generation], part, rows, SCHEMA.names):
            texts = text_column(table)
            for one in shingle_sets(texts):
                one.tofile(sets)
                sizes.append(len(one))
            head = pc.utf8_slice_codeunits(texts, 0, HEAD_CHARACTERS).cast(pa.string())
            length = pa.array(np.diff(utf8(texts)[0]))
            columns = [*(table.column(name) for name in SHOWN.names[:5]), head, length]
            shown.write_table(pa.table(columns, schema=SHOWN))
    write_scratch(out, "rows", rows)
    write_scratch(out, "offsets", offsets_of(np.array(sizes, np.int64)))
    return {}


class Extracted:
    """The mentioned documents of one part, memory-mapped."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.rows: Ints = scratch(folder, f"{name}.rows", np.int64)
        self.offsets: Ints = scratch(folder, f"{name}.offsets", np.int64)
        self.sets: Words = scratch(folder, f"{name}.sets", np.uint64)
        with pa.memory_map(str(folder.local(f"{WORK}/{name}.arrow"))) as file:
            self.shown = pa.ipc.open_file(file).read_all()

    def at(self, references: Words) -> Ints:
        """Where some references of this part are in it."""
        return np.searchsorted(self.rows, rows_in(references))

    def set(self, at: int) -> Words:
        return self.sets[self.offsets[at] : self.offsets[at + 1]]

    def show(self, at: Ints) -> pa.Table:
        return self.shown.take(pa.array(at))


def verify(
    item: tuple[int, str],
    *,
    parts: list[list[str]],
    proposals: list[str],
    thresholds: Thresholds,
    out: PartitionOutput,
) -> Counts:
    """The proposed pairs of a part that are duplicates (EDGE). `parts` names the parts of each generation."""
    number, part = item
    found = [np.zeros(0, PAIR)]
    for name in proposals:
        worse = scratch(out.folder, f"{name}.worse", np.uint64)
        inside = slice_of(worse, 0, number)
        found.append(np.empty(inside.stop - inside.start, PAIR))
        found[-1]["worse"] = worse[inside]
        found[-1]["better"] = scratch(out.folder, f"{name}.better", np.uint64)[inside]
    pairs = unique_pairs(np.concatenate(found))
    edges = [np.zeros(0, EDGE)]
    if len(pairs):
        mine = Extracted(out.folder, extracted(0, part))
        for (generation, other), positions in groups(pairs["better"]):
            theirs = Extracted(out.folder, extracted(generation, parts[generation][other]))
            edges.append(_verify(pairs[positions], mine, theirs, thresholds))
    write_scratch(out, "edges", np.concatenate(edges))
    return {"pairs_proposed": len(pairs), "pairs_verified": sum(map(len, edges))}


def _verify(
    pairs: npt.NDArray[np.void], mine: Extracted, theirs: Extracted, thresholds: Thresholds
) -> npt.NDArray[np.void]:
    worse, better = mine.at(pairs["worse"]), theirs.at(pairs["better"])
    sizes = np.diff(mine.offsets)[worse], np.diff(theirs.offsets)[better]
    common = np.zeros(len(pairs), np.int64)
    good = np.zeros(len(pairs), bool)
    for i in np.flatnonzero(thresholds.possible(*sizes)).tolist():
        common[i] = shared(mine.set(worse[i]), theirs.set(better[i]))
        good[i] = thresholds.met(int(sizes[0][i]), int(sizes[1][i]), int(common[i]))
    edges = np.zeros(int(good.sum()), EDGE)
    edges["worse"], edges["better"], edges["shared"] = (
        pairs["worse"][good],
        pairs["better"][good],
        common[good],
    )
    for which, side, at, size in (("worse", mine, worse, sizes[0]), ("better", theirs, better, sizes[1])):
        table = side.show(at[good])
        edges[f"{which}_size"] = size[good]
        edges[f"{which}_length"] = table.column("length").to_numpy()
        edges[f"{which}_id"] = ids_of(table)
    return edges


def show(
    folder: Folder, references: Words, parts: list[list[str]], opened: dict[tuple[int, int], Extracted]
) -> list[pa.ChunkedArray]:
    """The shown columns of references in any order; `opened` keeps parts open from one call to the next."""
    tables, positions = [], []
    for (generation, part), where in groups(references):
        if (generation, part) not in opened:
            opened[generation, part] = Extracted(folder, extracted(generation, parts[generation][part]))
        side = opened[generation, part]
        tables.append(side.show(side.at(references[where])))
        positions.append(where)
    back = np.argsort(np.concatenate(positions))
    return pa.concat_tables(tables).take(pa.array(back)).columns[:-1]
