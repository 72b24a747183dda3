"""A token shard: the tokens of many documents in one Arrow file that is read by mapping it into memory.

One record batch, one row per document (Arrow IPC, uncompressed):

    document_id       fixed_size_binary[16]
    tokens            large_list<uint16>      without special tokens; uint32 above 65,536 entries
    sentence_lengths  large_list<int32>       in tokens; sentences without tokens are left out; sums to the row's tokens
    word_start        large_list<bool>        true at the first token of a word, for whole-word objectives
    language          dictionary<string>      BCP 47, "und" when nobody knows

The schema metadata names the tokenizer by its digest, so tokens are never read with another vocabulary, and says how
much the file holds. The bytes depend on the documents and the tokenizer alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.document import ID_BYTES
from corpus.ragged import offsets_of

SCHEMA_VERSION: Final = 2
_METADATA_KEY: Final = b"cloze"

Int64s = NDArray[np.int64]
Tokens = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class ShardColumns:
    """B documents in memory, as flat columns; arrays are named as those of TokenShard."""

    document_ids: NDArray[np.uint8]  # (B, 16)
    tokens_T: Tokens
    document_offsets: Int64s  # (B + 1,) into tokens, from 0
    sentence_lengths_S: NDArray[np.int32]
    document_sentences: Int64s  # (B + 1,) into sentences, from 0
    word_start_T: NDArray[np.bool_]
    languages: NDArray[np.str_]  # (B,)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.document_offsets) - 1

    def rows(self, first: int, last: int) -> "ShardColumns":
        """The documents [first, last), without a copy of their tokens."""
        tokens = self.document_offsets[first : last + 1]
        sentences = self.document_sentences[first : last + 1]
        return ShardColumns(
            document_ids=self.document_ids[first:last],
            tokens_T=self.tokens_T[tokens[0] : tokens[-1]],
            document_offsets=tokens - tokens[0],
            sentence_lengths_S=self.sentence_lengths_S[sentences[0] : sentences[-1]],
            document_sentences=sentences - sentences[0],
            word_start_T=self.word_start_T[tokens[0] : tokens[-1]],
            languages=self.languages[first:last],
        )

    @staticmethod
    def concat(parts: Sequence["ShardColumns"]) -> "ShardColumns":
        """All documents of one or more parts, one part after the other."""

        def joined(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        def offsets(name: str) -> Int64s:
            return offsets_of(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

        return ShardColumns(
            document_ids=joined("document_ids"),
            tokens_T=joined("tokens_T"),
            document_offsets=offsets("document_offsets"),
            sentence_lengths_S=joined("sentence_lengths_S"),
            document_sentences=offsets("document_sentences"),
            word_start_T=joined("word_start_T"),
            languages=joined("languages"),
        )

    @property
    def counts(self) -> dict[str, int]:
        """How much there is; `longest_sentence` in tokens."""
        return {
            "documents": len(self),
            "sentences": len(self.sentence_lengths_S),
            "words": int(np.count_nonzero(self.word_start_T)),
            "tokens": len(self.tokens_T),
            "longest_sentence": int(self.sentence_lengths_S.max(initial=0)),
        }

    def to_batch(self, *, vocab_size: int, tokenizer_digest: str) -> pa.RecordBatch:
        """The record batch of a shard file."""
        metadata = {
            "schema_version": SCHEMA_VERSION,
            "vocab_size": vocab_size,
            "tokenizer_digest": tokenizer_digest,
            "counts": self.counts,
        }
        names, codes = np.unique(self.languages, return_inverse=True)
        columns = {
            "document_id": _fixed(self.document_ids),
            "tokens": _lists(self.document_offsets, pa.array(self.tokens_T)),
            "sentence_lengths": _lists(self.document_sentences, pa.array(self.sentence_lengths_S)),
            "word_start": _lists(self.document_offsets, pa.array(self.word_start_T)),
            "language": pa.DictionaryArray.from_arrays(
                codes.astype(np.int32), pa.array(names.tolist(), pa.string())
            ),
        }
        fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
        schema = pa.schema(fields, metadata={_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
        return pa.record_batch(list(columns.values()), schema=schema)


def _lists(offsets: Int64s, values: pa.Array) -> pa.LargeListArray:
    item = pa.field("item", values.type, nullable=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, type=pa.large_list(item))


def _fixed(ids: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    data = pa.py_buffer(np.ascontiguousarray(ids))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(ID_BYTES), len(ids), [None, data])


def ids_of_column(column: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """(B, 16) the bytes of a column of ids, without a copy."""
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    begin = column.offset * ID_BYTES
    return data[begin : begin + len(column) * ID_BYTES].reshape(-1, ID_BYTES)


def write_shard(path: Path, batch: pa.RecordBatch) -> None:
    """Write the record batch as a shard file. Equal batches give equal bytes."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


