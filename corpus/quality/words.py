"""Words, characters and lines of a block of documents as arrays: what all quality figures are made of.

text    "我用 Python.\\nOK"          a word is a run between blanks; a character of a script without spaces
words    我 用 Python. OK           (corpus.scripts.UNSPACED) is a word by itself
lines    0  0  0       1            lines are what newlines separate; lines without a word do not count
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.columns import mark, per_document, utf8
from corpus.ragged import offsets_of, ranges
from corpus.rolling import U64, byte_values, prefix, span
from corpus.scripts import code_points, is_unspaced, script_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of documents. W words, L lines, n documents; bytes and characters count from the block's first."""

    data: npt.NDArray[np.uint8]
    lower: bytes  # the same with ASCII letters in lower case
    offsets: Ints  # (n + 1,) first byte of each document
    characters: npt.NDArray[np.int32]  # (bytes + 1,) characters before each byte
    visible: npt.NDArray[np.int32]  # (bytes + 1,) the same, blanks not counted
    word: Ints  # (W,) first byte of each word
    word_hash: U64  # (W,) equal words have equal hashes
    word_size: Ints  # (W,) characters
    word_offsets: Ints  # (n + 1,) first word of each document
    line: Ints  # (L,) first byte of each line
    line_end: Ints  # (L,) the byte behind its last one
    line_word: Ints  # (L + 1,) first word of each line
    line_offsets: Ints  # (n + 1,) first line of each document

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    def of_word(self) -> Ints:
        """(W,) the document of each word."""
        return np.repeat(np.arange(self.documents), np.diff(self.word_offsets))

    def of_line(self) -> Ints:
        """(L,) the document of each line."""
        return np.repeat(np.arange(self.documents), np.diff(self.line_offsets))

    def between(self, before: npt.NDArray[np.int32]) -> Ints:
        """(bytes + 1,) counts before each byte -> (n,) counts within each document."""
        return np.diff(before[self.offsets]).astype(np.int64)

    def count_words(self, flags: np.ndarray) -> Ints:
        """(W,) flags or integers -> (n,) their sum in each document."""
        return _sums(flags, self.word_offsets)

    def count_lines(self, flags: np.ndarray) -> Ints:
        """(L,) flags or integers -> (n,) their sum in each document."""
        return _sums(flags, self.line_offsets)

    def find(self, phrase: str, whole: bool = False) -> Ints:
        """Where a phrase begins, ASCII letters in any case; `whole`: no ASCII letter or digit on either side."""
        wanted, found = phrase.encode().lower(), []
        at = self.lower.find(wanted)
        while at >= 0:
            end = at + len(wanted)
            if not (
                whole and (self.lower[max(at - 1, 0) : at].isalnum() or self.lower[end : end + 1].isalnum())
            ):
                found.append(at)
            at = self.lower.find(wanted, end)
        places = np.array(found, np.int64)
        return places[self.document_at(places) == self.document_at(places + len(wanted) - 1)]

    def character(self, at: Ints) -> Ints:
        """The code points of the characters that hold these bytes."""
        at = at.copy()
        for _ in range(3):
            at -= (self.data[at] & 0xC0) == 0x80
        return code_points(self.data, at)

    def has(self, property: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(W,) whether a word holds a character with a property, which is a table over code points."""
        ascii = property[:128].astype(np.uint8).tobytes() + bytes(128)
        flags = mark(self.data, ascii)
        leads, _ = script_of(self.data)
        if len(leads):
            flags = flags.copy()
            flags[leads] = property.take(code_points(self.data, leads), mode="clip")
        before = offsets_of_flags(flags)
        return before[np.append(self.word[1:], len(self.data))[: len(self.word)]] > before[self.word]

    def document_at(self, places: Ints) -> Ints:
        """The documents that hold these bytes."""
        return np.searchsorted(self.offsets, places, side="right") - 1


def _sums(values: np.ndarray, offsets: Ints) -> Ints:
    if values.dtype == np.bool_:
        before = offsets_of_flags(values)
        return np.diff(before[offsets]).astype(np.int64)
    return per_document(values, offsets)


def block_of(texts: pa.LargeStringArray) -> Block:
    """Cut normalised texts into words and lines."""
    offsets, data = utf8(texts)
    blank = (data == ord(" ")) | (data == ord("\n"))  # comparing is 0.1 ns a byte, a table 1 ns
    continues = (data & 0xC0) == 0x80
    characters = offsets_of_flags(~continues)
    visible = offsets_of_flags(~(continues | blank))
    word = _word_starts(data, offsets, blank)
    hashes = prefix(byte_values(b" \n")[data])
    ends = np.append(word[1:], len(data))
    line, line_end, line_word = _lines(data, offsets, word)
    return Block(
        data=data,
        lower=data.tobytes().lower(),
        offsets=offsets,
        characters=characters,
        visible=visible,
        word=word,
        word_hash=span(hashes, word, ends),
        word_size=(visible[ends] - visible[word]).astype(np.int64),
        word_offsets=np.searchsorted(word, offsets),
        line=line,
        line_end=line_end,
        line_word=line_word,
        line_offsets=np.searchsorted(line, offsets),
    )


@cache
def word_hash(word: str) -> np.uint64:
    """The hash that a word has in every block."""
    return block_of(pa.array([word], pa.large_string())).word_hash[0]


def beginnings(texts: pa.LargeStringArray, size: int) -> pa.LargeStringArray:
    """Each text cut to its first whole characters within `size` bytes."""
    offsets, data = utf8(texts)
    end = np.minimum(offsets[1:], offsets[:-1] + size)
    cut = end < offsets[1:]
    if not cut.any():
        return texts
    for _ in range(3):
        end -= cut & ((data.take(end, mode="clip") & 0xC0) == 0x80)
    lengths = end - offsets[:-1]
    kept = data[ranges(offsets[:-1], lengths)]
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(offsets_of(lengths)), pa.py_buffer(kept.tobytes())
    )


def offsets_of_flags(flags: np.ndarray) -> npt.NDArray[np.int32]:
    """(n,) flags -> (n + 1,) how many are set before each place."""
    out = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags, dtype=np.int32, out=out[1:])
    return out


def _word_starts(data: np.ndarray, offsets: Ints, blank: np.ndarray) -> Ints:
    begins = ~blank
    begins[1:] &= blank[:-1]
    firsts = offsets[:-1][np.diff(offsets) > 0]
    begins[firsts] = ~blank[firsts]
    leads, script = script_of(data)
    alone = is_unspaced(script)
    if alone.any():
        leads = leads[alone]
        behind = leads + 3 + (data[leads] >= 0xF0)  # characters of these scripts have three or four bytes
        behind = behind[behind < len(data)]
        begins[leads] = True
        begins[behind] = ~blank[behind]
    return np.flatnonzero(begins)


def _lines(data: np.ndarray, offsets: Ints, word: Ints) -> tuple[Ints, Ints, Ints]:
    """(first byte, byte behind the last, first word with one more at the end) of the lines that hold a word."""
    newlines = np.flatnonzero(data == ord("\n"))
    edges = np.unique(np.concatenate([offsets, newlines + 1]))
    edges = edges[edges <= len(data)]
    starts, ends = edges[:-1], edges[1:]
    ends = ends - (data[ends - 1] == ord("\n"))
    first = np.searchsorted(word, edges)
    held = np.diff(first) > 0
    return starts[held], ends[held], np.append(first[:-1][held], len(word))
