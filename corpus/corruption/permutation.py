"""XLNet's objective: predict tokens in a random order of factorisation (Yang et al. 2019, arXiv:1906.08237).

The text itself is not changed. About one token in six is predicted, by a second stream that knows where it is but not what
it is (two_stream.py); which ones is in partial_prediction.py. Rows come in one of two layouts:

    Streams    [reuse_len tokens][A <sep> B <sep> <cls>], for models with memory: the next row goes on behind the first
               part, which is factorised by itself; the text is read in both directions (text_stream.py)
    Documents  [A <sep> <cls>], whole sentences of one document: small runs, models without memory

Everything is a pure function of (seed, pass, document, place in it, shard): prepared ahead or on the fly, together or
apart. Where the original does not do what its authors meant, the type of `spans` says which is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.masking import Marks
from corpus.corruption.pairs import make_singles
from corpus.corruption.partial_prediction import PieceSpans, Spans, WordSpans
from corpus.corruption.permutation_rows import Factorising, Rows, factorised
from corpus.corruption.text_stream import TextStream, pair_up, row_begins
from corpus.instance_kinds import NO_PAIR, PermutationInstances
from corpus.ragged import Ints
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Rows in the order of the text. A shard shorter than one row gives none.

    `both_directions` reads every text twice, the second time from its end (bi_data). `document_end_id` stands behind every
    document (<eod>, 7 in XLNet's own vocabulary); None: nothing does.
    """

    reuse_len: int = 256
    both_directions: bool = True
    document_end_id: int | None = None

    def __post_init__(self) -> None:
        if self.reuse_len < 1:
            raise ValueError(
                f"Streams.reuse_len is {self.reuse_len}; give 1 or more, or the layout Documents for rows without memory"
            )


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Rows of one document each. A share of the documents is cut into shorter rows, as in BERT."""

    short_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.short_share <= 1.0:
            raise ValueError(
                f"Documents.short_share is {self.short_share}; it must lie from 0 to 1, e.g. 0.1"
            )


Layout = Streams | Documents


@dataclass(frozen=True, kw_only=True)
class PermutationObjective:
    """`num_predict` targets in a row of `max_seq_len` tokens, fewer in proportion in a shorter one.

    `perm_size` tokens at most are factorised together. The defaults are the published ones, but for `spans`.
    """

    makes: ClassVar = PermutationInstances
    uses_mask: ClassVar = False

    max_seq_len: int = 512
    num_predict: int = 85
    perm_size: int = 256
    layout: Layout = field(default_factory=Streams)
    spans: Spans = field(default_factory=WordSpans)

    def __post_init__(self) -> None:
        name, length = type(self).__name__, self.max_seq_len
        if not 10 <= length <= 32768:
            raise ValueError(f"{name}.max_seq_len is {length}; it must be 10 to 32768, e.g. 512")
        if not 1 <= self.num_predict <= length // 2 - 3:
            raise ValueError(
                f"{name}.num_predict is {self.num_predict}; it must be 1 to {length // 2 - 3} of {length} tokens, so that "
                f"most can be seen, e.g. a sixth: {max(1, length // 6)}"
            )
        if self.perm_size < 1:
            raise ValueError(f"{name}.perm_size is {self.perm_size}; give 1 or more, e.g. 256")
        if isinstance(self.layout, Streams) and self.layout.reuse_len > length - 5:
            raise ValueError(
                f"Streams.reuse_len is {self.layout.reuse_len} of max_seq_len {length}; two segments and three special "
                f"tokens must follow, so give at most {length - 5}, e.g. half of it: {length // 2}"
            )

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> PermutationInstances:
        """The rows of a shard, or those that begin in some `documents` (indices): the same bits either way.

        Rows that are read from the end follow all others.
        """
        if isinstance(self.layout, Documents):
            groups = [self._document_rows(self.layout, shard, seed, pass_number, documents)]
        else:
            end_id = self.layout.document_end_id
            if end_id is not None and not 0 <= end_id < marks.vocab_size:
                raise ValueError(
                    f"Streams.document_end_id is {end_id}; the vocabulary's entries are 0 to {marks.vocab_size - 1}"
                )
            text = TextStream.of(shard, end_id)
            texts = [text, text.turned()] if self.layout.both_directions else [text]
            groups = [
                self._stream_rows(t, self.layout.reuse_len, shard, seed, pass_number, documents)
                for t in texts
            ]
        how = Factorising(
            spans=self.spans,
            num_predict=self.num_predict,
            max_seq_len=self.max_seq_len,
            perm_size=self.perm_size,
        )
        return factorised(groups, how, marks, seed=seed, pass_number=pass_number)

    def _stream_rows(
        self,
        text: TextStream,
        reuse_len: int,
        shard: TokenShard,
        seed: int,
        pass_number: int,
        documents: Ints | None,
    ) -> Rows:
        begin = row_begins(text, length=self.max_seq_len, reuse_len=reuse_len, documents=documents)
        document, place = text.places(begin)
        part, content = 2 * place + text.backward, shard.document_ids[document]
        draws = Stream.of(seed, "segments", pass_number, content).fold(part)
        segments = pair_up(text, begin, length=self.max_seq_len, reuse_len=reuse_len, draws=draws)
        return Rows(
            tokens_N=text.tokens_N,
            word_start_N=text.word_start_N,
            backward=text.backward,
            reuse_len=reuse_len,
            a_start=begin,
            a_length=segments.a_length,
            b_start=segments.b_start,
            b_length=segments.b_length,
            pair_label=segments.follows.astype(np.int64),
            continues=begin > 0,
            document=document,
            # an instance keeps its id under another seed: it says which text this is, not which draws
            instance_id=Stream.of(0, "instance", pass_number, content).fold(part).keys_N,
        )

    def _document_rows(
        self, layout: Documents, shard: TokenShard, seed: int, pass_number: int, documents: Ints | None
    ) -> Rows:
        documents = np.arange(len(shard.document_ids)) if documents is None else documents
        content = shard.document_ids[documents]
        stream = Stream.of(seed, "segments", pass_number, content)
        found = make_singles(
            shard, documents, stream=stream, room=self.max_seq_len - 2, short_share=layout.short_share
        )
        # nothing can be predicted of a single token: nothing else would be seen
        rows = np.flatnonzero(found.a_length > 1)
        document, none = found.document[rows], np.zeros(len(rows), np.int64)
        return Rows(
            tokens_N=shard.tokens_T,
            word_start_N=shard.word_start_T,
            backward=False,
            reuse_len=0,
            a_start=found.a_start[rows],
            a_length=found.a_length[rows],
            b_start=none,
            b_length=none,
            pair_label=none + NO_PAIR,
            continues=none > 0,
            document=documents[document],
            instance_id=Stream.of(0, "instance", pass_number, content)
            .at(document)
            .fold(found.chunk[rows])
            .keys_N,
        )


def xlnet_published(document_end_id: int | None = None) -> PermutationObjective:
    """What the original's code does with the published options: spans count pieces, and special tokens take quota."""
    return PermutationObjective(layout=Streams(document_end_id=document_end_id), spans=PieceSpans())
