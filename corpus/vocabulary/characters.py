"""Characters as tokens, and words as rows of characters (ELMo).

A character vocabulary has an entry for each of the most frequent characters of a text, white space included; a word
starts after white space. ELMo (Peters et al. 2018) has no vocabulary to learn: a word is 50 numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer, Split

from corpus.ragged import ranges, rows_of
from corpus.vocabulary.counts import SCHEMA, count_documents
from corpus.vocabulary.pretokens import SPACE, classes_of
from corpus.vocabulary.smoothing import check_exponent, smooth
from corpus.vocabulary.word_level import Found, WordLevelEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.units import UInt8s, text_blocks, utf8_of

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output

ANY_CHARACTER: Final = r"[\s\S]"

ELMO_VOCAB_SIZE: Final = 262  # 0: masked; 1-256: bytes; then the five below
ELMO_BEGIN_SENTENCE, ELMO_END_SENTENCE, ELMO_BEGIN_WORD, ELMO_END_WORD, ELMO_PADDING = range(257, 262)
ELMO_WORD_LENGTH: Final = 50


@dataclass(frozen=True)
class Characters:
    """Counting that takes every character for a word."""

    def count(self, texts: pa.Array) -> pa.Table:
        data, offsets = utf8_of(texts)
        total = np.zeros(0x110000, np.int64)
        for begin, end in text_blocks(data, offsets):
            codes = np.frombuffer(data[begin:end].tobytes().decode().encode("utf-32-le"), np.uint32)
            seen, counts = np.unique(codes, return_counts=True)
            total[seen] += counts
        met = np.flatnonzero(total)  # code points in order are UTF-8 bytes in order
        return pa.table([[chr(code) for code in met.tolist()], total[met]], schema=SCHEMA)


@dataclass(frozen=True, kw_only=True)
class CharactersConfig:
    """`vocab_size` is a limit: a text may have fewer characters that occur `min_frequency` times."""

    vocab_size: int = 8000
    min_frequency: int = 2
    smoothing: float | None = None

    def __post_init__(self) -> None:
        if self.vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(
                f"vocab_size={self.vocab_size} leaves no room beside {len(SPECIAL_TOKENS)} special tokens; use 100 or more"
            )
        if self.min_frequency < 1:
            raise ValueError(
                f"min_frequency={self.min_frequency} must be at least 1; use 2 to leave out what occurs once"
            )
        check_exponent(self.smoothing)


class CharacterEncoder(WordLevelEncoder):
    """Every character is a token; one that is no entry is [UNK]."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary)
        self._id_of = np.full(0x110000, self.unk_id, np.int64)
        for token, number in self._ids.items():
            if len(token) == 1:
                self._id_of[ord(token)] = number

    @property
    def counting(self) -> Characters:
        return Characters()

    def splitting(self) -> tuple[Normalizer | None, PreTokenizer]:
        return None, Split(Regex(ANY_CHARACTER), "isolated")

    def _find(self, data: UInt8s, offsets: Int64s) -> Found:
        places = np.flatnonzero((data & 0xC0) != 0x80)
        text = data.tobytes().decode()
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        space = classes_of(text) == SPACE
        word_start = np.ones(len(codes), np.bool_)
        word_start[1:] = space[1:] | space[:-1]
        edges = np.searchsorted(places, offsets)
        word_start[edges[edges < len(codes)]] = True
        return Found(self._id_of[codes], places, word_start)


def train_characters(
    config: CharactersConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    out: "Output",
) -> "Counts":
    """Choose the most frequent characters of the kept documents. Writes vocab.txt, tokenizer.json,
    tokenizer_config.json, counts.arrow and words/*.arrow."""
    words, counts = count_documents(
        out,
        Characters(),
        documents=documents,
        kept=kept,
        attributes=attributes,
        by_language=config.smoothing is not None,
    )
    if config.smoothing is not None:
        words = smooth(words, config.smoothing)
    vocabulary = choose_characters(words, config)
    for name, content in CharacterEncoder(vocabulary).files().items():
        out.write(name, content)
    return {**counts, "distinct_words": words.num_rows, "vocab_size": len(vocabulary)}


def choose_characters(words: pa.Table, config: CharactersConfig) -> list[str]:
    """Special tokens, then the most frequent characters (of equal ones the lower code points) by code point."""
    characters, counts = words["word"].to_pylist(), words["count"].to_pylist()
    ranked = sorted(
        (-count, c) for c, count in zip(characters, counts, strict=True) if count >= config.min_frequency
    )
    return [*SPECIAL_TOKENS, *sorted(c for _, c in ranked[: config.vocab_size - len(SPECIAL_TOKENS)])]


def elmo_characters(words: pa.Array | Sequence[str]) -> NDArray[np.int16]:
    """(N,) words -> (N, 50) ids below ELMO_VOCAB_SIZE: begin, at most 48 bytes of UTF-8 each plus 1, end, padding."""
    data, offsets = utf8_of(words)
    sizes = np.minimum(np.diff(offsets), ELMO_WORD_LENGTH - 2)
    rows = np.full((len(sizes), ELMO_WORD_LENGTH), ELMO_PADDING, np.int16)
    rows[:, 0] = ELMO_BEGIN_WORD
    row = rows_of(sizes)
    rows[row, 1 + ranges(np.zeros(len(sizes), np.int64), sizes)] = (
        data[ranges(offsets[:-1], sizes)].astype(np.int16) + 1
    )
    rows[np.arange(len(sizes)), sizes + 1] = ELMO_END_WORD
    return rows


def elmo_sentence_mark(mark: int) -> NDArray[np.int16]:
    """(50,) the row of ELMO_BEGIN_SENTENCE or ELMO_END_SENTENCE, which stand like words around a sentence."""
    row = np.full(ELMO_WORD_LENGTH, ELMO_PADDING, np.int16)
    row[:3] = ELMO_BEGIN_WORD, mark, ELMO_END_WORD
    return row
