"""Named evaluation sets: texts of files that no document of a corpus may hold (corpus/decontaminate.py)."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_=-]{0,60}")


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Texts that no document may hold. Made with `of`, which reads the files: their content names the set, not their path.

    `columns` are the fields of the rows (Parquet or JSON Lines) that hold texts or lists of texts.
    """

    name: str
    columns: tuple[str, ...]
    sha256: tuple[str, ...]
    files: tuple[str, ...] = field(compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} of an evaluation set is no file name; use letters, digits, '_', '-'"
            )
        if not self.columns or not self.files:
            raise ValueError(
                f"evaluation set {self.name!r} names no {'file' if self.columns else 'column'}; name one"
            )

    @staticmethod
    def of(name: str, files: Sequence[str], columns: Sequence[str]) -> "EvaluationSet":
        """The set that these files hold now."""
        digests = tuple(_sha256(f) for f in files)
        return EvaluationSet(name=name, columns=tuple(columns), sha256=digests, files=tuple(files))


def evaluation_texts(one: EvaluationSet) -> Iterator[str]:
    """Every text of a set. Raises ValueError if a file changed, lacks a column or is of another kind."""
    for file, sha256 in zip(one.files, one.sha256, strict=True):
        if _sha256(file) != sha256:
            raise ValueError(
                f"{file} of evaluation set {one.name!r} changed since it was named; run the command again"
            )
        for row in _rows(one, file):
            for column in one.columns:
                if column not in row:
                    raise ValueError(f"{file} has no column {column!r}; it has {', '.join(map(str, row))}")
                value = row[column]
                yield from (
                    [value] if isinstance(value, str) else (v for v in value or () if isinstance(v, str))
                )


def _rows(one: EvaluationSet, file: str) -> Iterator[dict[str, Any]]:
    if file.endswith(".parquet"):
        with pq.ParquetFile(file) as opened:
            names = [n for n in opened.schema_arrow.names if n in one.columns]
            for batch in opened.iter_batches(columns=names or opened.schema_arrow.names):
                yield from batch.to_pylist()
    elif file.endswith((".jsonl", ".json")):
        with Path(file).open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())
    else:
        raise ValueError(f"{file} of evaluation set {one.name!r} is neither .parquet nor .jsonl; convert it")


def _sha256(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(
            f"evaluation file {file} cannot be read ({error.strerror}); check the path"
        ) from None
