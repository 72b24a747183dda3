"""Rows of whole sentences: RoBERTa's FULL-SENTENCES and DOC-SENTENCES (Liu et al. 2019, section 4.2),
SpanBERT's rows.

Sentences are taken as long as they fit, in the order of the text; the one that does not fit begins the next
row.

    documents        |--a--|-b-|---c---|   |d|--e--|-f-|
    DocSentences     [CLS] a b [SEP]  [CLS] c [SEP]  [CLS] d e [SEP]  [CLS] f [SEP]
    FullSentences    [CLS] a b [SEP]  [CLS] c [SEP] d [SEP]  [CLS] e f [SEP]

FULL-SENTENCES crosses borders of documents, with a separator. The rule here: the documents of one shard in
their order in the shard, from the first sentence to the last, the same rows in every pass, and never beyond
the shard. So which rows there are is a function of the shard's content alone (RoBERTa too cuts its text once,
and only masks anew). A row belongs to the document in which it begins: asking for some documents gives the
rows that begin in them, and a document that lies within other rows has none. To find them the whole shard's
sentence lengths are read, about 5 ns a token; its tokens are not.

A sentence longer than a row is cut into rows of its own; the rest of it begins the next row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpus.corruption.layout import RowRanges
from corpus.instance_kinds import NO_PAIR
from corpus.ragged import Ints, offsets_of, ranges, rows_of

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class DocSentences:
    """No row crosses the border of a document.

    `drop_long` leaves out sentences longer than a row, as SpanBERT does; the text before and after is not
    joined.
    """

    drop_long: bool = False

    def pack(self, shard: TokenShard, documents: Ints, room: int) -> RowRanges:
        """Rows of at most `room` tokens, special ones not counted."""
        pieces = _pieces(shard, documents, room, self.drop_long)
        ends = offsets_of(pieces.length)
        begin = np.flatnonzero(pieces.begins_run)
        end, starts = np.append(begin[1:], len(pieces.length))[: len(begin)], [begin]
        while begin.size:  # all runs of text in lock-step, one row at a time
            begin = np.searchsorted(ends[1:], ends[begin] + room, side="right")
            live = begin < end
            begin, end = begin[live], end[live]
            starts.append(begin)
        first = np.sort(np.concatenate(starts))
        stop = np.append(first[1:], len(pieces.length))[: len(first)]
        document = pieces.document[first]
        return RowRanges(
            start_K=pieces.start[first],
            length_K=ends[stop] - ends[first],
            ranges_B=np.ones_like(first),
            pair_label_B=np.full(len(first), NO_PAIR),
            document_B=document,
            chunk_B=_number_in(document),
        )


@dataclass(frozen=True, kw_only=True)
class FullSentences:
    """Rows go on in the next document of the shard, after a separator."""

    def pack(self, shard: TokenShard, documents: Ints, room: int) -> RowRanges:
        """Rows of at most `room` tokens that begin in the given documents; separators within a row are
        counted.
        """
        pieces = _pieces(shard, np.arange(len(shard.document_ids)), room, drop_long=False)
        border = pieces.begins_run
        # where each piece ends on a line on which a document's border is one token wide
        end_P = np.cumsum(pieces.length + border)
        start_P = end_P - pieces.length
        first = _chain(np.searchsorted(end_P, start_P + room, side="right"))
        begins_row = np.zeros(len(border), np.bool_)
        begins_row[first] = True
        range_first = np.flatnonzero(border | begins_row)
        made = RowRanges(
            start_K=pieces.start[range_first],
            length_K=np.add.reduceat(pieces.length, range_first) if range_first.size else range_first,
            ranges_B=np.diff(np.searchsorted(range_first, np.append(first, len(border)))),
            pair_label_B=np.full(len(first), NO_PAIR),
            document_B=pieces.document[first],
            chunk_B=_number_in(pieces.document[first]),
        )
        return _beginning_in(made, documents)


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """P sentences, or parts of sentences longer than a row."""

    start: Ints  # (P,) into the shard's tokens
    length: Ints
    document: Ints  # index among the documents asked for
    begins_run: np.ndarray[tuple[int], np.dtype[np.bool_]]  # whether the piece before is not the text before


def _pieces(shard: TokenShard, documents: Ints, room: int, drop_long: bool) -> _Pieces:
    first, last = shard.document_sentences[documents], shard.document_sentences[documents + 1]
    sentence = ranges(first, last - first)
    start = shard.sentence_offsets[sentence]
    length = shard.sentence_offsets[sentence + 1] - start
    document = rows_of(last - first)
    if drop_long:
        stays = length <= room
        run = document + np.cumsum(~stays)
        start, length, document, run = start[stays], length[stays], document[stays], run[stays]
    else:
        run = document
        parts = -(-length // room)
        if parts.max(initial=1) > 1:
            nth = ranges(np.zeros_like(parts), parts)
            start, length, document, run = (np.repeat(x, parts) for x in (start, length, document, run))
            start = start + nth * room
            length = np.minimum(length - nth * room, room)
    begins_run = np.diff(run, prepend=-1) > 0
    return _Pieces(start=start, length=length, document=document, begins_run=begins_run)


def _chain(next_P: Ints) -> Ints:
    """0, next[0], next[next[0]] ...: where rows begin, each where the one before ends.

    The one walk that cannot be done for all rows at once; as a list it costs 2 ns a token.
    """
    follow, at, found = next_P.tolist(), 0, []
    while at < len(follow):
        found.append(at)
        at = follow[at]
    return np.array(found, np.int64)


def _number_in(document_B: Ints) -> Ints:
    """Ascending documents -> each row's number in its document."""
    return np.arange(len(document_B)) - np.searchsorted(document_B, document_B)


def _beginning_in(made: RowRanges, documents: Ints) -> RowRanges:
    """The rows that begin in these documents, in their order."""
    first = np.searchsorted(made.document_B, documents)
    count = np.searchsorted(made.document_B, documents, side="right") - first
    row = ranges(first, count)
    taken = ranges(made.range_offsets[row], made.ranges_B[row])
    return RowRanges(
        start_K=made.start_K[taken],
        length_K=made.length_K[taken],
        ranges_B=made.ranges_B[row],
        pair_label_B=made.pair_label_B[row],
        document_B=rows_of(count),
        chunk_B=made.chunk_B[row],
    )
