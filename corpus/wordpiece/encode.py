"""WordPiece: text -> token ids, whole columns at a time; ids identical to the `tokenizers` library's for every input.

WordPiece (Schuster & Nakajima 2012; Devlin et al. 2018) looks at one word at a time, so a word's tokens are worth
computing once: corpus/vocabulary/columns.py. Here is what a unit is (units.py) and how it is spelled: what is not plain
ASCII is normalised by `tokenizers`, and pieces are asked of its model.

Beside `encode_batch_fast`, per CPU-second: 20 times as fast with a warm table, 9 times with an empty one
(tests/benchmarks/bench_tokenize.py on 34 MB of English).

Literal "[MASK]", "[SEP]" ... in a text are ordinary text by default, as in Google's original: a document must not be
able to inject them. `literal_special_tokens=True` reads them as special tokens, which is `tokenizers`' default.
"""

import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from corpus.vocabulary.columns import ColumnEncoder, Encoded
from corpus.wordpiece.count import NormalizedWords
from corpus.wordpiece.files import (
    CONFIG_FILE,
    MAX_WORD_CHARACTERS,
    SPECIAL_TOKENS,
    VOCABULARY_FILE,
    library_tokenizer,
    read_lowercase,
    read_vocabulary,
    tokenizer_digest,
)
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.symbols import CONTINUES
from corpus.wordpiece.table import UnitTable, is_plain, words_of
from corpus.wordpiece.units import split_units

if TYPE_CHECKING:  # the encoder itself needs no store
    from infra.artifacts import Artifact

__all__ = ["Encoded", "Encoder"]


class Encoder(ColumnEncoder):
    """A WordPiece vocabulary with BERT's normalisation."""

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool = True, literal_special_tokens: bool = False
    ) -> None:
        self.lowercase = lowercase
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        if len(self._ids) < len(vocabulary):
            twice = next(t for i, t in enumerate(vocabulary) if self._ids[t] != i)
            raise ValueError(f"the vocabulary holds {twice!r} twice; every entry must be unique")
        absent = [token for token in SPECIAL_TOKENS if token not in self._ids]
        if absent:
            raise ValueError(
                f"the vocabulary has no {absent[0]}; a BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}"
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[t] for t in SPECIAL_TOKENS
        )
        self._model = WordPiece(self._ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS)
        self._normalization = Normalization(lowercase)
        self._literals = None
        if literal_special_tokens:
            self._literals = re.compile(b"|".join(re.escape(token.encode()) for token in SPECIAL_TOKENS))
        self._prepare(vocabulary)

    @classmethod
    def from_artifact(cls, vocabulary: "Artifact") -> "Encoder":
        """The encoder of a finished `train_wordpiece`."""
        config = vocabulary.read_json(CONFIG_FILE)
        return cls(read_vocabulary(vocabulary.path(VOCABULARY_FILE)), lowercase=config["do_lower_case"])

    @classmethod
    def from_files(cls, folder: Path, *, literal_special_tokens: bool = False) -> "Encoder":
        """The encoder of a folder with vocab.txt and, if it is not uncased, tokenizer.json or tokenizer_config.json."""
        vocabulary = read_vocabulary(folder / VOCABULARY_FILE)
        return cls(
            vocabulary, lowercase=read_lowercase(folder), literal_special_tokens=literal_special_tokens
        )

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        return tokenizer_digest(self.vocabulary, self.lowercase)

    @property
    def counting(self) -> NormalizedWords:
        return NormalizedWords(self.lowercase)

    def _new_table(self) -> UnitTable:
        return UnitTable(partial(split_units, normalization=self._normalization, literals=self._literals))

    def _spell(self, units: list[str]) -> list[list[int]]:
        return [
            [token for word in words for token in self._packed_tokens(word)]
            for words in self._words_of(units)
        ]

    def _words_of(self, strings: list[str]) -> list[list[str]]:
        if self._literals is None:
            return words_of(strings, self._normalization)
        literal = [string in SPECIAL_TOKENS for string in strings]  # only a match of _literals is such a unit
        others = iter(
            words_of([s for s, is_it in zip(strings, literal, strict=True) if not is_it], self._normalization)
        )
        return [[s] if is_it else next(others) for s, is_it in zip(strings, literal, strict=True)]

    def _packed_tokens(self, word: str) -> list[int]:
        """Ask the library, except for what is an entry as it is (one unit in eight, and four times faster)."""
        token = self._ids.get(word)
        if token is not None and len(word) <= MAX_WORD_CHARACTERS:
            return [token << 1 | 1]
        tokens = [piece.id << 1 for piece in self._model.tokenize(word)]
        tokens[0] |= 1
        return tokens

    def _piece_starts(self, units: list[str], spelled: list[list[int]]) -> list[list[int]]:
        """A plain unit's pieces lie side by side; where the others' came from is asked of the library."""
        plain = [is_plain(unit) or (self._literals is not None and unit in SPECIAL_TOKENS) for unit in units]
        others = [unit for unit, p in zip(units, plain, strict=True) if not p]
        aligned = iter(self._library.encode_batch(others, add_special_tokens=False))
        starts = []
        for unit, tokens, p in zip(units, spelled, plain, strict=True):
            if p:
                starts.append(self._side_by_side([token >> 1 for token in tokens]))
            else:
                found = next(aligned)
                assert found.ids == [token >> 1 for token in tokens]
                starts.append([len(unit[:begin].encode()) for begin, _ in found.offsets])
        return starts

    @cached_property
    def _library(self) -> Tokenizer:
        return library_tokenizer(self.vocabulary, self.lowercase, special_tokens=False)

    def _side_by_side(self, tokens: list[int]) -> list[int]:
        starts = [0]
        for i, token in enumerate(tokens[:-1]):
            starts.append(starts[-1] + len(self.vocabulary[token]) - (len(CONTINUES) if i else 0))
        return starts
