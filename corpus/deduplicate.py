"""Exact duplicates: of all documents with one text, the first by (source, file, position) stays.

"First" is a property of the document, not of the partition it happens to lie in, so cutting the corpus differently
keeps the same documents. Memory: the ids (16 bytes a document) of all partitions, and names only of what is repeated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.document import ID_BYTES, ids_of, partition_files, read_documents, write_table
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

REMOVED = pa.schema(
    [
        pa.field("id", pa.binary(ID_BYTES), nullable=False),
        *(
            pa.field(f"{which}_{name}", kind, nullable=False)
            for which in ("removed", "kept")
            for name, kind in (
                ("title", pa.string()),
                ("source", pa.string()),
                ("file", pa.string()),
                ("position", pa.int64()),
            )
        ),
    ]
)
_WHERE = ("title", "source", "file", "position")


@dataclass(frozen=True, kw_only=True)
class DeduplicateConfig:
    """Exact duplicates have nothing to set: equal normalised text is equal text."""


def deduplicate(config: DeduplicateConfig, *, documents: Artifact, out: Output) -> Counts:
    """Write every document whose text is not that of an earlier one; partition files keep their names.

    Counts are documents: read, kept, exact_duplicate. `removed.parquet` names each removed document and the one kept.
    """
    names = partition_files(documents)
    lost, removed = find_duplicates(documents, names)
    items = {name.removesuffix(".parquet"): lost[name] for name in names}
    counts = total(out.map(drop_rows, items, documents=documents))
    with out.writer("removed.parquet") as path:
        write_table(path, removed)
    return counts


def find_duplicates(documents: Artifact, names: list[str]) -> tuple[dict[str, np.ndarray], pa.Table]:
    """Row numbers to drop per file, and the REMOVED table sorted by (id, removed source, file, position)."""
    ids = [ids_of(read_documents(documents, name, ["id"])) for name in names]
    where = np.repeat(np.arange(len(names)), [len(i) for i in ids])
    row = np.concatenate([np.arange(len(i)) for i in ids]) if ids else np.zeros(0, np.int64)
    every = np.concatenate(ids).view(">u8").reshape(-1, 2) if ids else np.zeros((0, 2), ">u8")
    order = np.lexsort((every[:, 1], every[:, 0]))  # by id, so that equal texts are neighbours
    same = (every[order[1:]] == every[order[:-1]]).all(1)
    repeated = np.zeros(len(order), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    suspects = np.sort(order[repeated])
    rows = [
        {**r, "partition": int(p), "row": int(i)}
        for p in np.unique(where[suspects])
        for i, r in _named(documents, names[p], row[suspects[where[suspects] == p]])
    ]
    rows.sort(key=lambda r: (r["id"], r["source"], r["file"], r["position"]))
    lost: dict[int, list[int]] = {}
    removed, kept = [], None
    for r in rows:
        if kept is None or r["id"] != kept["id"]:
            kept = r
            continue
        lost.setdefault(r["partition"], []).append(r["row"])
        removed.append(
            {"id": r["id"]} | {f"removed_{k}": r[k] for k in _WHERE} | {f"kept_{k}": kept[k] for k in _WHERE}
        )
    table = pa.Table.from_pylist(removed, schema=REMOVED)
    return {name: np.array(sorted(lost.get(p, ())), np.int64) for p, name in enumerate(names)}, table


def _named(documents: Artifact, name: str, rows: np.ndarray) -> list[tuple[int, dict[str, Any]]]:
    table = read_documents(documents, name, ["id", *_WHERE]).take(pa.array(rows))
    return list(zip(rows.tolist(), table.to_pylist(), strict=True))


def drop_rows(rows: np.ndarray, *, documents: Artifact, out: PartitionOutput) -> Counts:
    """One partition: the same file without the given rows."""
    table = read_documents(documents, f"{out.id}.parquet")
    keep = np.ones(len(table), bool)
    keep[rows] = False
    with out.writer(f"{out.id}.parquet") as path:
        write_table(path, table.filter(pa.array(keep)))
    return {"read": len(table), "kept": int(keep.sum()), "exact_duplicate": len(rows)}
