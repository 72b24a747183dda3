"""Document n and token n of a corpus of any number of generations, without scanning, and from there back to the line.

    generation   0                     1          given in order; each has an index.json with the counts of its files
    file         p000.arrow p001.arrow p000.arrow ...
    documents    0 ... 4    5 ... 9    10 ...     numbered through, so older numbers never change
    tokens       0 ...

Making the index reads one small file per generation and opens no shard; a lookup is a bisection over files, and then
over the offsets of one mapped file. A shard keeps the documents' order, so the row of a document in its part is its
number among the kept rows: no id has to be searched for.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from corpus.document import SCHEMA, Document
from corpus.ragged import Ints, offsets_of
from corpus.rows import read_rows
from corpus.shard_file import Tokens, TokenShard
from corpus.shards import INDEX
from infra.artifacts import Artifact
from infra.read_ahead import read_files_ahead

OPEN_FILES: Final = 256  # mapped at a time


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard file. `row` is the number of its first document among the kept ones of its part."""

    artifact: Artifact
    name: str
    part: str
    row: int
    documents: int
    sentences: int
    words: int
    tokens: int
    longest_sentence: int


class DocumentAt(NamedTuple):
    """A document: the number of its file in `ShardIndex.files`, and its row there."""

    file: int
    row: int


class TokenAt(NamedTuple):
    """A token: its file, the row of its document there, and its place in that document."""

    file: int
    row: int
    token: int


class Origin(NamedTuple):
    """Where a document's text is: row `row` of the part `part` of a documents artifact."""

    documents: Artifact
    part: str
    row: int


class ShardIndex:
    """All shards of finished `shard` steps, one artifact per generation, in order."""

    def __init__(self, *shards: Artifact) -> None:
        self.files = tuple(entry for artifact in shards for entry in _entries(artifact))
        self._documents = offsets_of(np.array([f.documents for f in self.files], np.int64))
        self._tokens = offsets_of(np.array([f.tokens for f in self.files], np.int64))
        self._open: dict[int, TokenShard] = {}
        self._rows: dict[tuple[str, str], Ints] = {}

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._documents[-1])

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self._tokens[-1])

    def documents_at(self, numbers: Ints) -> tuple[Ints, Ints]:
        """(B,) document numbers -> their files and rows there. Raises IndexError."""
        _check(numbers, len(self), "document")
        file = np.searchsorted(self._documents, numbers, side="right") - 1
        return file, numbers - self._documents[file]

    def document_at(self, number: int) -> DocumentAt:
        """Where document `number` is. Raises IndexError."""
        file, row = self.documents_at(np.array([number]))
        return DocumentAt(int(file[0]), int(row[0]))

    def token_at(self, number: int) -> TokenAt:
        """Where token `number` is. Opens one shard. Raises IndexError."""
        _check(np.array([number]), self.tokens, "token")
        file = int(np.searchsorted(self._tokens, number, side="right")) - 1
        rest = number - int(self._tokens[file])
        offsets = self.shard(file).document_offsets
        row = int(np.searchsorted(offsets, rest, side="right")) - 1
        return TokenAt(file, row, rest - int(offsets[row]))

    def number(self, file: int, row: int) -> int:
        """The number of the document in that row of that file: the inverse of `document_at`."""
        if not 0 <= row < self.files[file].documents:
            raise IndexError(
                f"{self.files[file].name} has {self.files[file].documents} documents, no row {row}"
            )
        return int(self._documents[file]) + row

    def shard(self, file: int) -> TokenShard:
        """The shard, mapped; verified when this process first opens it."""
        found = self._open.pop(file, None)
        if found is None:
            entry = self.files[file]
            found = TokenShard.open(entry.artifact.path(entry.name))
        if len(self._open) >= OPEN_FILES:  # a dict keeps the order: the first was used least recently
            del self._open[next(iter(self._open))]
        self._open[file] = found
        return found

    def tokens_of(self, number: int) -> Tokens:
        """(length,) the tokens of document `number`."""
        file, row = self.document_at(number)
        return self.shard(file).tokens_of(row)

    def read_ahead(self, files: Iterable[int], *, ahead: int = 2) -> Iterator[tuple[int, TokenShard]]:
        """The shards of these files in this order, the next ones fetched and verified meanwhile (infra/read_ahead.py)."""
        order: deque[int] = deque()

        def wanted() -> Iterator[tuple[Artifact, str]]:
            for file in files:
                order.append(file)
                yield self.files[file].artifact, self.files[file].name

        with closing(read_files_ahead(wanted(), ahead=ahead)) as found:
            for _, _, path in found:
                yield order.popleft(), TokenShard.open(path)

    def where(self, number: int) -> Origin:
        """The row of the documents that document `number` was made of."""
        file, row = self.document_at(number)
        entry = self.files[file]
        inputs = entry.artifact.inputs
        row += entry.row
        if "kept" in inputs:
            key = inputs["kept"].digest, entry.part
            if key not in self._rows:
                self._rows = {
                    key: read_rows(inputs["kept"], entry.part)
                }  # the last one: lookups come in runs
            row = int(self._rows[key][row])
        return Origin(inputs["documents"], entry.part, row)

    def document(self, number: int) -> Document:
        """Document `number` with its text, and the source, file and position that it came from."""
        origin = self.where(number)
        found = _read_row(origin)
        file, row = self.document_at(number)
        if found.id != bytes(self.shard(file).document_ids[row]):
            raise ValueError(
                f"row {origin.row} of {origin.part} in {origin.documents.short} is not document {number} of the shards; "
                "run `cloze verify` on both"
            )
        return found


def _entries(artifact: Artifact) -> Iterator[ShardEntry]:
    if INDEX not in artifact.names():
        raise ValueError(f"{artifact.short} has no {INDEX}, so it was made by an older cloze; make it again")
    rows: dict[str, int] = {}
    for counts in artifact.read_json(INDEX):
        row = rows.get(counts["part"], 0)
        rows[counts["part"]] = row + counts["documents"]
        yield ShardEntry(artifact=artifact, row=row, **counts)


def _check(numbers: Ints, count: int, what: str) -> None:
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise IndexError(
            f"{what} {numbers.min()} to {numbers.max()} asked for; there are {count}, numbered from 0"
        )


def _read_row(origin: Origin) -> Document:
    """One row of a Parquet file: only the row group that holds it is read."""
    with pq.ParquetFile(origin.documents.path(f"{origin.part}.parquet")) as file:
        sizes = np.array([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)], np.int64)
        first = offsets_of(sizes)
        group = int(np.searchsorted(first, origin.row, side="right")) - 1
        begin = int(first[group])
        for batch in file.iter_batches(1024, row_groups=[group], columns=SCHEMA.names):
            if origin.row < begin + len(batch):
                return Document(**batch.slice(origin.row - begin, 1).to_pylist()[0])
            begin += len(batch)
    raise AssertionError("the row is in its group")