class TokenShard:
    """A shard file, mapped into memory: opening costs milliseconds, and only what is touched is read.

    tokens_T            (T,) uint16 or uint32, all documents one after the other
    document_offsets    (B + 1,) int64 into tokens
    sentence_offsets    (S + 1,) int64 into tokens
    document_sentences  (B + 1,) int64 into sentences
    document_ids        (B, 16) uint8
    word_start_T        (T,) bool; unpacked on first use
    languages           (B,) str; unpacked on first use
    counts              documents, sentences, words, tokens, longest_sentence
    """

    def __init__(self, path: Path, batch: pa.RecordBatch, metadata: dict[str, Any]) -> None:
        self.path = path
        self.vocab_size: int = metadata["vocab_size"]
        self.tokenizer_digest: str = metadata["tokenizer_digest"]
        self.counts: dict[str, int] = metadata["counts"]
        self._batch = batch
        tokens, sentences = batch["tokens"], batch["sentence_lengths"]
        self.tokens_T: Tokens = tokens.values.to_numpy()
        self.document_offsets: Int64s = tokens.offsets.to_numpy()
        self.document_sentences: Int64s = sentences.offsets.to_numpy()
        self._sentence_lengths: NDArray[np.int32] = sentences.values.to_numpy()
        self.document_ids: NDArray[np.uint8] = ids_of_column(batch["document_id"])

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.document_offsets) - 1

    @staticmethod
    def open(path: Path, tokenizer_digest: str | None = None) -> "TokenShard":
        """Raises ValueError if the file is not a whole shard, or is of another tokenizer than `tokenizer_digest`."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = reader.num_record_batches
            batch = reader.get_batch(0) if batches else None
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path} is not a whole Arrow file ({error}); make the shard again") from None
        metadata = json.loads((reader.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        if metadata.get("schema_version") != SCHEMA_VERSION or "tokens" not in reader.schema.names:
            found = metadata.get("schema_version", "none")
            raise ValueError(
                f"{path} has shard schema {found}, this cloze reads {SCHEMA_VERSION}; make the shard again"
            )
        if batch is None or batches > 1:
            raise ValueError(
                f"{path} holds {batches} record batches, a shard holds one; make the shard again"
            )
        if tokenizer_digest is not None and metadata["tokenizer_digest"] != tokenizer_digest:
            raise ValueError(
                f"{path} was encoded by tokenizer {metadata['tokenizer_digest'][:12]}, not by {tokenizer_digest[:12]}; "
                "use the vocabulary it was made with, or make shards with this one"
            )
        return TokenShard(path, batch, metadata)

    @cached_property
    def sentence_offsets(self) -> Int64s:
        return offsets_of(self._sentence_lengths)

    @cached_property
    def word_start_T(self) -> NDArray[np.bool_]:
        return self._batch["word_start"].values.to_numpy(zero_copy_only=False)

    @cached_property
    def languages(self) -> NDArray[np.str_]:
        column = self._batch["language"]
        return np.array(column.dictionary.to_pylist(), np.str_)[column.indices.to_numpy()]

    def keep(self, documents: NDArray[np.bool_]) -> "TokenShard":
        """A copy in memory of only some documents, (B,) flags."""
        batch = self._batch.filter(pa.array(documents))
        metadata = {
            "vocab_size": self.vocab_size,
            "tokenizer_digest": self.tokenizer_digest,
            "counts": self.counts,
        }
        return TokenShard(self.path, batch, metadata)

    def tokens_of(self, document: int) -> Tokens:
        """(length,) the tokens of one document."""
        return self.tokens_T[self.document_offsets[document] : self.document_offsets[document + 1]]
