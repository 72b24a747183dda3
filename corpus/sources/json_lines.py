"""JSON lines: one object a line, one document an object. Fields may lie deeper: "meta.title".

Lines go through orjson, and what it refuses (lone surrogates, NaN, bytes that are no UTF-8) through the standard library.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import TextReader, open_text
from corpus.sources.source import Found

_BROKEN = object()


@dataclass(frozen=True, kw_only=True)
class JsonLines(FolderSource):
    """`text_field` holds the text; `title_field` and `language_field` are used where they are there."""

    text_field: str = "text"
    title_field: str = "title"
    language_field: str | None = None
    patterns: tuple[str, ...] = field(default=with_compression(".jsonl", ".ndjson", ".json"), compare=False)
    name: str = "json-lines"

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        reader = open_text(stream, self.label(name), dropped, self.max_document_bytes)
        if reader is None:
            return
        for number, line in reader.lines():
            if not line.strip():
                continue
            row = _parse(line, reader, dropped)
            if row is _BROKEN:
                continue
            text = value_at(row, self.text_field)
            if not isinstance(text, str):
                dropped["no_text_field"] += 1
            elif not text.strip():
                dropped["empty"] += 1
            else:
                title = value_at(row, self.title_field)
                language = value_at(row, self.language_field) if self.language_field else None
                yield Found(
                    title if isinstance(title, str) and title else f"{name}:{number}",
                    number,
                    text,
                    language if isinstance(language, str) else "",
                )


def _parse(line: bytes, reader: TextReader, dropped: Counter[str]) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    text = reader.text(line)
    if text is None:
        return _BROKEN
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        dropped["not_json"] += 1
        return _BROKEN


def value_at(row: Any, path: str) -> Any:
    """The value of a field, or of "a.b" the field b of the object a; None if there is none."""
    if not isinstance(row, dict):
        return None
    if path in row or "." not in path:
        return row.get(path)
    first, _, rest = path.partition(".")
    return value_at(row.get(first), rest)
