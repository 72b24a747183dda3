"""One generation of a corpus in numbers: sizes by source and language, lengths, reasons of drops, pairs of duplicates.

    part p000   documents, attributes, shards  ->  p000.json  \\
    part p001   ...                            ->  p001.json   >  measured.json  (exact sums, smallest samples)

A generation is measured once, when it is new, so a report over all of them only adds up small files. No text is read
but that of the samples, which are the smallest by id or by similarity: no order of work can change them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import per_document
from corpus.document import ID_BYTES, ids_of, partition_files, read_documents
from corpus.rows import part_of, read_rows
from corpus.shard_index import ShardIndex
from corpus.summary.samples import Sample, duplicates, merge_dropped, smallest_dropped
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts, to_json
from infra.output import Output, PartitionOutput

MEASURED = "measured.json"
BINS = 64  # of a histogram: bin 0 counts zeros, bin k the values from 2^(k-1) up to 2^k
IN_SHARDS = ("sentences", "words", "tokens", "unknown")
FIGURES = ("documents", "bytes", *IN_SHARDS, "training_documents", "training_tokens")
LENGTHS = ("bytes", "tokens", "sentences")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """`samples` dropped documents for each rule, `pairs` of near duplicates, `shown_characters` of each text."""

    samples: int = 5
    pairs: int = 10
    shown_characters: int = 700

    def __post_init__(self) -> None:
        for name, most in (("samples", 100), ("pairs", 100), ("shown_characters", 2000)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; use 1 to {most}, as a page is for reading"
                )


def measure_generation(
    config: SummaryConfig,
    *,
    documents: Artifact,
    attributes: Artifact,
    kept: Artifact,
    shards: Artifact,
    held_out: Artifact,
    out: Output,
) -> Counts:
    """Write measured.json. Each kept document is in `shards` (for training) or in `held_out`.

    Counts, of the kept documents: FIGURES, and dropped (by rules). Raises ValueError if the inputs do not belong together.
    """
    items = {part_of(name): part_of(name) for name in partition_files(documents)}
    selected = kept.inputs["kept"]
    shared = {"documents": documents, "attributes": attributes, "selected": selected, "kept": kept}
    encoded = {"shards": shards, "held_out": held_out}
    encoded["unk_id"] = encoder_of(shards.inputs["vocabulary"]).unk_id  # type: ignore[assignment]
    parts = out.map(measure_part, items, config=config, **shared, **encoded)
    each = (json.loads(out.folder.read(f"{part}.json")) for part in parts)
    measured = reduce(lambda one, other: merge([one, other], config.samples), each)  # two are held at a time
    read = documents.inputs["documents"]
    measured["funnel"] = {
        "files": read.inputs["listing"].counts["files"],
        "read": read.counts["read"],
        "unique": documents.counts["kept"],
        "selected": selected.counts["kept"],
        "near_unique": kept.counts["kept"],
        "training": shards.counts["documents"],
        "held_out": held_out.counts["documents"],
    }
    measured["reading"] = {k: v for k, v in read.counts.items() if k not in ("files", "read", "text_bytes")}
    measured["repeated"] = {k: documents.counts.get(k, 0) for k in ("exact_duplicate", "in_history")}
    measured["duplicates"] = duplicates(kept, config.pairs, config.shown_characters)
    out.write(MEASURED, to_json(measured))
    figures = total_of(measured["groups"])
    return figures | {"dropped": sum(rule["count"] for rule in measured["dropped"].values())}


def measure_part(
    part: str,
    *,
    config: SummaryConfig,
    documents: Artifact,
    attributes: Artifact,
    selected: Artifact,
    kept: Artifact,
    shards: Artifact,
    held_out: Artifact,
    unk_id: int,
    out: PartitionOutput,
) -> Counts:
    """One part: `<part>.json`, of the form that `merge` adds up."""
    table = read_documents(documents, f"{part}.parquet", ["id", "source"])
    columns = ["language", "size_bytes"]
    known = pq.read_table(attributes.path(f"{part}.parquet"), columns=columns, partitioning=None)
    rows = read_rows(kept, part)
    training = token_figures(shards, part, ids_of(table), unk_id)
    others = token_figures(held_out, part, ids_of(table), unk_id)
    if not np.array_equal(np.flatnonzero(training["documents"] + others["documents"] == 1), rows):
        raise ValueError(
            f"part {part}: {shards.short} and {held_out.short} are not the kept documents of {kept.short}; "
            "give the shards that were made from them"
        )
    figures = {name: (training[name] + others[name])[rows] for name in ("documents", *IN_SHARDS)}
    figures["bytes"] = known.column("size_bytes").to_numpy().astype(np.int64)[rows]
    figures["training_documents"] = training["documents"][rows]
    figures["training_tokens"] = training["tokens"][rows]
    chosen = pa.array(rows)
    groups = grouped(table.column("source").take(chosen), known.column("language").take(chosen), figures)
    body = {
        "groups": groups,
        "lengths": {name: histogram(figures[name]).tolist() for name in LENGTHS},
        "dropped": smallest_dropped(selected, part, config.samples, config.shown_characters),
    }
    out.write(f"{part}.json", to_json(body))
    return {"documents": len(rows)}


def token_figures(shards: Artifact, part: str, ids: npt.NDArray[np.void], unk_id: int) -> dict[str, Ints]:
    """(B,) for each row of a part whose ids are given: documents (1 if it is in the shards), and IN_SHARDS."""
    each = {name: np.zeros(len(ids), np.int64) for name in ("documents", *IN_SHARDS)}
    rows = read_rows(shards.inputs["kept"], part)
    index = ShardIndex(shards)
    for number, entry in enumerate(index.files):
        if entry.part != part:
            continue
        shard = index.shard(number)
        at = rows[entry.row : entry.row + entry.documents]
        if (
            shard.document_ids.tobytes()
            != np.ascontiguousarray(ids[at]).view(np.uint8).reshape(-1, ID_BYTES).tobytes()
        ):
            raise ValueError(
                f"{entry.name} of {shards.short} does not hold the documents of part {part}; make it again"
            )
        each["documents"][at] = 1
        each["tokens"][at] = np.diff(shard.document_offsets)
        each["sentences"][at] = np.diff(shard.document_sentences)
        each["words"][at] = per_document(shard.word_start_T, shard.document_offsets)
        each["unknown"][at] = per_document(shard.tokens_T == unk_id, shard.document_offsets)
    return each


def grouped(
    sources: pa.ChunkedArray, languages: pa.ChunkedArray, figures: dict[str, Ints]
) -> list[dict[str, Any]]:
    """Sums of (B,) figures for each pair of source and language that occurs, sorted."""
    if not len(sources):
        return []
    names = [
        np.unique(c.to_numpy(zero_copy_only=False).astype(np.str_), return_inverse=True)
        for c in (sources, languages)
    ]
    (source_names, source_of), (language_names, language_of) = names
    pairs, pair_of = np.unique(source_of * len(language_names) + language_of, return_inverse=True)
    sums = {name: np.zeros(len(pairs), np.int64) for name in FIGURES}
    for name, total in sums.items():
        np.add.at(total, pair_of, figures[name])
    return [
        {
            "source": str(source_names[pair // len(language_names)]),
            "language": str(language_names[pair % len(language_names)]),
            "figures": {name: int(total[n]) for name, total in sums.items()},
        }
        for n, pair in enumerate(pairs.tolist())
    ]


def histogram(values: Ints) -> Ints:
    """(BINS,) how many values have so many binary digits."""
    digits = np.searchsorted(np.left_shift(1, np.arange(BINS - 1, dtype=np.int64)), values, side="right")
    return np.bincount(digits, minlength=BINS)


def merge(parts: Sequence[dict[str, Any]], samples: int) -> dict[str, Any]:
    """The sum of what parts (or generations) hold: the same whatever the order and the grouping."""
    groups: dict[tuple[str, str], Counts] = {}
    for group in (g for part in parts for g in part["groups"]):
        key = group["source"], group["language"]
        groups[key] = add(groups.get(key, {}), group["figures"])
    lengths = {
        name: np.sum([p["lengths"][name] for p in parts], axis=0, dtype=np.int64).tolist() for name in LENGTHS
    }
    dropped: dict[str, Sample] = merge_dropped([p["dropped"] for p in parts], samples)
    return {
        "groups": [{"source": key[0], "language": key[1], "figures": groups[key]} for key in sorted(groups)],
        "lengths": lengths,
        "dropped": dropped,
    }


def total_of(groups: Iterable[dict[str, Any]]) -> Counts:
    """The sum of the figures of some groups."""
    totals = dict.fromkeys(FIGURES, 0)
    for group in groups:
        totals = add(totals, group["figures"])
    return totals


def add(one: Counts, other: Counts) -> Counts:
    """Name by name; a name that one of them lacks counts 0 there."""
    return {
        name: one.get(name, 0) + other.get(name, 0) for name in (*one, *(n for n in other if n not in one))
    }
