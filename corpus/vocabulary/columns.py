"""Text columns -> token ids, for every vocabulary in which a short unit of text is spelled without its neighbours.

    units            the  don  '  t  naïveté       the
    their numbers     1    2   3  4     5           1      gathered from the table, number -> tokens:
    tokens           the  don  '  t  naive ##te    the     1: the, 2: don, 3: ', 4: t, 5: naive ##te

A vocabulary says where units begin and how one is spelled; this file does the rest: a block of text is split into
units, each unit becomes a number (interning.py), units never met before are spelled once, and one ragged gather writes
the tokens. The table is kept between calls, up to TABLE_LIMIT units.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.ragged import offsets_of, ranges
from corpus.vocabulary.counts import Counting
from corpus.wordpiece.interning import Int32s, Int64s
from corpus.wordpiece.table import NumberedUnits, UnitTable
from corpus.wordpiece.units import LastCut, after_last_space, text_blocks, utf8_of

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
    starts_T: Int64s | None = field(default=None, repr=False)

    @property
    def token_starts_T(self) -> Int64s:
        """(T,) rising: the byte at which each token begins, in the concatenated UTF-8 of the column.

        A space that a vocabulary joins to the next word is no part of where the word begins.
        """
        if self.starts_T is None:
            raise ValueError(
                "token starts were not asked for and cost a second gather; use encode(texts, token_starts=True)"
            )
        return self.starts_T


class Encoder(Protocol):
    """What every vocabulary can do, and all that shards, corruption and training know of one."""

    @property
    def vocabulary(self) -> Sequence[str]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def unk_id(self) -> int: ...
    @property
    def cls_id(self) -> int: ...
    @property
    def sep_id(self) -> int: ...
    @property
    def mask_id(self) -> int: ...
    @property
    def counting(self) -> Counting | None:
        """What its words are, for counting them; None where there are no words."""

    def encode(
        self, texts: pa.Array | Sequence[str], marks: Int64s | None = None, *, token_starts: bool = False
    ) -> Encoded: ...


def narrow(tokens: NDArray[np.integer], vocab_size: int) -> Tokens:
    """Tokens in the narrowest type that holds every id of a vocabulary."""
    return tokens.astype(np.uint16) if vocab_size <= 1 << 16 else tokens.astype(np.uint32)


class _Pieces:
    """Unit number -> its tokens, each packed with the bit that says whether a word begins there.

    `starts`, if kept, is the byte of the unit at which each token begins.
    """

    def __init__(self, with_starts: bool) -> None:
        self.first = np.zeros(1 << 16, np.int64)
        self.count = np.zeros(1 << 16, np.int32)
        self.packed = np.zeros(1 << 16, np.uint32)  # token << 1 | word_start
        self.starts: Int32s | None = np.zeros(1 << 16, np.int32) if with_starts else None
        self._used = 0

    def add(
        self, numbers: Int32s, counts: Int32s, packed: NDArray[np.uint32], starts: Int32s | None, size: int
    ) -> None:
        """`counts`, `packed` and `starts` of units `numbers`, all of which are below `size`."""
        if size > len(self.count):
            self.first = np.concatenate([self.first, np.zeros(size, np.int64)])
            self.count = np.concatenate([self.count, np.zeros(size, np.int32)])
        used = self._used + len(packed)
        if used > len(self.packed):
            self.packed = np.concatenate([self.packed, np.zeros(used, np.uint32)])
        self.packed[self._used : used] = packed
        if self.starts is not None and starts is not None:
            if used > len(self.starts):
                self.starts = np.concatenate([self.starts, np.zeros(used, np.int32)])
            self.starts[self._used : used] = starts
        self.first[numbers] = self._used + offsets_of(counts)[:-1]
        self.count[numbers] = counts
        self._used = used


class ColumnEncoder(ABC):
    """The common pass. One thread at a time: encoding extends the table."""

    vocabulary: tuple[str, ...]

    def _prepare(self, vocabulary: Sequence[str]) -> None:
        """To be called by a constructor once its own fields are set."""
        self.vocabulary = tuple(vocabulary)
        self._with_starts = False
        self._start_table()

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @abstractmethod
    def _new_table(self) -> UnitTable:
        """An empty table of this vocabulary's units."""

    @abstractmethod
    def _spell(self, units: list[str]) -> list[list[int]]:
        """The tokens of each unit, each as token << 1 | (a word begins here)."""

    @abstractmethod
    def _piece_starts(self, units: list[str], spelled: list[list[int]]) -> list[list[int]]:
        """The byte of its unit at which each of those tokens begins."""

    @property
    @abstractmethod
    def counting(self) -> Counting | None:
        """What the words of this vocabulary are."""

    @property
    def _last_cut(self) -> LastCut:
        """Where long text may be cut without a trace."""
        return after_last_space

    def encode(
        self, texts: pa.Array | Sequence[str], marks: Int64s | None = None, *, token_starts: bool = False
    ) -> Encoded:
        """(B,) texts -> Encoded, without special tokens. A null text has no tokens.

        `marks` are ascending byte offsets into the concatenated UTF-8 of the texts (where sentences begin, say).
        `token_starts` fills `Encoded.token_starts_T`; the first such call empties the table.
        """
        if token_starts and not self._with_starts:
            self._with_starts = True
            self._start_table()
        data, byte_offsets = utf8_of(texts)
        where = byte_offsets if marks is None else np.concatenate([byte_offsets, marks])
        asked = np.sort(where) if marks is not None else where
        token_offsets = np.zeros(len(asked), np.int64)
        parts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
        starts: list[Int64s] = [np.zeros(0, np.int64)]
        done = 0
        for begin, end in text_blocks(data, byte_offsets, self._last_cut):
            cuts = byte_offsets[slice(*np.searchsorted(byte_offsets, (begin, end)))] - begin
            units = self._number(data[begin:end].tobytes(), cuts)
            counts = self._pieces.count[units.numbers_N]
            gathered = ranges(self._pieces.first[units.numbers_N], counts)
            packed = self._pieces.packed[gathered]
            if token_starts and self._pieces.starts is not None:
                starts.append(np.repeat(units.starts_N + begin, counts) + self._pieces.starts[gathered])
            inside = slice(*np.searchsorted(asked, (begin, end)))
            first_units = np.searchsorted(units.begins_N, asked[inside] - begin)
            token_offsets[inside] = done + offsets_of(counts)[first_units]
            parts.append(packed)
            done += len(packed)
        token_offsets[np.searchsorted(asked, len(data)) :] = done
        packed = np.concatenate(parts)
        found = token_offsets[np.searchsorted(asked, where)]
        return Encoded(
            tokens_T=narrow(packed >> np.uint32(1), self.vocab_size),
            offsets=found[: len(byte_offsets)],
            word_start_T=(packed & np.uint32(1)).astype(np.bool_),
            mark_offsets=found[len(byte_offsets) :],
            starts_T=np.concatenate(starts) if token_starts else None,
        )

    def _start_table(self) -> None:
        self._table = self._new_table()
        self._pieces = _Pieces(self._with_starts)

    def _number(self, text: bytes, cuts: Int64s) -> NumberedUnits:
        """The units of a block; the tokens of each are in `_pieces` afterwards."""
        if self._table.size > TABLE_LIMIT:
            self._start_table()
        units = self._table.number(text, cuts)
        if units.new_strings:
            spelled = self._spell(units.new_strings)
            starts = self._piece_starts(units.new_strings, spelled) if self._with_starts else None
            self._pieces.add(
                units.new_numbers,
                np.fromiter(map(len, spelled), np.int32, len(spelled)),
                np.array([token for tokens in spelled for token in tokens], np.uint32),
                None if starts is None else np.array([s for each in starts for s in each], np.int32),
                self._table.size,
            )
        return units
