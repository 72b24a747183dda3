"""The words of WordPiece: BERT's normalisation, then whitespace and punctuation. Counted as corpus/vocabulary/counts.py says."""

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from corpus.vocabulary.counts import count_units
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.table import words_of
from corpus.wordpiece.units import split_units


@dataclass(frozen=True)
class NormalizedWords:
    """What a word is to an uncased (`lowercase`) or cased WordPiece vocabulary."""

    lowercase: bool

    def count(self, texts: pa.Array) -> pa.Table:
        normalization = Normalization(self.lowercase)
        split = partial(split_units, normalization=normalization)
        return count_units(texts, split, partial(words_of, normalization=normalization))


def count_words(texts: pa.Array, lowercase: bool) -> pa.Table:
    """(B,) texts -> counts.SCHEMA, each distinct word once, in the order of their UTF-8 bytes."""
    return NormalizedWords(lowercase).count(texts)
