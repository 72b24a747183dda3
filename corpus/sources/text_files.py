"""Your own text: files below a folder, chosen by patterns. Plain text, JSON lines and Parquet.

    .txt      one document a file, or, with `separator`, one between every two separators
    .jsonl    one document a line: an object with the field `text_field`
    .parquet  one document a row: the column `text_field`

The folder says where the files are, not what they are, so it is left out of a result's name: moving it changes nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.normalize import unwrap
from corpus.sources.source import Found, decode

SUFFIXES = (".txt", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Files below `folder` that match any of `patterns` (`**` crosses folders). Set `wrapped` for hard-wrapped .txt."""

    folder: str = field(compare=False)  # where, not what: fields outside equality do not name results
    patterns: tuple[str, ...] = ("**/*.txt", "**/*.jsonl", "**/*.parquet")
    text_field: str = "text"
    title_field: str = "title"
    separator: str | None = None
    wrapped: bool = False
    name: str = "text-files"
    language: str = "und"

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ValueError(
                f"patterns of source {self.name!r} is empty, so it names no file; use e.g. ('**/*.txt',)"
            )
        if self.separator is not None and not self.separator:
            raise ValueError(f"separator of source {self.name!r} is empty; use None for one document a file")

    def files(self) -> Iterator[tuple[str, str, Path]]:
        root = self._root()
        found: dict[str, Path] = {}
        for pattern in self.patterns:
            hits = {p.relative_to(root).as_posix(): p for p in root.glob(pattern) if p.is_file()}
            if not hits and (self.patterns != type(self).patterns):
                raise ValueError(
                    f"pattern {pattern!r} of source {self.name!r} matches no file in {root}; correct it or the folder"
                )
            found |= hits
        if not found:
            raise ValueError(
                f"source {self.name!r} finds no {', '.join(SUFFIXES)} file in {root}; correct folder or patterns"
            )
        for name in sorted(found):
            if not name.endswith(SUFFIXES):
                raise ValueError(
                    f"{name!r} in {root} cannot be read as text; patterns may match only {', '.join(SUFFIXES)}"
                )
            yield "", name, found[name]

    def locate(self, root: str, name: str) -> Path:
        return self._root() / name

    def _root(self) -> Path:
        root = Path(self.folder).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"folder {self.folder!r} of source {self.name!r} does not exist; give an existing one"
            )
        return root

    def documents(self, name: str, data: bytes, dropped: Counter[str]) -> Iterator[Found]:
        if name.endswith(".parquet"):
            yield from self._rows(name, data, dropped)
        elif (text := decode(data, dropped)) is None:
            return
        elif name.endswith(".jsonl"):
            yield from self._lines(name, text, dropped)
        else:
            line = 1
            for part in text.split(self.separator) if self.separator else [text]:
                if part.strip():
                    blank = len(part) - len(part.lstrip())
                    yield Found(
                        name, line + part.count("\n", 0, blank), unwrap(part) if self.wrapped else part
                    )
                line += part.count("\n") + (self.separator or "").count("\n")

    def _lines(self, name: str, text: str, dropped: Counter[str]) -> Iterator[Found]:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                dropped["not_json"] += 1
                continue
            body = row.get(self.text_field) if isinstance(row, dict) else None
            if isinstance(body, str):
                yield Found(str(row.get(self.title_field) or f"{name}:{number}"), number, body)
            else:
                dropped["no_text_field"] += 1

    def _rows(self, name: str, data: bytes, dropped: Counter[str]) -> Iterator[Found]:
        if not data:
            dropped["empty"] += 1
            return
        try:
            table = pq.ParquetFile(pa.BufferReader(data))
            columns = table.schema_arrow.names
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{name} of source {self.name!r} is not a readable Parquet file ({error}); replace it"
            ) from None
        if self.text_field not in columns:
            raise ValueError(
                f"{name} of source {self.name!r} has no column {self.text_field!r}, only {', '.join(columns)}; set text_field"
            )
        wanted = [c for c in (self.text_field, self.title_field) if c in columns]
        number = 0
        for batch in table.iter_batches(batch_size=4096, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                if isinstance(row[self.text_field], str):
                    yield Found(
                        str(row.get(self.title_field) or f"{name}:{number}"), number, row[self.text_field]
                    )
                else:
                    dropped["no_text_field"] += 1
