"""What a left-to-right language model reads (GPT, GPT-2): text as it is, cut into rows.

A document is `begin` tokens `end`, in GPT-2 both <|endoftext|>. Each row but a document's first begins with
the last token of the row before, so that every token, the end too, is predicted exactly once, from what is to
its left in its row:

    document        B  a  b  c  d  e  f  g  E         max_seq_len 4, sentences "a b", "c d e", "f g"
    Blocks          B  a  b  c
                             c  d  e  f
                                      f  g  E
    WholeSentences  B  a  b
                          b  c  d  e
                                   e  f  g  E
    AcrossDocuments (B) a b c  c d e f  f g E h  h i ...        h i ... is the next document; its B is this E

Blocks is the default: a row holds one document. AcrossDocuments is what GPT-2 and most since were trained on:
rows are full, and attention reaches into the document before; the documents of a shard follow each other in
its order, and nothing goes beyond the shard. A row belongs to the document that its first token is of: asking
for some documents gives the rows that begin in them.

There is no noise: seeds change nothing, and further passes only the instances' ids.

Letters: `D` documents, `S` sentences, `R` rows, `N` tokens of documents between their marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.masking import Marks
from corpus.instance_kinds import CausalInstances, Tokens
from corpus.ragged import Ints, offsets_of, ranges, rows_of, sums
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """As many tokens of a document as a row holds."""


@dataclass(frozen=True, kw_only=True)
class WholeSentences:
    """As many sentences of a document as fit; one that is longer than a row is cut into rows of its own."""


@dataclass(frozen=True, kw_only=True)
class AcrossDocuments:
    """As many tokens as a row holds, of one document after the other."""


@dataclass(frozen=True, kw_only=True)
class CausalObjective:
    """`begin` and `end` are the vocabulary's `cls_id` and `sep_id`; `max_seq_len` counts them.

    With `begin_mark=False` a document begins with its first token, which is then never predicted (GPT, and
    scripts that do not put the mark there); across documents this concerns the shard's first alone.
    """

    makes: ClassVar = CausalInstances
    uses_mask: ClassVar = False

    max_seq_len: int = 1024
    rows: Blocks | WholeSentences | AcrossDocuments = Blocks()
    begin_mark: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{type(self).__name__}.max_seq_len is {self.max_seq_len}; it must be 2 to 65536 (one token predicts another)"
            )

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> CausalInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way."""
        everything = np.arange(len(shard.document_ids))
        asked = everything if documents is None else documents
        across = isinstance(self.rows, AcrossDocuments)
        framed = everything if across else asked
        tokens_N, bounds = _framed(shard, marks, framed, begin_mark=self.begin_mark, once=across)
        step = self.max_seq_len - 1  # tokens that a row predicts
        if isinstance(self.rows, AcrossDocuments):
            begin, length, document = _beginning_in(asked, *_across(bounds, step))
        elif isinstance(self.rows, Blocks):
            begin, length, document = _blocks(bounds, step)
        else:
            begin, length, document = _whole_sentences(shard, asked, bounds, step, self.begin_mark)
        rows_D = np.diff(np.searchsorted(document, np.arange(len(asked) + 1)))
        keys = Stream.of(0, "instance", pass_number, shard.document_ids[asked]).at(document)
        return CausalInstances(
            tokens=_cut(tokens_N, begin, length),
            offsets=offsets_of(length),
            instance_id=keys.fold(ranges(np.zeros_like(rows_D), rows_D)).keys_N,
            document=asked[document].astype(np.int32),
        )


def _framed(
    shard: TokenShard, marks: Marks, documents: Ints, *, begin_mark: bool, once: bool
) -> tuple[Tokens, Ints]:
    """(N,) the documents between their marks, one after the other, and (D + 1,) where each begins; empty ones
    have none.

    With `once` a mark before the first of them is enough, for the others have the end of the one before.
    """
    own_D = np.diff(shard.document_offsets)[documents]
    filled = np.flatnonzero(own_D)
    edges = offsets_of(own_D)
    kept = np.ones((len(filled), 2), np.bool_)  # of each document: the mark before it, the end behind it
    kept[:, 0] = begin_mark
    if once:
        kept[1:, 0] = False
    place = np.stack([edges[filled], edges[filled + 1]], 1)
    mark = np.broadcast_to(np.array([marks.cls_id, marks.sep_id], shard.tokens_T.dtype), kept.shape)
    marks_D = np.zeros_like(own_D)
    marks_D[filled] = kept.sum(1)
    text_N = _text(shard, documents, own_D)
    return np.insert(text_N, place[kept], mark[kept]), offsets_of(own_D + marks_D)


