"""Documents artifacts and row lists made in a test, without the steps before them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import (
    Document,
    document_id,
    iterate_documents,
    partition_files,
    sort_documents,
    to_table,
    write_table,
)
from corpus.rows import part_of, read_kept, write_rows
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder


def document(
    text: str, *, file: str = "a.txt", position: int = 1, source: str = "made", **other: str
) -> Document:
    language, title = other.get("language", "en"), other.get("title", file)
    return Document(document_id(text), text, title, source, file, position, language)


def documents_of(store: Folder, rows: Sequence[Document], *, parts: int = 1, name: str = "made") -> Artifact:
    """A documents artifact of `parts` parts."""

    def made_documents(config: str, *, out: Output) -> Counts:
        for number in range(parts):
            with out.writer(f"p{number}.parquet") as path:
                write_table(path, to_table(sort_documents(list(rows[number::parts]))))
        return {"kept": len(rows)}

    return run_step(made_documents, name, store=store)


def every_row(store: Folder, documents: Artifact) -> Artifact:
    """The row lists that keep everything."""

    def all_rows(config: str, *, documents: Artifact, out: Output) -> Counts:
        count = 0
        for name in partition_files(documents):
            size = pq.read_metadata(documents.path(name)).num_rows
            count += size
            with out.writer(f"{part_of(name)}.rows") as path:
                write_rows(path, np.arange(size))
        return {"read": count, "kept": count}

    return run_step(all_rows, "all", store=store, documents=documents)


def kept_documents(documents: Artifact, kept: Artifact) -> list[Document]:
    """What a row list keeps, part by part."""
    tables = [read_kept(documents, kept, part_of(name)) for name in partition_files(documents)]
    return [Document(**row) for row in pa.concat_tables(tables).to_pylist()]


def texts_of(documents: Artifact) -> list[str]:
    return sorted(d.text for d in iterate_documents(documents))
