"""Token shards: the tokens of many documents in one Arrow file that is read by mapping it into memory.

One file per documents partition, one record batch, one row per document (Arrow IPC, uncompressed):

    document_id       fixed_size_binary[16]
    tokens            large_list<uint16>      without special tokens; uint32 above 65,536 entries
    sentence_lengths  large_list<int32>       in tokens; sentences without tokens are left out; sums to the row's tokens
    word_start        large_list<bool>        true at the first token of a word, for whole-word objectives

The schema metadata names the tokenizer by its digest, so tokens are never read with another vocabulary.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.ragged import offsets_of
from corpus.sentences import sentence_starts
from corpus.wordpiece.encode import Encoder

if TYPE_CHECKING:  # reading and writing shard files needs no store
    from infra.artifacts import Artifact, Counts
    from infra.output import Output, PartitionOutput

SCHEMA_VERSION: Final = 1
_METADATA_KEY: Final = b"cloze"

Int64s = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Nothing to choose: documents and vocabulary determine their shards."""


def shard(config: ShardConfig, *, documents: "Artifact", vocabulary: "Artifact", out: "Output") -> "Counts":
    """Encode every document: `<partition>.arrow` for each partition of `documents`.

    Counts: documents, sentences, words, tokens, unknown ([UNK] tokens).
    """
    from corpus.document import partition_files
    from infra.output import total

    parts = {name.removesuffix(".parquet"): name for name in partition_files(documents)}
    return total(out.map(shard_partition, parts, documents=documents, vocabulary=vocabulary))


def shard_partition(
    name: str, *, out: "PartitionOutput", documents: "Artifact", vocabulary: "Artifact"
) -> "Counts":
    """Encode one file of documents."""
    from corpus.document import read_documents

    table = read_documents(documents, name, ["id", "text"]).combine_chunks()
    encoder = _encoder_of(vocabulary)
    batch = encode_documents(encoder, table["id"].combine_chunks(), table["text"].combine_chunks())
    with out.writer(f"{out.id}.arrow") as path:
        write_shard(path, batch)
    tokens = batch["tokens"].values.to_numpy()
    return {
        "documents": batch.num_rows,
        "sentences": len(batch["sentence_lengths"].values),
        "words": batch["word_start"].values.true_count,
        "tokens": len(tokens),
        "unknown": int((tokens == encoder.unk_id).sum()),
    }


_encoders: dict[str, Encoder] = {}


def _encoder_of(vocabulary: "Artifact") -> Encoder:
    """This process's encoder, so that a partition finds the words that earlier ones have met (twice as fast)."""
    if vocabulary.digest not in _encoders:
        _encoders.clear()
        _encoders[vocabulary.digest] = Encoder.from_artifact(vocabulary)
    return _encoders[vocabulary.digest]


def encode_documents(
    encoder: Encoder, ids: pa.FixedSizeBinaryArray, texts: pa.LargeStringArray
) -> pa.RecordBatch:
    """(B,) ids and texts -> the record batch of a shard. A text's tokens do not depend on where its sentences end."""
    starts_S, document_S = sentence_starts(texts)
    encoded = encoder.encode(texts, starts_S)
    lengths_S = np.diff(encoded.mark_offsets, append=len(encoded.tokens_T))
    kept = lengths_S > 0
    sentences_B = np.bincount(document_S[kept], minlength=len(texts))
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "vocab_size": encoder.vocab_size,
        "tokenizer_digest": encoder.digest,
    }
    columns = {
        "document_id": ids,
        "tokens": _lists(encoded.offsets, pa.array(encoded.tokens_T)),
        "sentence_lengths": _lists(offsets_of(sentences_B), pa.array(lengths_S[kept].astype(np.int32))),
        "word_start": _lists(encoded.offsets, pa.array(encoded.word_start_T)),
    }
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    schema = pa.schema(fields, metadata={_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    return pa.record_batch(list(columns.values()), schema=schema)


def _lists(offsets: Int64s, values: pa.Array) -> pa.LargeListArray:
    item = pa.field("item", values.type, nullable=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, type=pa.large_list(item))


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
    """

    def __init__(self, path: Path, batch: pa.RecordBatch, metadata: dict[str, Any]) -> None:
        self.path = path
        self.vocab_size: int = metadata["vocab_size"]
        self.tokenizer_digest: str = metadata["tokenizer_digest"]
        self._batch = batch
        tokens, sentences = batch["tokens"], batch["sentence_lengths"]
        self.tokens_T: NDArray[np.uint16] | NDArray[np.uint32] = tokens.values.to_numpy()
        self.document_offsets: Int64s = tokens.offsets.to_numpy()
        self.document_sentences: Int64s = sentences.offsets.to_numpy()
        self._sentence_lengths: NDArray[np.int32] = sentences.values.to_numpy()
        ids = np.frombuffer(batch["document_id"].buffers()[1] or b"", np.uint8)
        self.document_ids: NDArray[np.uint8] = ids[: 16 * batch.num_rows].reshape(-1, 16)

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

    def tokens_of(self, document: int) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """(length,) the tokens of one document."""
        return self.tokens_T[self.document_offsets[document] : self.document_offsets[document + 1]]
