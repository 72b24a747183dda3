"""Near duplicates: MinHash proposes, the full text decides, and what stays is chosen among documents, not clusters.

    documents, kept --sign--> band keys --propose--> pairs --extract, verify--> duplicates --decide--> kept rows, removed
     previous generations' index-*  ----^                ^---- previous generations' texts, of proposed pairs only

A document is removed only if it is itself a verified duplicate of a document that is kept: in a chain A ~ B ~ C where A
and C differ, B goes and C stays. Documents are decided in an order that is theirs alone: survivors of earlier
generations first (they never change), then the longer text, then the smaller id. So partitions, file names, workers and
the order of reading cannot change what is kept. Exact duplicates have left before (corpus.collect).

Measured on one core, the whole stage: 28 MB/s of English Wikipedia, 20 of Chinese; the index takes 224 bytes a document.
Memory of a worker is stated by each part (candidates, similarity); here it is about 400 bytes for each verified pair and
nothing for a document that is in none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import ID_BYTES
from corpus.near.candidates import documents_in, propose, ranges_for, sign, write_index
from corpus.near.references import (
    MAX_GENERATIONS,
    ROW_BITS,
    generations_of,
    parts_of,
    place,
    rows_in,
    scratch,
    slice_of,
)
from corpus.near.similarity import EDGE, SHOWN, Extracted, Thresholds, extract, extracted, show, verify
from corpus.near.units import SHINGLE_WEIGHT
from corpus.rows import read_rows, write_rows
from corpus.stream import Words
from infra.artifacts import Artifact, Counts
from infra.output import WORK, Output, PartitionOutput, total

INDEX = "index.json"
GONE = "decided.gone"
_BATCH = 4096
REMOVED = pa.schema(
    [
        *(
            pa.field(f"{which}_{field.name}", field.type, nullable=False)
            for which in ("removed", "kept")
            for field in list(SHOWN)[:-1]
        ),
        pa.field("kept_generation", pa.int32(), nullable=False),  # 0 this one, 1 the one before ...
        pa.field("rule", pa.string(), nullable=False),
        pa.field("jaccard", pa.float64(), nullable=False),
        pa.field("containment", pa.float64(), nullable=False),  # of the removed one in the kept one
    ]
)


@dataclass(frozen=True, kw_only=True)
class DeduplicateConfig:
    """What a near duplicate is, and how hard to look for it.

    A document is one if it shares `min_jaccard` of all shingles with a kept one, or, where `min_containment` is given, if
    that share of its own shingles is in a kept one. Proposals are made by Jaccard similarity (corpus.near.minhash), so a document
    contained in one twice its length is found with probability 0.2 by 14 bands of 6.
    """

    min_jaccard: float = 0.8
    min_containment: float | None = None
    bands: int = 14
    rows: int = 6
    bucket_limit: int = 64

    def __post_init__(self) -> None:
        for name in ("min_jaccard", "min_containment"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it is a share above 0 and at most 1, such as 0.8")
        for name, most in (("bands", 256), ("rows", 64)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}; use 1 to {most}, such as 14 bands of 6 rows")
        if self.bucket_limit < 2 or self.bucket_limit % 2:
            raise ValueError(f"bucket_limit is {self.bucket_limit}; use an even number from 2, such as 64")


def deduplicate(
    config: DeduplicateConfig,
    *,
    documents: Artifact,
    kept: Artifact | None,
    previous: Artifact | None,
    out: Output,
) -> Counts:
    """Write `<part>.rows` (the kept rows that stay), `removed.parquet`, and the index that the next generation searches.

    `previous` is this step's artifact of the generation before; its `inputs` lead to the texts and further back.
    Counts are documents (read, kept, near_duplicate, contained) and pairs (pairs_proposed, pairs_verified, and
    pairs_left_out of buckets above the limit). Raises ValueError if `previous` was indexed with other settings.
    """
    index = {"bands": config.bands, "rows": config.rows, "shingle_weight": SHINGLE_WEIGHT}
    history = generations(previous, index)
    texts = [documents, *(g.inputs["documents"] for g in history)]
    parts = [parts_of(d) for d in texts]
    signing = {f"sign-{part}": part for part in parts[0]}
    counts = total(
        _scratch(out, sign, signing, documents=documents, kept=kept, bands=config.bands, rows=config.rows)
    )
    count = ranges_for(counts.pop("keys", 0))
    proposing = {f"propose-{n:05d}": n for n in range(count)}
    proposed = _scratch(
        out, propose, proposing, count=count, signed=list(signing), history=history, limit=config.bucket_limit
    )
    mentioned = _mentioned(out, list(proposing), parts)
    _scratch(out, extract, mentioned, documents=texts, proposals=list(proposing))
    thresholds = Thresholds(config.min_jaccard, config.min_containment)
    verifying = {f"verify-{part}": (n, part) for n, part in enumerate(parts[0])}
    verified = _scratch(out, verify, verifying, parts=parts, proposals=list(proposing), thresholds=thresholds)
    edges = np.concatenate(
        [np.zeros(0, EDGE), *(scratch(out.folder, f"{name}.edges", EDGE) for name in verifying)]
    )
    removals = decide(edges)
    out.folder.write(f"{WORK}/{GONE}", np.sort(removals["worse"]).tobytes())
    cutting = {f"rows-{part}": (n, part) for n, part in enumerate(parts[0])}
    stays = total(out.map(keep_rows, cutting, documents=documents, kept=kept))
    out.map(
        write_index,
        {f"index-{n:05d}": n for n in range(count)},
        count=count,
        signed=list(signing),
        removed=GONE,
    )
    out.write_json(INDEX, index)
    rules = _write_removed(out, removals, parts, thresholds)
    nothing = {"read": 0, "kept": 0, **rules, "pairs_proposed": 0, "pairs_verified": 0, "pairs_left_out": 0}
    return nothing | counts | stays | total(verified) | total(proposed)


def generations(previous: Artifact | None, index: dict[str, Any]) -> list[Artifact]:
    """This step's artifacts of the generations before, the latest first."""
    found: list[Artifact] = []
    while previous is not None:
        if (other := previous.read_json(INDEX)) != index:
            raise ValueError(
                f"{previous.short} was indexed with {other}, not {index}; duplicates of it cannot be found, "
                "so use its settings or start a new corpus"
            )
        found.append(previous)
        if len(found) == MAX_GENERATIONS:
            raise ValueError(
                f"a corpus has at most {MAX_GENERATIONS} generations; start a new one from all sources"
            )
        previous = previous.inputs.get("previous")
    return found


