"""What objectives of encoder-decoders share: rows `<s> text </s>` out of a shard, filled in block by block.

Which tokens make a row is a type: DocSentences (packing.py), as many whole sentences of a document as fit, or EachSentence.
Either way a sentence longer than a row is cut into several, and no token is lost. Blocks keep the temporaries of whatever
is done to their rows in the cache; where they are cut is never visible.

Letters: B rows, C tokens of their text, T tokens with <s> and </s>.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import Bools
from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import Marks
from corpus.corruption.packing import DocSentences
from corpus.corruption.rows import Rows
from corpus.instance_kinds import NO_PAIR, Seq2SeqInstances
from corpus.ragged import Ints, blocks, offsets_of, ranges, rows_of, sums
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

# With 2^16 the calls of choose() weigh more: a third slower. From 2^18 on nothing changes.
BLOCK_TOKENS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class EachSentence:
    """Every sentence is a row."""

    def pack(self, shard: TokenShard, documents: Ints, room: int) -> RowRanges:
        """Rows of at most `room` tokens, <s> and </s> not counted."""
        sentences_D = shard.document_sentences[documents + 1] - shard.document_sentences[documents]
        sentence_S = ranges(shard.document_sentences[documents], sentences_D)
        start_S = shard.sentence_offsets[sentence_S]
        length_S = shard.sentence_offsets[sentence_S + 1] - start_S
        rows_S = -(-length_S // room)
        before_B = room * numbers(rows_S)[1]
        rows_D = sums(rows_S, offsets_of(sentences_D))
        return RowRanges(
            start_K=np.repeat(start_S, rows_S) + before_B,
            length_K=np.minimum(np.repeat(length_S, rows_S) - before_B, room),
            ranges_B=np.ones_like(before_B),
            pair_label_B=np.full(len(before_B), NO_PAIR),
            document_B=rows_of(rows_D),
            chunk_B=numbers(rows_D)[1],
        )


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some of the rows, filled in."""

    at: slice  # of all tokens
    rows: Rows
    inside_T: Bools  # everything but <s> and </s>
    where_C: slice | Ints  # in the shard

    def begins_T(self) -> Bools:
        """Where words begin. <s> and </s> are words, and so is what stands behind <s>: the rest of a word that was cut."""
        begins_T = np.ones(len(self.inside_T), np.bool_)
        begins_T[self.inside_T] = self.rows.shard.word_start_T[self.where_C]
        begins_T[self.rows.ranges.offsets[:-1] + 1] = True
        return begins_T


@dataclass(frozen=True, kw_only=True)
class Seq2SeqRows:
    """The rows of the documents asked for."""

    shard: TokenShard
    documents: Ints
    ranges: RowRanges  # one a row
    ids: Stream  # what instances are known by: the same under any seed
    stream: Stream  # what they draw from

    @classmethod
    def of(
        cls,
        shard: TokenShard,
        documents: Ints | None,
        packing: DocSentences | EachSentence,
        *,
        room: int,
        seed: int,
        pass_number: int,
    ) -> Self:
        """Of some documents (indices), or of all; keyed by (seed, pass, document, chunk)."""
        documents = np.arange(len(shard.document_ids)) if documents is None else documents
        made = packing.pack(shard, documents, room)
        content = Stream.of(0, "instance", pass_number, shard.document_ids[documents])
        ids = content.at(made.document_B).fold(made.chunk_B)
        stream = Stream.of(seed, "noise", pass_number, ids.keys_N)
        return cls(shard=shard, documents=documents, ranges=made, ids=ids, stream=stream)

    def empty(self) -> npt.NDArray[Any]:
        """(T,) room for the tokens."""
        return np.empty(self.ranges.offsets[-1], self.shard.tokens_T.dtype)

    def fill(self, out_T: npt.NDArray[Any], marks: Marks) -> Iterator[Block]:
        """Write the rows to `out_T`, block by block."""
        offsets = self.ranges.offsets
        for first, last in blocks(offsets, BLOCK_TOKENS):
            part, at = self.ranges.at(first, last), slice(int(offsets[first]), int(offsets[last]))
            inside_T, where_C = inside(part.offsets), _where(part.start_K, part.length_K)
            tokens_T = out_T[at]
            tokens_T[inside_T] = self.shard.tokens_T[where_C]
            tokens_T[part.offsets[:-1]] = marks.cls_id
            tokens_T[part.offsets[1:] - 1] = marks.sep_id
            stream = self.stream.at(slice(first, last))
            rows = Rows(tokens_T=tokens_T, ranges=part, stream=stream, shard=self.shard, marks=marks)
            yield Block(at=at, rows=rows, inside_T=inside_T, where_C=where_C)

    def instances(self, **columns: npt.NDArray[Any]) -> Seq2SeqInstances:
        """The instances, one a row, of the columns that the objective makes."""
        document = self.documents[self.ranges.document_B].astype(np.int32)
        return Seq2SeqInstances(instance_id=self.ids.keys_N, document=document, **columns)


def inside(offsets: Ints) -> Bools:
    """(T,) True at all but the first and the last token of each row."""
    inside_T = np.ones(offsets[-1], np.bool_)
    inside_T[offsets[:-1]] = False
    inside_T[offsets[1:] - 1] = False
    return inside_T


def numbers(count_B: Ints) -> tuple[Ints, Ints]:
    """(M,) the row of each of `count_B` things in a row, and its number there."""
    first_B = offsets_of(count_B)
    return rows_of(count_B), np.arange(first_B[-1]) - np.repeat(first_B[:-1], count_B)


def joined(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The blocks' columns as one."""
    return np.concatenate([np.zeros(0, dtype), *parts])


def check_length(max_seq_len: int, name: str) -> None:
    """Raises ValueError."""
    if not 3 <= max_seq_len <= 65536:
        raise ValueError(
            f"{name}.max_seq_len is {max_seq_len}; it must be 3 to 65536 (<s> and </s> count), e.g. 512"
        )


def _where(start_B: Ints, length_B: Ints) -> slice | Ints:
    """The shard's tokens of these rows. Mostly they lie one behind the other: then nothing need be gathered."""
    if np.array_equal(start_B[1:], start_B[:-1] + length_B[:-1]):
        return slice(int(start_B[0]), int(start_B[-1] + length_B[-1]))
    return ranges(start_B, length_B)
