"""Parquet, Arrow (file and stream) and Feather: one document a row, batch by batch, only the columns that are needed.

Parquet pages are read as they are decoded (no whole column of a row group is held), with batches sized by what the rows of
the row group weigh. An Arrow file is held one record batch at a time, as its writer cut them. What is what is told by
the first bytes. Texts are taken as bytes and decoded here: Parquet promises UTF-8, and nobody checks.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.sources.compression import decompress, seekable
from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import MAX_BAD_SHARE, bad_characters
from corpus.sources.source import Found, TruncatedFile

BATCH_BYTES = 4 << 20
BATCH_ROWS = 4096
READ_BYTES = 1 << 20
_STREAM_MARK = b"\xff\xff\xff\xff"


@dataclass(frozen=True, kw_only=True)
class Tables(FolderSource):
    """`text_field` is a column of text ("a.b": the field b of the structs in a); a position is a row, counted from 1."""

    text_field: str = "text"
    title_field: str = "title"
    language_field: str | None = None
    patterns: tuple[str, ...] = field(
        default=with_compression(".parquet", ".arrow", ".feather", ".ipc", ".arrows"), compare=False
    )
    name: str = "tables"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        label = self.label(name)
        number = 0
        with ExitStack() as stack:
            table = stack.enter_context(seekable(decompress(stream, label)))
            try:
                for batch in self._batches(name, table, dropped):
                    yield from self._rows(name, batch, number, dropped)
                    number += len(batch)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and (type(error) is not OSError or error.errno):
                    raise  # the disk or the line, not what is in the file
                if isinstance(error, pa.ArrowCapacityError | pa.ArrowMemoryError):
                    raise
                raise TruncatedFile(
                    f"{label} is not a whole table: {_sentence(error)}, after row {number}; the rows before are kept; "
                    "replace the file with a whole copy"
                ) from None

    def _batches(self, name: str, table: BinaryIO, dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
        """Batches of the wanted columns, called text, title, language."""
        begin = table.tell()
        head = table.read(8)
        table.seek(begin)
        if not head:
            dropped["empty"] += 1
        elif head.startswith(b"PAR1"):
            yield from self._parquet(name, table)
        elif head.startswith(b"ARROW1"):
            reader = pa.ipc.open_file(table)
            chosen = self._chosen(name, reader.schema)
            for i in range(reader.num_record_batches):
                yield from _slices(_pick(reader.get_batch(i), chosen))
        elif head.startswith(_STREAM_MARK):
            stream = pa.ipc.open_stream(table)
            chosen = self._chosen(name, stream.schema)
            for batch in stream:
                yield from _slices(_pick(batch, chosen))
        else:
            raise ValueError(
                f"{self.label(name)} begins like no Parquet, Arrow or Feather 2 file ({head[:4]!r}); correct patterns, or "
                "write it anew with pyarrow"
            )

    def _parquet(self, name: str, table: BinaryIO) -> Iterator[pa.RecordBatch]:
        file = pq.ParquetFile(table, pre_buffer=False, buffer_size=READ_BYTES)
        chosen = self._chosen(name, file.schema_arrow)
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            wanted = [
                about.column(i).total_uncompressed_size
                for i in range(about.num_columns)
                if about.column(i).path_in_schema in chosen.values()
            ]
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES * about.num_rows // max(1, sum(wanted))))
            for batch in file.iter_batches(rows, row_groups=[group], columns=list(chosen.values())):
                yield _pick(batch, chosen)

    def _chosen(self, name: str, schema: pa.Schema) -> dict[str, str]:
        """{text, title, language: column path} of those that are there. Raises ValueError without the text."""
        kind = _type_at(schema, self.text_field)
        if kind is None:
            raise ValueError(
                f"{self.label(name)} has no column {self.text_field!r}, only {', '.join(schema.names)[:200]}; "
                "set text_field"
            )
        if not _is_text(kind):
            raise ValueError(
                f"column {self.text_field!r} of {self.label(name)} is {kind}, not text; set text_field to another"
            )
        chosen = {"text": self.text_field}
        for role, path in (("title", self.title_field), ("language", self.language_field)):
            if path and (kind := _type_at(schema, path)) is not None and _is_text(kind):
                chosen[role] = path
        return chosen

    def _rows(self, name: str, batch: pa.RecordBatch, before: int, dropped: Counter[str]) -> Iterator[Found]:
        texts = batch.column("text")
        size = pc.fill_null(pc.binary_length(texts), 0)
        long = pc.greater(size, self.max_document_bytes)
        if pc.any(long).as_py():
            dropped["too_long"] += pc.sum(long).as_py()
            texts = pc.if_else(long, pa.scalar(b"", texts.type), texts)
        else:
            long = None
        titles = batch.column("title").to_pylist() if "title" in batch.schema.names else [None] * len(batch)
        languages = batch.column("language").to_pylist() if "language" in batch.schema.names else titles
        if languages is titles:
            languages = [None] * len(batch)
        for i, (data, title, language) in enumerate(zip(texts.to_pylist(), titles, languages, strict=True)):
            if data is None:
                dropped["no_text_field"] += 1
            elif long is not None and long[i].as_py():
                continue
            elif (text := _decoded(data, dropped)) is not None:
                number = before + i + 1
                heading = (title or b"").decode("utf-8", "replace") or f"{name}:{number}"
                yield Found(heading, number, text, (language or b"").decode("utf-8", "replace"))


def _decoded(data: bytes, dropped: Counter[str]) -> str | None:
    """A value as text, by the rules of reading.py for one document."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
        if bad_characters(text) > MAX_BAD_SHARE * len(text):
            dropped["not_utf8"] += 1
            return None
        dropped["repaired_utf8"] += 1
        text = data.decode("utf-8", "replace")
    if not text.strip():
        dropped["empty"] += 1
        return None
    return text


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * len(batch) // max(1, batch.nbytes)))
    yield from (batch.slice(start, rows) for start in range(0, len(batch), rows))


def _pick(batch: pa.RecordBatch, chosen: dict[str, str]) -> pa.RecordBatch:
    """The columns at those paths, under the names of their roles, as bytes."""
    columns = {role: _as_bytes(_column_at(batch, path)) for role, path in chosen.items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _column_at(batch: pa.RecordBatch, path: str) -> pa.Array:
    if path in batch.schema.names:
        return batch.column(path)
    first, _, rest = path.partition(".")
    return pc.struct_field(batch.column(first), rest.split("."))


def _as_bytes(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_string(column.type):
        column = column.cast(pa.large_string())
    return column.cast(pa.large_binary())


def _type_at(schema: pa.Schema, path: str) -> pa.DataType | None:
    """The type of a column or of a field inside structs; None if there is none."""
    if path in schema.names:
        return schema.field(path).type
    first, *rest = path.split(".")
    kind = schema.field(first).type if first in schema.names else None
    for part in rest:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null),
    )
    return any(test(kind) for test in tests)


def _sentence(error: Exception) -> str:
    """The first sentence of Arrow's message."""
    return str(error).partition("\n")[0].rstrip(".").partition(". ")[0]
