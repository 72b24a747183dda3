"""The documents of a corpus as of one generation: kept rows of all generations up to it, without the retired ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.collect import generations
from corpus.document import ID_BYTES, ids_of, partition_files, read_documents
from corpus.generations import retired_ids
from corpus.ingest import listed_files
from corpus.rows import Rows, part_of, read_rows
from infra.artifacts import Artifact

Voids = npt.NDArray[np.void]


class Text(NamedTuple):
    """What one generation brought."""

    number: int
    documents: Artifact
    attributes: Artifact
    kept: Artifact


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """`texts` oldest first; `retired`: sorted ids that are not trained on any more."""

    generation: Artifact
    texts: tuple[Text, ...]
    retired: Voids

    @staticmethod
    def of(generation: Artifact) -> "Corpus":
        """The corpus as a finished `add_generation` left it."""
        texts = tuple(
            Text(g.counts["generation"], i["documents"], i["attributes"], i["kept"])
            for g in generations(generation)
            if "kept" in (i := g.inputs)
        )
        return Corpus(generation=generation, texts=texts, retired=retired_ids(generation))

    @property
    def sources(self) -> list[str]:
        """The names of all sources that ever gave a file."""
        read = [g.inputs["read"] for g in generations(self.generation) if "read" in g.inputs]
        return sorted({f.source for listing in read for f in listed_files(listing)})


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Of which documents: of one source, in one language; None: all."""

    source: str | None = None
    language: str | None = None


class Rowed(NamedTuple):
    """Rows of one part, and their ids."""

    text: Text
    part: str
    rows: Rows
    ids: Voids


def parts(corpus: Corpus, wanted: Wanted) -> Iterator[Rowed]:
    """The wanted documents, a part at a time: 16 bytes a document are held, no text."""
    for text in corpus.texts:
        for part in map(part_of, partition_files(text.documents)):
            rows = wanted_rows(text, part, read_rows(text.kept, part), wanted)
            ids = ids_of(read_documents(text.documents, f"{part}.parquet", ["id"]))[rows]
            stays = ~among(ids, corpus.retired)
            yield Rowed(text, part, rows[stays], ids[stays])


def wanted_rows(text: Text, part: str, rows: Rows, wanted: Wanted) -> Rows:
    """Of these rows those of the wanted source and language."""
    if wanted.source is not None:
        sources = read_documents(text.documents, f"{part}.parquet", ["source"]).column("source")
        rows = rows[_equal(sources, wanted.source)[rows]]
    if wanted.language is not None:
        rows = rows[_equal(languages_of(text, part), wanted.language)[rows]]
    return rows


def languages_of(text: Text, part: str) -> pa.ChunkedArray:
    """(B,) the annotated languages of a part."""
    path = text.attributes.path(f"{part}.parquet")
    return pq.read_table(path, columns=["language"], partitioning=None).column("language")


def _equal(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    return pc.equal(column, value).to_numpy()


def among(ids: Voids, others: Voids) -> npt.NDArray[np.bool_]:
    """(B,) which ids are among the others."""
    return np.isin(ids, others) if len(others) and len(ids) else np.zeros(len(ids), bool)


def id_bytes(ids: Voids) -> npt.NDArray[np.uint8]:
    """(B, 16)"""
    return np.ascontiguousarray(ids).view(np.uint8).reshape(-1, ID_BYTES)
