"""What differs between two corpora, or two generations of one: documents by id, files by content.

Generations that both have cost nothing. The others are compared a sixteenth of all ids at a time, so memory is that of
one sixteenth: about 60 bytes a document.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import ID_BYTES, ids_of, read_documents
from corpus.ingest import SourceFile, listed_files
from corpus.rows import read_rows
from corpus.summary.find import between, parts_between
from corpus.summary.texts import Corpus, Text, among
from infra.artifacts import Artifact

SHOWN_FILES = 20
RANGES = 16

Record = dict[str, Any]
Sizes = dict[str, dict[str, int]]


def compare(old: Corpus, new: Corpus) -> Record:
    """Documents added and gone (by source and by language, with bytes), how many of the gone ones are
    retired, and files."""
    same_retired = np.array_equal(old.retired, new.retired)
    shared = (
        {t.kept.address for t in old.texts} & {t.kept.address for t in new.texts} if same_retired else set()
    )
    sides = [[t for t in corpus.texts if t.kept.address not in shared] for corpus in (old, new)]
    found: dict[str, Sizes] = {"sources": {}, "languages": {}}
    total = {"added": 0, "added_bytes": 0, "gone": 0, "gone_bytes": 0, "retired": 0}
    for number in range(RANGES):
        tables = [_kept(corpus, texts, number) for corpus, texts in zip((old, new), sides, strict=True)]
        for what, (mine, other) in {"gone": tables, "added": tables[::-1]}.items():
            rows = mine.filter(pa.array(~among(ids_of(mine), np.sort(ids_of(other)))))
            _count(rows, what, found, total)
            if what == "gone":
                total["retired"] += int(among(ids_of(rows), new.retired).sum())
    return {
        "documents": total,
        "sources": dict(sorted(found["sources"].items())),
        "languages": dict(sorted(found["languages"].items())),
        "files": _files(old.generation, new.generation),
    }


def _kept(corpus: Corpus, texts: Sequence[Text], number: int) -> pa.Table:
    """id, source, language and size_bytes of the kept documents whose ids lie in one sixteenth."""
    first, last = (
        bytes([16 * number]).ljust(ID_BYTES, b"\0"),
        bytes([16 * number + 15]).ljust(ID_BYTES, b"\xff"),
    )
    return pa.concat_tables([_EMPTY, *_kept_tables(corpus, texts, first, last)])


_EMPTY = pa.table(
    {
        "id": pa.array([], pa.binary(ID_BYTES)),
        "source": pa.array([], pa.string()),
        "language": pa.array([], pa.string()),
        "size_bytes": pa.array([], pa.int64()),
    }
)


def _kept_tables(corpus: Corpus, texts: Sequence[Text], first: bytes, last: bytes) -> Iterator[pa.Table]:
    for text in texts:
        for part in parts_between(text.documents, first, last):
            table = read_documents(text.documents, f"{part}.parquet", ["id", "source"])
            known = pq.read_table(
                text.attributes.path(f"{part}.parquet"), columns=["language", "size_bytes"], partitioning=None
            )
            rows = np.intersect1d(
                read_rows(text.kept, part), np.array(between(ids_of(table), first, last), np.int64)
            )
            rows = rows[~among(ids_of(table)[rows], corpus.retired)]
            columns = [
                table.column("id"),
                table.column("source"),
                known.column("language"),
                known.column("size_bytes"),
            ]
            yield pa.table(columns, names=_EMPTY.column_names).take(pa.array(rows)).cast(_EMPTY.schema)


def _count(rows: pa.Table, what: str, found: dict[str, Sizes], total: dict[str, int]) -> None:
    total[what] += len(rows)
    total[f"{what}_bytes"] += sum(rows.column("size_bytes").to_pylist())
    for key, column in (("sources", "source"), ("languages", "language")):
        for row in (
            rows.group_by(column).aggregate([("size_bytes", "sum"), ("size_bytes", "count")]).to_pylist()
        ):
            sizes = found[key].setdefault(
                row[column], {"added": 0, "added_bytes": 0, "gone": 0, "gone_bytes": 0}
            )
            sizes[what] += row["size_bytes_count"]
            sizes[f"{what}_bytes"] += row["size_bytes_sum"]


def _files(old: Artifact, new: Artifact) -> Record:
    """Files by content: a renamed file is neither added nor vanished."""
    before, now = (listed_files(g.inputs["present"]) for g in (old, new))
    added, vanished = _beyond(now, before), _beyond(before, now)
    return {
        "before": len(before),
        "now": len(now),
        "added": len(added),
        "vanished": len(vanished),
        "added_names": [[f.source, f.name] for f in added[:SHOWN_FILES]],
        "vanished_names": [[f.source, f.name] for f in vanished[:SHOWN_FILES]],
    }


def _beyond(files: Sequence[SourceFile], others: Sequence[SourceFile]) -> list[SourceFile]:
    known = {f.content for f in others}
    return [f for f in files if f.content not in known]
