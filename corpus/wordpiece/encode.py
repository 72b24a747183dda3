"""Text -> token ids, whole columns at a time; ids identical to the `tokenizers` library's for every input.

WordPiece (Schuster & Nakajima 2012; Devlin et al. 2018) looks at one word at a time, so a word's tokens are worth
computing once. A block of text is split into units (units.py), each unit becomes a number (interning.py), the tokens
of units never met before are asked of `tokenizers`, and the rest is one ragged gather:

    units            the  don  '  t  naïveté       the
    their numbers     1    2   3  4     5           1      gathered from the table, number -> tokens:
    tokens           the  don  '  t  naive ##te    the     1: the, 2: don, 3: ', 4: t, 5: naive ##te

The table is kept between calls, up to TABLE_LIMIT units. Beside `encode_batch_fast`, per CPU-second: 20 times as fast
with a warm table, 9 times with an empty one (tests/benchmarks/bench_tokenize.py on 34 MB of English).

Literal "[MASK]", "[SEP]" ... in a text are ordinary text by default, as in Google's original: a document must not be
able to inject them. `literal_special_tokens=True` reads them as special tokens, which is `tokenizers`' default.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers.models import WordPiece

from corpus.ragged import offsets_of, ranges
from corpus.wordpiece.files import (
    CONFIG_FILE,
    MAX_WORD_CHARACTERS,
    SPECIAL_TOKENS,
    VOCABULARY_FILE,
    read_lowercase,
    read_vocabulary,
    tokenizer_digest,
)
from corpus.wordpiece.interning import Int32s, Int64s
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.table import NumberedUnits, UnitTable, words_of
from corpus.wordpiece.units import text_blocks, utf8_of

if TYPE_CHECKING:  # the encoder itself needs no store
    from infra.artifacts import Artifact

TABLE_LIMIT: Final = 1 << 22  # distinct units kept (about 200 MB); then the table starts anew

Tokens = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Tokens of B texts in one flat column: text b has tokens_T[offsets[b] : offsets[b + 1]].

    word_start_T is true at the first token of each word. mark_offsets[m] is the number of tokens that begin before
    byte mark m: the token offset of a sentence whose byte offset was given as a mark.
    """

    tokens_T: Tokens
    offsets: Int64s
    word_start_T: NDArray[np.bool_]
    mark_offsets: Int64s


class _Pieces:
    """Unit number -> its tokens, each packed with the bit that says whether a word begins there."""

    def __init__(self) -> None:
        self.first = np.zeros(1 << 16, np.int64)
        self.count = np.zeros(1 << 16, np.int32)
        self.packed = np.zeros(1 << 16, np.uint32)  # token << 1 | word_start
        self._used = 0

    def add(self, numbers: Int32s, counts: Int32s, packed: NDArray[np.uint32], size: int) -> None:
        """`counts` and `packed` of units `numbers`, all of which are below `size`."""
        if size > len(self.count):
            self.first = np.concatenate([self.first, np.zeros(size, np.int64)])
            self.count = np.concatenate([self.count, np.zeros(size, np.int32)])
        used = self._used + len(packed)
        if used > len(self.packed):
            self.packed = np.concatenate([self.packed, np.zeros(used, np.uint32)])
        self.packed[self._used : used] = packed
        self.first[numbers] = self._used + offsets_of(counts)[:-1]
        self.count[numbers] = counts
        self._used = used


class Encoder:
    """A WordPiece vocabulary with BERT's normalisation. One thread at a time: encoding extends the table."""

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool = True, literal_special_tokens: bool = False
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.lowercase = lowercase
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        if len(self._ids) < len(self.vocabulary):
            twice = next(t for i, t in enumerate(self.vocabulary) if self._ids[t] != i)
            raise ValueError(f"the vocabulary holds {twice!r} twice; every entry must be unique")
        absent = [token for token in SPECIAL_TOKENS if token not in self._ids]
        if absent:
            raise ValueError(
                f"the vocabulary has no {absent[0]}; a BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}"
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[t] for t in SPECIAL_TOKENS
        )
        self.dtype = np.dtype(np.uint16 if len(self.vocabulary) <= 1 << 16 else np.uint32)
        self._model = WordPiece(self._ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS)
        self._normalization = Normalization(lowercase)
        self._literals = None
        if literal_special_tokens:
            self._literals = re.compile(b"|".join(re.escape(token.encode()) for token in SPECIAL_TOKENS))
        self._start_table()

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

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        return tokenizer_digest(self.vocabulary, self.lowercase)

    def encode(self, texts: pa.Array | Sequence[str], marks: Int64s | None = None) -> Encoded:
        """(B,) texts -> Encoded, without special tokens. A null text has no tokens.

        `marks` are ascending byte offsets into the concatenated UTF-8 of the texts (where sentences begin, say).
        """
        data, byte_offsets = utf8_of(texts)
        where = byte_offsets if marks is None else np.concatenate([byte_offsets, marks])
        asked = np.sort(where) if marks is not None else where
        token_offsets = np.zeros(len(asked), np.int64)
        parts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
        done = 0
        for begin, end in text_blocks(data, byte_offsets):
            cuts = byte_offsets[slice(*np.searchsorted(byte_offsets, (begin, end)))] - begin
            units = self._number(data[begin:end].tobytes(), cuts)
            counts = self._pieces.count[units.numbers_N]
            packed = self._pieces.packed[ranges(self._pieces.first[units.numbers_N], counts)]
            unit_offsets = offsets_of(counts)
            inside = slice(*np.searchsorted(asked, (begin, end)))
            first_units = np.searchsorted(units.starts_N, asked[inside] - begin)
            token_offsets[inside] = done + unit_offsets[first_units]
            parts.append(packed)
            done += len(packed)
        token_offsets[np.searchsorted(asked, len(data)) :] = done
        packed = np.concatenate(parts)
        found = token_offsets[np.searchsorted(asked, where)]
        return Encoded(
            tokens_T=(packed >> np.uint32(1)).astype(self.dtype),
            offsets=found[: len(byte_offsets)],
            word_start_T=(packed & np.uint32(1)).astype(np.bool_),
            mark_offsets=found[len(byte_offsets) :],
        )

    def _start_table(self) -> None:
        self._table = UnitTable(self._normalization, self._literals)
        self._pieces = _Pieces()

    def _number(self, text: bytes, cuts: Int64s) -> NumberedUnits:
        """The units of a block; the tokens of each are in `_pieces` afterwards."""
        if self._table.size > TABLE_LIMIT:
            self._start_table()
        units = self._table.number(text, cuts)
        if units.new_strings:
            packed: list[int] = []
            counts = []
            for words in self._words_of(units.new_strings):
                tokens = [token for word in words for token in self._packed_tokens(word)]
                packed += tokens
                counts.append(len(tokens))
            self._pieces.add(
                units.new_numbers, np.array(counts, np.int32), np.array(packed, np.uint32), self._table.size
            )
        return units

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