def decide(edges: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The verified pair by which each removed document is removed, sorted by the removed one's id.

    One pass over the pairs, preferred documents first. Of several kept duplicates the most similar is named.
    """
    worse_id, better_id = (_id_words(edges[f"{which}_id"]) for which in ("worse", "better"))
    order = np.lexsort((worse_id[:, 1], worse_id[:, 0], ~edges["worse_length"]))
    every = np.unique(np.concatenate([edges["worse"], edges["better"]]))
    worse, better = (np.searchsorted(every, edges[which]) for which in ("worse", "better"))
    removed = bytearray(len(every))
    for low, high in zip(worse[order].tolist(), better[order].tolist(), strict=True):
        if not removed[high]:  # decided before: it is preferred to the worse one, or of an earlier generation
            removed[low] = 1
    gone = np.frombuffer(removed, np.bool_)
    named = gone[worse] & ~gone[better]
    edges, worse_id, better_id = edges[named], worse_id[named], better_id[named]
    similarity = jaccard(edges)
    order = np.lexsort((better_id[:, 1], better_id[:, 0], -similarity, worse_id[:, 1], worse_id[:, 0]))
    edges = edges[order]
    first = np.ones(len(edges), bool)
    first[1:] = edges["worse"][1:] != edges["worse"][:-1]
    return edges[first]


def jaccard(edges: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    return edges["shared"] / (edges["worse_size"] + edges["better_size"] - edges["shared"])


def _id_words(ids: npt.NDArray[np.void]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(n, 2) big-endian words that sort like the ids."""
    return np.ascontiguousarray(ids).view(">u8").reshape(-1, ID_BYTES // 8)


def keep_rows(
    item: tuple[int, str], *, documents: Artifact, kept: Artifact | None, out: PartitionOutput
) -> Counts:
    """The row list of one part: its kept rows without the removed ones."""
    number, part = item
    gone: Words = scratch(out.folder, GONE, np.uint64)
    rows = np.arange(documents_in(documents, part)) if kept is None else read_rows(kept, part)
    stays = rows[~np.isin(rows, rows_in(gone[slice_of(gone, 0, number)]))]
    with out.writer(f"{part}.rows") as path:
        write_rows(path, stays)
    return {"kept": len(stays)}


def _scratch(out: Output, function: Any, items: dict[str, Any], **shared: Any) -> dict[str, Counts]:
    """`out.map` for partitions whose files go when the step ends: recorded, so that a restart (after a repair, too, when
    scratch is gone) redoes what is missing, but no part of the artifact."""
    counts = out.map(function, items, **shared)
    for name in [n for n in out.files if n.startswith(f"{WORK}/")]:
        del out.files[name]
    return counts


def _mentioned(out: Output, proposals: list[str], parts: list[list[str]]) -> dict[str, tuple[int, int, str]]:
    """The parts of all generations that have a document in some pair, as items of `extract`."""
    places: set[tuple[int, int]] = set()
    for name in proposals:
        mentions = scratch(out.folder, f"{name}.mentions", np.uint64)
        places |= {place(int(w) << ROW_BITS) for w in np.unique(mentions >> np.uint64(ROW_BITS))}
    return {extracted(g, parts[g][n]): (g, n, parts[g][n]) for g, n in sorted(places)}


def _write_removed(
    out: Output, removals: npt.NDArray[np.void], parts: list[list[str]], thresholds: Thresholds
) -> Counts:
    """`removed.parquet`, sorted by the removed id, written in batches; counts by rule."""
    similarity, containment = jaccard(removals), removals["shared"] / np.maximum(removals["worse_size"], 1)
    near = similarity >= thresholds.jaccard
    opened: dict[tuple[int, int], Extracted] = {}
    with out.writer("removed.parquet") as path, pq.ParquetWriter(path, REMOVED, compression="zstd") as file:
        for begin in range(0, len(removals), _BATCH):
            batch = slice(begin, begin + _BATCH)
            shown = [
                column
                for which in ("worse", "better")
                for column in show(out.folder, removals[which][batch], parts, opened)
            ]
            generation = generations_of(removals["better"][batch])
            rule = np.where(near[batch], "near_duplicate", "contained")
            figures = [similarity[batch], containment[batch]]
            arrays = [*shown, *map(pa.array, (generation, rule.tolist(), *figures))]
            file.write_table(pa.table(arrays, schema=REMOVED))
    return {"near_duplicate": int(near.sum()), "contained": int((~near).sum())}
