"""What is known about each document besides its text: its language, and the figures that quality rules compare.

Attributes are kept apart from text: a new figure or limit never rewrites a document. Row n of an attributes part belongs
to row n of the documents part of the same name:

    id               the document's
    language         BCP 47 primary tag: what the source declares, else what corpus.language finds; "und" if unsure
    language_score   1 if declared
    ...              corpus/quality/figures.py
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.document import partition_files, read_documents, write_table
from corpus.language import UNDETERMINED, identify, primary_tag
from corpus.quality.figures import basic_figures, measure
from corpus.quality.forms import Form
from corpus.rows import part_of
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """What to measure.

    `quality`: the figures of Gopher, C4 and FineWeb; without them only size and letters are measured.
    `bad_words`: what C4's rule counts, in any case of ASCII letters; whole words only.
    """

    quality: bool = True
    bad_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not w.strip() for w in self.bad_words):
            raise ValueError("bad_words holds an empty word, which every text contains; remove it")
        if self.bad_words and not self.quality:
            raise ValueError(
                "bad_words are counted with the quality figures; set quality=True or leave them out"
            )


def annotate(config: AnnotateConfig, *, documents: Artifact, out: Output) -> Counts:
    """Write the attributes of every document, one file per part of `documents`.

    Counts: read, declared (the source names the language), identified, undetermined.
    """
    items = {part_of(name): name for name in partition_files(documents)}
    return total(out.map(annotate_part, items, config=config, documents=documents))


def annotate_part(name: str, *, config: AnnotateConfig, documents: Artifact, out: PartitionOutput) -> Counts:
    """One part of `annotate`."""
    table = read_documents(documents, name, ["id", "text", "language"]).combine_chunks()
    texts = one_chunk(table.column("text"), pa.large_string())
    language = np.array([primary_tag(t) for t in table.column("language").to_pylist()], object)
    declared = (language != UNDETERMINED).astype(np.bool_)
    figures = measure(texts, declared, config.bad_words) if config.quality else basic_figures(texts)
    score = declared.astype(np.float32)
    todo = ~declared
    if config.quality:  # the whole text says that it is code or DNA
        todo &= ~np.isin(figures["form"], (Form.CODE, Form.SEQUENCE))
    rows = np.flatnonzero(todo)
    found, score[rows] = identify(texts.take(pa.array(rows)))
    language[rows] = found.to_pylist()
    with out.writer(f"{out.id}.parquet") as path:
        write_table(path, _table(table.column("id"), language, score, figures))
    unknown = int((language == UNDETERMINED).sum())
    counts = Counter(read=len(table), declared=int(declared.sum()), undetermined=unknown)
    counts["identified"] = counts["read"] - counts["declared"] - unknown
    return dict(counts)


def _table(
    ids: pa.ChunkedArray,
    language: npt.NDArray[np.object_],
    score: npt.NDArray[np.float32],
    figures: dict[str, Any],
) -> pa.Table:
    columns = {"id": ids, "language": pa.array(language, pa.string()), "language_score": pa.array(score)}
    return pa.table(columns | {k: pa.array(v) for k, v in figures.items()})


def one_chunk(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column as one array, also when it has no rows."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)
