"""Sentence permutation: the sentences of a row in random order (BART, section 2.2; fairseq, DenoisingDataset).

    a b . c d e . f .      ->      c d e . f . a b .

ceil(share x sentences) of them are chosen, and permuted among their own places; a sentence may come to stand where it
stood. Where sentences end is a type:

    ShardSentences   where the corpus pipeline cut them (our default: right in every language and with any tokenizer)
    FullStops        at tokens, the full stop of the vocabulary (the original: id "13" of GPT-2). Of a run of stops the first
                     ends the sentence; the last token of the text always ends one, unless it continues such a run: then the
                     rest of the run belongs to no sentence and stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpus.corruption.choose import shuffled_units
from corpus.corruption.noisy_text import NoisyText, check_share
from corpus.ragged import Ints, offsets_of, ranges, rows_of
from corpus.stream import Stream


@dataclass(frozen=True, kw_only=True)
class ShardSentences:
    """The sentences of the shard."""

    def cut(self, text: NoisyText) -> tuple[Ints, Ints, Ints]:
        """(S,) lengths of the parts of all rows, (B,) how many a row has, (B,) how many of these, from the first, are
        sentences.
        """
        ranges_K, bounds = text.rows.ranges, text.rows.shard.sentence_offsets
        begin_B, end_B = ranges_K.start_K, ranges_K.start_K + ranges_K.length_K
        first_B = np.searchsorted(bounds, begin_B, side="right")
        cuts_B = np.searchsorted(bounds, end_B) - first_B
        lengths_S = _lengths(begin_B, end_B, bounds[ranges(first_B, cuts_B)], cuts_B)
        return lengths_S, cuts_B + 1, cuts_B + 1


@dataclass(frozen=True, kw_only=True)
class FullStops:
    """Sentences end at these tokens."""

    token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError(
                "FullStops.token_ids is empty; give the ids of the vocabulary's full stops, or use ShardSentences"
            )

    def cut(self, text: NoisyText) -> tuple[Ints, Ints, Ints]:
        """As ShardSentences.cut; what is left behind a row's last sentence is a part too, of no length if nothing is."""
        stops_T = np.isin(text.tokens_T, self.token_ids)
        stops_T[text.offsets[:-1]] = stops_T[text.offsets[1:] - 1] = False
        stops_T[text.offsets[1:] - 2] = True  # no text is empty
        ends_T = stops_T.copy()
        ends_T[1:] &= ~stops_T[:-1]
        cuts_S = np.flatnonzero(ends_T) + 1
        cuts_B = np.diff(np.searchsorted(cuts_S, text.offsets))
        return _lengths(text.offsets[:-1] + 1, text.offsets[1:] - 1, cuts_S, cuts_B), cuts_B + 1, cuts_B


def _lengths(begin_B: Ints, end_B: Ints, cuts: Ints, cuts_B: Ints) -> Ints:
    """(S,) lengths of the parts of [begin, end) of each row, `cuts_B` + 1 of them."""
    last_B = np.cumsum(cuts_B + 1) - 1
    end_S = np.empty(len(cuts) + len(last_B), np.int64)
    is_cut = np.ones(len(end_S), np.bool_)
    is_cut[last_B] = False
    end_S[is_cut], end_S[last_B] = cuts, end_B
    begin_S = np.empty_like(end_S)
    begin_S[1:], begin_S[last_B - cuts_B] = end_S[:-1], begin_B
    return end_S - begin_S


@dataclass(frozen=True, kw_only=True)
class SentencePermutation:
    """`share` of a row's sentences change places."""

    share: float = 1.0
    ends: ShardSentences | FullStops = ShardSentences()

    def __post_init__(self) -> None:
        check_share(self.share, "SentencePermutation.share", example=1.0, whole=True)

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise; only as the first one, while sentences are where they were."""
        lengths_S, parts_B, sentences_B = self.ends.cut(text)
        first_B = offsets_of(parts_B)[:-1]
        chosen_B = np.ceil(sentences_B * self.share).astype(np.int64)
        shuffled = shuffled_units(sentences_B, stream)[ranges(offsets_of(sentences_B)[:-1], chosen_B)]
        chosen = shuffled + np.repeat(first_B, chosen_B)
        places = np.zeros(len(lengths_S), np.bool_)
        places[chosen] = True
        order_S = np.arange(len(lengths_S))
        order_S[places] = chosen  # places ascend: those of a row get its own sentences
        begin_S = offsets_of(lengths_S)[:-1] + 2 * rows_of(parts_B) + 1
        return text.moved(ranges(begin_S[order_S], lengths_S[order_S]))
