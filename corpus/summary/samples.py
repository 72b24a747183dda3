"""Examples to look at: dropped documents by rule, and pairs of near duplicates with what differs in their texts.

Which ones is decided by what they are: of dropped documents the smallest ids, which are hashes and so a fair sample; of
pairs half the least similar ones, where a limit would err first, and half the smallest ids.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.collect import generations
from corpus.document import ID_BYTES
from corpus.summary.differences import excerpts
from corpus.summary.find import find_prefix, read_places
from infra.artifacts import Artifact

SIMILARITY_BINS = 50  # of a histogram of Jaccard similarity from 0 to 1
_BATCH = 1 << 14
_ORIGIN = ("title", "source", "file", "position")

Sample = dict[str, Any]


def smallest_dropped(selected: Artifact, part: str, samples: int, characters: int) -> dict[str, Sample]:
    """For each rule of a `select` that dropped documents of this part: count, and the samples with the smallest ids."""
    path = selected.path(f"{part}.dropped.parquet")
    rules = (
        pq.read_table(path, columns=["rule"], partitioning=None).column("rule").to_numpy(zero_copy_only=False)
    )
    rows: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    for row, rule in enumerate(rules):  # sorted by id, as the part is
        counts[rule] = counts.get(rule, 0) + 1
        if counts[rule] <= samples:
            rows.setdefault(rule, []).append(row)
    every = sorted(row for chosen in rows.values() for row in chosen)
    found = dict(zip(every, take_rows(path, every), strict=True))
    return {
        rule: {"count": counts[rule], "samples": [_shown(found[row], characters) for row in rows[rule]]}
        for rule in sorted(counts)
    }


def take_rows(path: Any, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The records of sorted rows of a Parquet file, a batch at a time."""
    wanted, first = np.array(rows, np.int64), 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH) if len(rows) else ():
            inside = wanted[(wanted >= first) & (wanted < first + len(batch))]
            yield from batch.take(pa.array(inside - first)).to_pylist()
            first += len(batch)


def _shown(record: dict[str, Any], characters: int) -> Sample:
    text = record["text"]
    for name in ("value", "limit"):
        record[name] = record[name] if math.isfinite(record[name]) else None  # JSON has no other numbers
    cut = {"text": text[:characters], "cut": len(text) > characters, "id": record["id"].hex()}
    return record | cut


def merge_dropped(parts: Sequence[dict[str, Sample]], samples: int) -> dict[str, Sample]:
    """Counts added; of all samples the ones with the smallest ids."""
    merged: dict[str, Sample] = {}
    for rule in sorted({rule for part in parts for rule in part}):
        having = [part[rule] for part in parts if rule in part]
        every = sorted((s for one in having for s in one["samples"]), key=lambda s: s["id"])
        merged[rule] = {"count": sum(one["count"] for one in having), "samples": every[:samples]}
    return merged


def duplicates(kept: Artifact, pairs: int, characters: int) -> dict[str, Any]:
    """What a `deduplicate` removed: counts by rule, a histogram of similarity, and pairs with both texts."""
    counts: dict[str, int] = {"near_duplicate": 0, "contained": 0}
    bins = np.zeros(SIMILARITY_BINS, np.int64)
    near: list[tuple[float, bytes, int]] = []
    some: list[int] = []
    path, first = kept.path("removed.parquet"), 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=["removed_id", "rule", "jaccard"]):
            jaccard = batch["jaccard"].to_numpy()
            bins += np.bincount(
                (jaccard * SIMILARITY_BINS).astype(int).clip(max=SIMILARITY_BINS - 1),
                minlength=SIMILARITY_BINS,
            )
            for rule, count in _counted(batch["rule"]):
                counts[rule] = counts.get(rule, 0) + count
            rows = range(first, first + len(batch))
            some += list(rows)[: pairs - len(some)]
            lowest = np.argsort(jaccard, kind="stable")[:pairs]
            near += [(float(jaccard[n]), batch["removed_id"][n].as_py(), rows[n]) for n in lowest.tolist()]
            near = sorted(near)[:pairs]
            first += len(batch)
    least = [row for *_, row in near[: -(-pairs // 2)]]
    chosen = (least + [row for row in some if row not in least])[:pairs]
    records = dict(zip(sorted(chosen), take_rows(path, sorted(chosen)), strict=True))
    shown = [_pair(kept, records[row], characters) for row in sorted(chosen)]
    return {**counts, "similarity": bins.tolist(), "pairs": merge_pairs([shown], pairs)}


def _counted(column: pa.Array) -> Iterator[tuple[str, int]]:
    for entry in column.value_counts().to_pylist():
        yield entry["values"], entry["counts"]


def merge_pairs(lists: Sequence[list[Sample]], pairs: int) -> list[Sample]:
    """Of all pairs the least similar half, then those with the smallest ids; in the order of similarity."""
    every = [pair for one in lists for pair in one]
    least = sorted(every, key=lambda p: (p["jaccard"], p["removed"]["id"]))[: -(-pairs // 2)]
    others = sorted((p for p in every if p not in least), key=lambda p: p["removed"]["id"])
    return sorted((least + others)[:pairs], key=lambda p: (p["jaccard"], p["removed"]["id"]))


def _pair(kept: Artifact, record: dict[str, Any], characters: int) -> Sample:
    """Where both come from, how similar they are, and the stretch of both texts where they begin to differ."""
    newest_first = generations(kept)[::-1]
    holders = (kept, newest_first[record["kept_generation"]])
    removed, stays = (
        text_of(holder.inputs["documents"], record[f"{side}_id"])
        for side, holder in zip(("removed", "kept"), holders, strict=True)
    )
    shown = excerpts(removed, stays, characters)
    sides: dict[str, Sample] = {}
    for side, (text, before, after) in zip(("removed", "kept"), shown, strict=True):
        sides[side] = {name: record[f"{side}_{name}"] for name in _ORIGIN}
        sides[side] |= {"id": record[f"{side}_id"].hex(), "text": text, "before": before, "after": after}
    figures = {name: record[name] for name in ("rule", "jaccard", "containment", "kept_generation")}
    return sides | figures


def text_of(documents: Artifact, id: bytes) -> str:
    """The text of one document that is there."""
    assert len(id) == ID_BYTES
    places = [place for place, _ in find_prefix(documents, id)]
    if not places:
        raise ValueError(
            f"{documents.short} has no document {id.hex()}; run `cloze verify {documents.short}`"
        )
    return str(read_places(documents, places[:1], ["text"])[0]["text"])