def _text(shard: TokenShard, documents: Ints, own_D: Ints) -> Tokens:
    """(N,) the documents' tokens; where they lie one behind the other, as all of them do, without a copy."""
    first = shard.document_offsets[documents]
    if np.array_equal(first[1:], first[:-1] + own_D[:-1]):
        begin = int(first[0]) if len(first) else 0
        return shard.tokens_T[begin : begin + int(own_D.sum())]
    return shard.tokens_T[ranges(first, own_D)]


def _cut(tokens_N: Tokens, begin_R: Ints, length_R: Ints) -> Tokens:
    """The tokens of rows. Mostly they cover a text from end to end, each beginning with the last token of the one before."""
    if len(begin_R) and begin_R[0] == 0 and begin_R[-1] + length_R[-1] == len(tokens_N):
        before, to_next = begin_R[:-1] + length_R[:-1], begin_R[1:]
        if (to_next >= before - 1).all() and (to_next <= before).all():
            again = to_next[to_next < before]
            return np.insert(tokens_N, again, tokens_N[again])
    return tokens_N[ranges(begin_R, length_R)]


def _blocks(bounds: Ints, step: int) -> tuple[Ints, Ints, Ints]:
    """(R,) where rows begin, their lengths, the documents that they are of."""
    predicted_D = np.maximum(np.diff(bounds) - 1, 0)
    rows_D = -(-predicted_D // step)
    document_R, number_R = rows_of(rows_D), ranges(np.zeros_like(rows_D), rows_D)
    length_R = np.minimum(predicted_D[document_R] - number_R * step, step) + 1
    return bounds[document_R] + number_R * step, length_R, document_R


def _across(bounds: Ints, step: int) -> tuple[Ints, Ints, Ints]:
    """The same, for all documents as one text."""
    begin_R, length_R, _ = _blocks(bounds[[0, -1]], step)
    return begin_R, length_R, np.searchsorted(bounds, begin_R, side="right") - 1


def _beginning_in(asked: Ints, begin_R: Ints, length_R: Ints, document_R: Ints) -> tuple[Ints, Ints, Ints]:
    """Of the rows of all documents those that begin in the ones asked for, in their order."""
    first_D = np.searchsorted(document_R, asked)
    count_D = np.searchsorted(document_R, asked, side="right") - first_D
    row = ranges(first_D, count_D)
    return begin_R[row], length_R[row], rows_of(count_D)


def _whole_sentences(
    shard: TokenShard, documents: Ints, bounds: Ints, step: int, begin_mark: bool
) -> tuple[Ints, Ints, Ints]:
    """As _blocks; documents walk in lock-step, one row at a time."""
    sentences_D = np.diff(shard.document_sentences)[documents]
    sentence_S = ranges(shard.document_sentences[documents], sentences_D)
    # what rows predict: sentences, the end with the last one; nothing predicts a first token that no mark stands before
    predicted_S = np.diff(shard.sentence_offsets)[sentence_S]
    spoken_D = np.flatnonzero(sentences_D)
    edges = offsets_of(sentences_D)
    predicted_S[edges[1:][spoken_D] - 1] += 1
    predicted_S[edges[:-1][spoken_D]] -= not begin_mark
    parts_S = np.maximum(1, -(-predicted_S // step))
    number = ranges(np.zeros_like(parts_S), parts_S)
    predicted_P = np.minimum(np.repeat(predicted_S, parts_S) - number * step, step)
    ends, edges = offsets_of(predicted_P), offsets_of(sums(parts_S, edges))
    begins_P = np.zeros(len(predicted_P), np.bool_)
    first, last = edges[:-1][spoken_D], edges[1:][spoken_D]
    while first.size:
        begins_P[first] = True
        first = np.minimum(np.searchsorted(ends, ends[first] + step, side="right") - 1, last)
        first, last = first[first < last], last[first < last]
    first_R = np.flatnonzero(begins_P)
    document_R = np.searchsorted(edges, first_R, side="right") - 1
    length_R = np.diff(ends[first_R], append=ends[-1]) + 1
    return bounds[document_R] + ends[first_R] - ends[edges[document_R]], length_R, document_R
