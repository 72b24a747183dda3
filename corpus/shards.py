"""Documents -> token shards (shard_file.py) of a stated size, with their words, sentences and languages.

A part of the documents is one unit of work. It is read and encoded in slices of some megabytes of text and written
whenever a shard is full, so memory depends on the size of a shard and not on that of the part. Where a shard ends is a
function of the documents' token counts alone: neither slices nor restarts show in a file.

    p000.arrow                       a part that fits
    p001-000.arrow p001-001.arrow    one that does not: cut between documents, in order
    index.json                       what is in which file, for shard_index.py: nothing has to be opened to find out
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from corpus.ragged import offsets_of
from corpus.sentences import sentence_starts
from corpus.shard_file import ShardColumns, TokenShard, ids_of_column, write_shard
from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.open import shared_encoder_of
from corpus.words import apply_word_starts, unspaced_runs, word_starts

if TYPE_CHECKING:  # encoding needs no store
    import pyarrow.parquet as pq

    from infra.artifacts import Artifact, Counts
    from infra.output import Output, PartitionOutput

__all__ = ["ShardConfig", "TokenShard", "encode_documents", "shard", "write_shard"]

INDEX: Final = "index.json"
UNKNOWN_LANGUAGE: Final = "und"
SLICE_BYTES: Final = 8 << 20  # of text, encoded at a time


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """A shard has at most `max_tokens`; a document that has more is a shard by itself."""

    max_tokens: int = 1 << 24

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(
                f"ShardConfig.max_tokens is {self.max_tokens}; give the most tokens a file may hold, e.g. {1 << 24}"
            )


def shard(
    config: ShardConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    vocabulary: "Artifact",
    out: "Output",
) -> "Counts":
    """Encode the kept documents (None: all) of every part, with the languages of `attributes` (None: "und").

    Counts: shards (files), documents, sentences, words, tokens, unknown ([UNK] tokens).
    """
    from corpus.document import partition_files
    from corpus.rows import part_of
    from infra.output import total

    parts = {part_of(name): part_of(name) for name in partition_files(documents)}
    shared = {"documents": documents, "kept": kept, "attributes": attributes, "vocabulary": vocabulary}
    counts = out.map(shard_part, parts, config=config, **shared)
    out.write_json(INDEX, _index(counts))
    return total({p: {k: n for k, n in found.items() if ":" not in k} for p, found in counts.items()})


def _index(counts: "dict[str, Counts]") -> list[dict[str, str | int]]:
    """One entry per shard, in the order of parts and rows: name, part, and the counts of the file."""
    entries: dict[str, dict[str, str | int]] = {}
    for part, found in counts.items():
        for key, count in found.items():
            name, of_a_file, what = key.rpartition(":")
            if of_a_file:
                entries.setdefault(name, {"name": name, "part": part})[what] = count
    return list(entries.values())


def shard_part(
    part: str,
    *,
    out: "PartitionOutput",
    config: ShardConfig,
    documents: "Artifact",
    kept: "Artifact | None",
    attributes: "Artifact | None",
    vocabulary: "Artifact",
) -> "Counts":
    """Encode one part. Beside the totals, counts hold those of each file as "<file>:<what>"."""
    encoder = shared_encoder_of(vocabulary)
    encoded = (encode_columns(encoder, *texts) for texts in read_slices(documents, kept, attributes, part))
    totals = dict.fromkeys(("shards", "documents", "sentences", "words", "tokens", "unknown"), 0)
    files: Counts = {}
    for number, (columns, is_last) in enumerate(cut(encoded, config.max_tokens)):
        name = f"{part}.arrow" if is_last and not number else f"{part}-{number:03d}.arrow"
        with out.writer(name) as path:
            write_shard(path, _batch(encoder, columns))
        found = columns.counts
        files |= {f"{name}:{what}": count for what, count in found.items()}
        found |= {"shards": 1, "unknown": int(np.count_nonzero(columns.tokens_T == encoder.unk_id))}
        totals = {what: count + found[what] for what, count in totals.items()}
    return totals | files


Slice = tuple[pa.FixedSizeBinaryArray, pa.LargeStringArray, pa.StringArray]  # ids, texts, languages


def read_slices(
    documents: "Artifact", kept: "Artifact | None", attributes: "Artifact | None", part: str
) -> Iterator[Slice]:
    """The kept documents of a part, about SLICE_BYTES of text at a time; at least one slice, if only an empty one.

    Raises ValueError if the row list or the attributes belong to other documents.
    """
    import pyarrow.parquet as pq

    from corpus.rows import read_rows

    with pq.ParquetFile(documents.path(f"{part}.parquet")) as file:
        length = file.metadata.num_rows
        rows = np.arange(length) if kept is None else read_rows(kept, part)
        if len(rows) and rows[-1] >= length:
            raise ValueError(
                f"{part} of {documents.short} has {length} documents, but row {rows[-1]} is kept; "
                "give the row list that was made from these documents"
            )
        languages = pa.repeat(pa.scalar(UNKNOWN_LANGUAGE), length)
        if attributes is not None:
            languages = pq.read_table(attributes.path(f"{part}.parquet"), columns=["language"])["language"]
            if len(languages) != length:
                raise ValueError(
                    f"{part} of {documents.short} has {length} documents, but {len(languages)} attributes; "
                    "give those that were made from these documents"
                )
            languages = languages.cast(pa.string()).fill_null(UNKNOWN_LANGUAGE).combine_chunks()
        first = 0
        for batch in file.iter_batches(_rows_of_a_slice(file), columns=["id", "text"]):
            chosen = rows[slice(*np.searchsorted(rows, (first, first + len(batch))))]
            read = batch if len(chosen) == len(batch) else batch.take(pa.array(chosen - first))
            yield read["id"], read["text"], languages.take(pa.array(chosen))
            first += len(batch)
    if not length:
        yield pa.array([], pa.binary(16)), pa.array([], pa.large_string()), pa.array([], pa.string())


def _rows_of_a_slice(file: "pq.ParquetFile") -> int:
    metadata = file.metadata
    text = metadata.schema.names.index("text")
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(g).column(text).total_uncompressed_size for g in groups)
    return max(1, metadata.num_rows * SLICE_BYTES // max(size, 1))


def encode_documents(
    encoder: Encoder,
    ids: pa.FixedSizeBinaryArray,
    texts: pa.LargeStringArray,
    languages: pa.StringArray | None = None,
) -> pa.RecordBatch:
    """(B,) ids, texts and languages (None: "und") -> the record batch of a shard."""
    return _batch(encoder, encode_columns(encoder, ids, texts, languages))


def _batch(encoder: Encoder, columns: ShardColumns) -> pa.RecordBatch:
    return columns.to_batch(vocab_size=encoder.vocab_size, tokenizer_digest=encoder.digest)


def encode_columns(
    encoder: Encoder,
    ids: pa.FixedSizeBinaryArray,
    texts: pa.LargeStringArray,
    languages: pa.StringArray | None = None,
) -> ShardColumns:
    """(B,) ids, texts and languages -> their tokens. A text's tokens do not depend on where its sentences end.

    In scripts without spaces words are those of a segmenter (corpus/words.py), elsewhere those of the tokenizer.
    """
    starts_S, document_S = sentence_starts(texts, languages)
    runs = unspaced_runs(texts, languages)
    encoded = encoder.encode(texts, starts_S, token_starts=bool(len(runs)))
    word_start_T = encoded.word_start_T
    if len(runs):
        segmented = word_starts(texts, languages, runs)
        word_start_T = apply_word_starts(encoded.token_starts_T, word_start_T, segmented, runs)
    lengths_S = np.diff(encoded.mark_offsets, append=len(encoded.tokens_T))
    kept = lengths_S > 0
    tags = [UNKNOWN_LANGUAGE] * len(texts) if languages is None else languages.to_pylist()
    return ShardColumns(
        document_ids=ids_of_column(ids),
        tokens_T=encoded.tokens_T,
        document_offsets=encoded.offsets,
        sentence_lengths_S=lengths_S[kept].astype(np.int32),
        document_sentences=offsets_of(np.bincount(document_S[kept], minlength=len(texts))),
        word_start_T=word_start_T,
        languages=np.array(tags, np.str_),
    )


def cut(parts: Iterable[ShardColumns], max_tokens: int) -> Iterator[tuple[ShardColumns, bool]]:
    """Documents that come in parts of any size -> (a shard's documents, whether it is the last), at least one shard.

    A shard is full when the next document would make it longer than `max_tokens`.
    """
    held: list[ShardColumns] = []
    documents = tokens = 0
    for part in parts:
        held.append(part.rows(0, 0))  # so that there is something to join when no part has documents
        while len(part):
            fits = int(np.searchsorted(part.document_offsets[1:], max_tokens - tokens, side="right"))
            fits = fits or int(not documents)  # a longer document than fits is a shard by itself
            held.append(part.rows(0, fits))
            documents += fits
            tokens += int(part.document_offsets[fits])
            part = part.rows(fits, len(part))
            if len(part):
                yield ShardColumns.concat(held), False
                held, documents, tokens = [], 0, 0
    yield ShardColumns.concat(held), True
