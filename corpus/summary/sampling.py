"""Documents chosen by a seed: of kept ones, of those a rule dropped, of near duplicates that were removed.

A document's place in the draw is a hash of seed and id, so the same seed shows the same documents however they are cut
into parts, and a corpus that has grown shows most of them again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from corpus.document import SCHEMA, ids_of, partition_files
from corpus.near.similarity import HEAD_CHARACTERS
from corpus.rows import part_of
from corpus.stream import Stream
from corpus.summary.differences import marked
from corpus.summary.find import Place, read_places
from corpus.summary.samples import take_rows
from corpus.summary.texts import Corpus, Text, Voids, Wanted, id_bytes, languages_of, parts

Record = dict[str, Any]
Drawn = tuple[int, bytes, Callable[[], Record]]  # place in the draw, id, how to read it


def sample(corpus: Corpus, wanted: Wanted, count: int, seed: int) -> list[Record]:
    """`count` kept documents, each as likely as any other."""
    drawn: list[Drawn] = []
    for text, part, rows, ids in parts(corpus, wanted):
        new = [
            (key, bytes(ids[n]), _reader(text, Place(part, int(rows[n]))))
            for key, n in smallest(ids, count, seed)
        ]
        drawn = _least(drawn + new, count)
    return [read() for *_, read in drawn]


def smallest(ids: Voids, count: int, seed: int) -> list[tuple[int, int]]:
    """(key, row) of the `count` rows that a draw puts first."""
    keys: npt.NDArray[np.uint64] = Stream.of(seed, "corpus-sample", 0, id_bytes(ids)).bits()
    rows = np.argpartition(keys, count)[:count] if len(keys) > count else np.arange(len(keys))
    return sorted((int(keys[row]), int(row)) for row in rows)


def _least(drawn: list[Drawn], count: int) -> list[Drawn]:
    return sorted(drawn, key=lambda one: one[:2])[:count]


def _reader(text: Text, place: Place) -> Callable[[], Record]:
    def read() -> Record:
        return {**document(text, place), "generation": text.number}

    return read


def document(text: Text, place: Place) -> Record:
    """One document as plain values, in its annotated language."""
    (record,) = read_places(text.documents, [place], SCHEMA.names)
    language = languages_of(text, place.part)[place.row].as_py()
    return record | {"id": record["id"].hex(), "language": language}


def sample_dropped(corpus: Corpus, wanted: Wanted, rule: str, count: int, seed: int) -> list[Record]:
    """`count` documents that a rule dropped: by its name, by that of its set ("gopher"), or "" for any rule.

    Raises ValueError if no rule of that name dropped anything.
    """
    drawn: list[Drawn] = []
    rules: set[str] = set()
    for text in corpus.texts:
        selected = text.kept.inputs["kept"]
        for name in partition_files(text.documents):
            path = selected.path(f"{part_of(name)}.dropped.parquet")
            table = pq.read_table(path, columns=["id", "source", "language", "rule"], partitioning=None)
            named = table.column("rule").to_pylist()
            rules.update(named)
            columns = (table.column(c).to_pylist() for c in ("source", "language"))
            fits = [
                _of(dropped_by, rule)
                and wanted.source in (None, source)
                and wanted.language in (None, language)
                for dropped_by, source, language in zip(named, *columns, strict=True)
            ]
            rows = np.flatnonzero(fits)
            ids = ids_of(table)[rows]
            new = [
                (key, bytes(ids[n]), _row_reader(path, int(rows[n]), text.number))
                for key, n in smallest(ids, count, seed)
            ]
            drawn = _least(drawn + new, count)
    if rule and not any(_of(r, rule) for r in rules):
        known = ", ".join(sorted(rules)) or "none: nothing was dropped"
        raise ValueError(f"no document was dropped by a rule {rule!r}; rules that dropped some: {known}")
    return [read() for *_, read in drawn]


def _of(rule: str, wanted: str) -> bool:
    return not wanted or rule == wanted or rule.startswith(f"{wanted}.")


def _row_reader(path: Any, row: int, number: int) -> Callable[[], Record]:
    def read() -> Record:
        (record,) = take_rows(path, [row])
        return record | {"id": record["id"].hex(), "generation": number}

    return read


def sample_duplicates(corpus: Corpus, wanted: Wanted, count: int, seed: int) -> list[Record]:
    """`count` near duplicates that were removed, each beside the document that stays. Languages are not known here."""
    drawn: list[Drawn] = []
    for text in corpus.texts:
        path = text.kept.path("removed.parquet")
        table = pq.read_table(path, columns=["removed_id", "removed_source"], partitioning=None)
        sources = table.column("removed_source").to_pylist()
        rows = np.flatnonzero([wanted.source in (None, source) for source in sources])
        ids = ids_of(table.rename_columns(["id", "source"]))[rows]
        new = [
            (key, bytes(ids[n]), _row_reader_of_pair(path, int(rows[n]), text.number))
            for key, n in smallest(ids, count, seed)
        ]
        drawn = _least(drawn + new, count)
    return [read() for *_, read in drawn]


def _row_reader_of_pair(path: Any, row: int, number: int) -> Callable[[], Record]:
    def read() -> Record:
        (record,) = take_rows(path, [row])
        ids = {f"{side}_id": record[f"{side}_id"].hex() for side in ("removed", "kept")}
        return record | ids | {"generation": number}

    return read


def pieces(pair: Record) -> Iterator[list[tuple[str, bool]]]:
    """The removed and the kept text of a sampled pair, in pieces that say whether the other side lacks them."""
    cut = any(len(pair[f"{side}_head"]) >= HEAD_CHARACTERS for side in ("removed", "kept"))
    yield from marked(pair["removed_head"], pair["kept_head"], open_end=cut)
