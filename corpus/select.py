"""Which documents are worth learning from, and why the others are not: every drop has a name, a figure and a limit.

Writes `<part>.rows` (corpus/rows.py) and `<part>.dropped.parquet`, one row per dropped document with the first rule that
fires, in the order below, and the others that would have:

    too_short, too_long, mostly_symbols      limits that hold for every kind of text
    language, language_score                 only where `languages` are named
    contamination.<evaluation set>           corpus/decontaminate.py; `detail` is the n-gram they share
    gopher.*, c4.*, fineweb.*                corpus/quality/, in the order of `rules`
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.annotate import one_chunk
from corpus.decontaminate import Contamination, find_contamination, read_contamination
from corpus.document import ID_BYTES, partition_files, read_documents, write_table
from corpus.quality.c4 import C4
from corpus.quality.fineweb import FineWeb
from corpus.quality.gopher import Gopher
from corpus.quality.rule import Verdict, above, below
from corpus.rows import part_of, write_rows
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

SHOWN_CHARACTERS = 2000
DROPPED = pa.schema(
    [
        pa.field("id", pa.binary(ID_BYTES), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("title", "source", "file")),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("limit", pa.float64(), nullable=False),
        pa.field("also", pa.list_(pa.string()), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Bounds that a document must keep.

    `min_letter_share` is letters / bytes that are not blanks; every byte beyond ASCII counts as a letter.
    `languages` are BCP 47 primary tags; empty: all. `min_language_score` only counts where languages are named; what a
    source declares has the score 1. `rules` are published sets, with None for a limit that shall not hold.
    """

    min_bytes: int = 60
    max_bytes: int = 1 << 24
    min_letter_share: float = 0.6
    languages: tuple[str, ...] = ()
    min_language_score: float = 0.5
    rules: tuple[Gopher | C4 | FineWeb, ...] = ()

    def __post_init__(self) -> None:
        if self.min_bytes < 1:
            raise ValueError(
                f"min_bytes is {self.min_bytes}; an empty document cannot be kept, so use 1 or more"
            )
        if self.max_bytes < self.min_bytes:
            raise ValueError(
                f"max_bytes {self.max_bytes} is below min_bytes {self.min_bytes}; nothing would be kept"
            )
        for name in ("min_letter_share", "min_language_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies between 0 and 1")
        for tag in self.languages:
            if not tag.isalpha() or not tag.islower():
                raise ValueError(
                    f"languages holds {tag!r}; use primary tags in lower case, such as 'en' or 'zh'"
                )
        names = [r.name for r in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(f"rules names a set twice ({', '.join(names)}); keep one of each")


def select(
    config: SelectConfig,
    *,
    documents: Artifact,
    attributes: Artifact,
    contamination: Artifact | None = None,
    out: Output,
) -> Counts:
    """Write the kept rows and the dropped documents of each part.

    Counts: read, kept, and one per rule. Raises ValueError if not one document is kept.
    """
    items = {part_of(name): name for name in partition_files(documents)}
    shared = {
        "config": config,
        "documents": documents,
        "attributes": attributes,
        "contamination": contamination,
    }
    return total(out.map(select_part, items, **shared))


def select_part(
    name: str,
    *,
    config: SelectConfig,
    documents: Artifact,
    attributes: Artifact,
    contamination: Artifact | None,
    out: PartitionOutput,
) -> Counts:
    """One part of `select`."""
    known = pq.read_table(attributes.path(f"{out.id}.parquet"), partitioning=None)
    ids = read_documents(documents, name, ["id"]).column("id")
    if not known.column("id").equals(ids):
        raise ValueError(
            f"part {out.id} of {attributes.short} does not describe {documents.short}; annotate it again"
        )
    verdicts = list(judge(config, known))
    details: dict[int, str] = {}
    if contamination is not None:
        shared_ngrams = _contaminated(
            read_contamination(contamination),
            one_chunk(read_documents(documents, name, ["text"]).column("text"), pa.large_string()),
            config,
            known,
            details,
        )
        basic = sum("." not in v.rule for v in verdicts)  # contamination comes before the published rules
        verdicts[basic:basic] = shared_ngrams
    fires = np.array([v.fires for v in verdicts]).reshape(len(verdicts), len(known))
    dropped = fires.any(0)
    with out.writer(f"{out.id}.rows") as path:
        write_rows(path, np.flatnonzero(~dropped))
    rows = np.flatnonzero(dropped)
    with out.writer(f"{out.id}.dropped.parquet") as path:
        write_table(path, _reasons(documents, name, known, rows, verdicts, fires, details))
    first = fires.argmax(0)[rows]
    counts = {"read": len(known), "kept": len(known) - len(rows)} | {v.rule: 0 for v in verdicts}
    for k, verdict in enumerate(verdicts):
        counts[verdict.rule] += int((first == k).sum())
    return counts


def judge(config: SelectConfig, known: pa.Table) -> Iterator[Verdict]:
    """The verdicts of all rules on the rows of an attributes table, in the order in which they name a drop."""
    figures = {c: known.column(c).to_numpy() for c in known.column_names if c not in ("id", "language")}
    language = known.column("language").to_numpy()
    every = np.ones(len(known), np.bool_)
    size = figures["size_bytes"]
    yield from below("too_short", size, config.min_bytes, every)
    yield from above("too_long", size, config.max_bytes, every)
    yield from below("mostly_symbols", figures["letter_share"], config.min_letter_share, every)
    if config.languages:
        score = figures["language_score"]
        other = ~np.isin(language, config.languages)
        yield Verdict(rule="language", value=score, limit=config.min_language_score, fires=other)
        yield from below("language_score", score, config.min_language_score, ~other)
    for rules in config.rules:
        if "form" not in figures:
            raise ValueError(
                f"the attributes lack the figures that {rules.name} compares; annotate with quality=True"
            )
        yield from rules.verdicts(figures, language)


def _contaminated(
    contamination: Contamination,
    texts: pa.LargeStringArray,
    config: SelectConfig,
    known: pa.Table,
    details: dict[int, str],
) -> list[Verdict]:
    """One verdict per evaluation set; fills in `details`, the shared n-gram by row. Too long texts are not read."""
    rows = np.flatnonzero(known.column("size_bytes").to_numpy() <= config.max_bytes)
    found, shared = find_contamination(contamination, texts.take(pa.array(rows)))
    details.update({int(rows[k]): text for k, text in shared.items()})
    verdicts: list[Verdict] = []
    for name, count in found.items():
        value = np.zeros(len(known), np.int64)
        value[rows] = count
        verdicts += above(f"contamination.{name}", value, 0, np.ones(len(known), np.bool_))
    return verdicts


def _reasons(
    documents: Artifact,
    name: str,
    known: pa.Table,
    rows: npt.NDArray[np.int64],
    verdicts: Sequence[Verdict],
    fires: npt.NDArray[np.bool_],
    details: dict[int, str],
) -> pa.Table:
    """The DROPPED table of one part."""
    if not len(rows):
        return DROPPED.empty_table()
    table = read_documents(documents, name, [n for n in DROPPED.names if n != "language"]).take(
        pa.array(rows)
    )
    columns: dict[str, Any] = {n: table.column(n) for n in ("id", "title", "source", "file", "position")}
    first = fires.argmax(0)[rows]
    columns["language"] = known.column("language").take(pa.array(rows))
    columns["rule"] = [verdicts[k].rule for k in first]
    columns["value"] = [float(verdicts[k].value[row]) for k, row in zip(first, rows, strict=True)]
    columns["limit"] = [float(verdicts[k].limit) for k in first]
    columns["also"] = [
        [v.rule for k, v in enumerate(verdicts) if k > one and v.fires[row]]
        for one, row in zip(first, rows, strict=True)
    ]
    columns["detail"] = [details.get(int(row), "") for row in rows]
    columns["text"] = [t.as_py()[:SHOWN_CHARACTERS] for t in table.column("text")]
    arrays = [
        c if isinstance(c, pa.ChunkedArray) else pa.array(c, f.type)
        for f in DROPPED
        for c in (columns[f.name],)
    ]
    return pa.table(arrays, schema=DROPPED)
