"""What a bidirectional language model reads (ELMo, Peters et al. 2018, section 3.1): every sentence as a row
of its own.

    <S> w1 w2 ... wn </S>       left to right: <S> w1 ... wn -> w1 ... wn </S>
                                right to left: </S> wn ... w1 -> wn ... w1 <S>

allenai/bilm-tf puts sentences one after the other, those of the backward direction with their words reversed,
and cuts both streams every 20 words; the states go on. Rows that are sentences, in the order of the text,
with states carried from row to row, are the same two streams, but backpropagation ends where sentences do.
(In rows of a fixed length the backward direction would begin in the middle of a sentence.)

A sentence that is longer than a row goes on in the next one, which begins with the last token of the row
before: each token is still predicted once, and a direction that reads all tokens but the one it predicts last
reads each once. For the backward direction the pieces of such a sentence are in the wrong order, so let rows
be long.

There is no noise: seeds change nothing, and further passes only the instances' ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from corpus.corruption.masking import Marks
from corpus.instance_kinds import CausalInstances
from corpus.ragged import Ints, offsets_of, ranges, rows_of
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class BidirectionalLMObjective:
    """<S> and </S> are the vocabulary's `cls_id` and `sep_id`; `max_seq_len` counts them."""

    makes: ClassVar = CausalInstances
    uses_mask: ClassVar = False

    max_seq_len: int = 256

    def __post_init__(self) -> None:
        if not 3 <= self.max_seq_len <= 65536:
            raise ValueError(
                f"{type(self).__name__}.max_seq_len is {self.max_seq_len}; "
                "it must be 3 to 65536 (two tokens are special)"
            )

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> CausalInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either
        way.
        """
        documents = np.arange(len(shard.document_ids)) if documents is None else documents
        sentences_B = np.diff(shard.document_sentences)[documents]
        sentence_S = ranges(shard.document_sentences[documents], sentences_B)
        document_S = rows_of(sentences_B)
        words_S = np.diff(shard.sentence_offsets)[sentence_S]
        framed = offsets_of(words_S + 2)
        # one sentence after the other, each between its marks, which are appended to the shard's tokens
        source = np.concatenate(
            [shard.tokens_T, np.array([marks.cls_id, marks.sep_id], shard.tokens_T.dtype)]
        )
        one = np.ones_like(words_S)
        starts = np.stack(
            [one * (len(source) - 2), shard.sentence_offsets[sentence_S], one * (len(source) - 1)], 1
        )
        stream_T = source[ranges(starts.ravel(), np.stack([one, words_S, one], 1).ravel())]

        step = self.max_seq_len - 1  # tokens predicted in a row, which overlaps its neighbour by one
        rows_S = -(-(words_S + 1) // step)
        sentence_R, number_R = rows_of(rows_S), ranges(np.zeros_like(rows_S), rows_S)
        begin_R = number_R * step
        length_R = np.minimum((words_S + 2)[sentence_R] - begin_R, self.max_seq_len)
        document_R = document_S[sentence_R]
        of_document = np.diff(np.searchsorted(document_R, np.arange(len(documents) + 1)))
        keys = Stream.of(0, "instance", pass_number, shard.document_ids[documents]).at(document_R)
        return CausalInstances(
            tokens=stream_T[ranges(framed[sentence_R] + begin_R, length_R)],
            offsets=offsets_of(length_R),
            instance_id=keys.fold(ranges(np.zeros_like(of_document), of_document)).keys_N,
            document=documents[document_R].astype(np.int32),
        )
