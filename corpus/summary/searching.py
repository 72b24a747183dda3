"""Texts that hold a word or match a regular expression: Arrow's kernels over batches, so memory is one batch."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.document import SCHEMA
from corpus.rows import Rows
from corpus.summary.texts import Corpus, Rowed, Wanted, languages_of, parts

BATCH_ROWS = 512
_GROUP = "cloze_match"

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What to look for: the text itself, or a regular expression (RE2's: linear time, no look-around, and
    in `\\w` and `\\b` only ASCII letters count; `\\pL` is any letter)."""

    text: str
    regex: bool = False
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("the text to search for is empty; give a word, or a pattern with --regex")
        try:
            self.count(pa.array([""], pa.large_string()))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{self.text!r} is no regular expression ({error}); leave out --regex to search for it as it is"
            ) from None

    @property
    def expression(self) -> str:
        """As a regular expression; documents are composed (NFC), so what is looked for is too."""
        text = unicodedata.normalize("NFC", self.text)
        return ("(?i)" if self.ignore_case else "") + (text if self.regex else re.escape(text))

    def count(self, texts: pa.Array) -> pa.Array:
        """(B,) how often each text holds it, without overlaps."""
        if self.regex or self.ignore_case:
            return pc.count_substring_regex(texts, self.expression)
        return pc.count_substring(texts, unicodedata.normalize("NFC", self.text))

    def first(self, text: str) -> tuple[int, int]:
        """Where the first match begins and ends in a text that holds one, in characters."""
        one = pa.array([text], pa.large_string())
        begin = pc.find_substring_regex(one, self.expression)[0].as_py()
        match = pc.extract_regex(one, f"(?P<{_GROUP}>{self.expression})")[0][_GROUP].as_py()
        characters = len(text.encode()[:begin].decode())
        return characters, characters + len(match)


def search(corpus: Corpus, wanted: Wanted, pattern: Pattern) -> Iterator[tuple[Record, int]]:
    """(document, how often it holds the pattern), in the order of generations and ids."""
    for found in parts(corpus, wanted):
        languages = languages_of(found.text, found.part)
        for rows, batch, counts in _counted(found, pattern, SCHEMA.names):
            for n in np.flatnonzero(counts).tolist():
                record = batch.slice(n, 1).to_pylist()[0] | {"language": languages[int(rows[n])].as_py()}
                yield record | {"id": record["id"].hex(), "generation": found.text.number}, int(counts[n])


def count(corpus: Corpus, wanted: Wanted, pattern: Pattern) -> tuple[int, int]:
    """(documents that hold the pattern, how often in all)."""
    documents = times = 0
    for found in parts(corpus, wanted):
        for _, _, counts in _counted(found, pattern, ["text"]):
            documents += int((counts > 0).sum())
            times += int(counts.sum())
    return documents, times


def _counted(
    found: Rowed, pattern: Pattern, columns: list[str]
) -> Iterator[tuple[Rows, pa.RecordBatch, Any]]:
    """Some of the rows at a time: their numbers, their documents, and how often each text holds the pattern."""
    if not len(found.rows):
        return
    with pq.ParquetFile(found.text.documents.path(f"{found.part}.parquet")) as file:
        first = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            inside = found.rows[slice(*np.searchsorted(found.rows, (first, first + len(batch))))]
            if len(inside):
                taken = batch.take(pa.array(inside - first))
                yield inside, taken, pattern.count(taken["text"]).to_numpy()
            first += len(batch)
