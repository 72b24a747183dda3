"""Text columns -> units: the words and letters that shingles are made of, each a 64-bit hash and a weight.

    "Don't PANIC，恐慌!"   ->   don  t  panic  恐  慌
                                16 16   16  10 10

A unit is a word where words are spaced; one character in Han, Kana, Bopomofo and Yi; one letter in Thai, Lao, Khmer,
Burmese and the like, and in words of more than 40 letters (DNA, protein, base64). A shingle is as many units as weigh 80
(corpus.near.shingles): 5 words, 8 characters, 16 letters, or a mixture, so mixed text needs no decision per document.
8 characters are 5 words: a word of the Chinese treebank in the shared data has 1.64 characters. 16-mers are what
genome sketches use for sequences up to 10^9 letters; 8 letters of a four-letter alphabet would repeat by chance.

Letters, marks and digits are compared, case-folded; everything else (punctuation, symbols, spaces) separates. Nothing is
compared by language, so the same text labelled twice is the same text.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from corpus.ragged import Ints, offsets_of, ranges
from corpus.rolling import prefix, span
from corpus.stream import Words
from corpus.unicode_categories import major

SHINGLE_WEIGHT = 80
LONGEST_WORD = 40  # letters; the longest words of German and Finnish prose have fewer
WEIGHTS = np.array(
    [0, 16, 10, 5], np.uint8
)  # by class: separator, letter of a spaced script, character, letter
_SPACED, _CHARACTER, _LETTER = 1, 2, 3
_CODES = 0x32400  # planes 0 to 3: every letter assigned; what lies above separates
_CHARACTER_BLOCKS = ((0x3005, 0x3007), (0x3021, 0x3029), (0x3041, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B2FF), (0x20000, _CODES - 1))  # fmt: skip
_LETTER_BLOCKS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F), (0xA980, 0xA9FF), (0xAA60, 0xAADF))  # fmt: skip


class Units(NamedTuple):
    """The units of n documents, one after the other: hashes and weights (U,), offsets (n + 1,)."""

    hashes: Words
    weights: npt.NDArray[np.uint8]
    offsets: Ints


def units_of(data: npt.NDArray[np.uint8], offsets: Ints) -> Units:
    """UTF-8 bytes of n documents (`corpus.columns.utf8`) -> their units. About 50 bytes of memory per character."""
    codes, offsets = _code_points(data, offsets)
    folded, classes = _fold(codes)
    starts = _unit_starts(classes, offsets)
    if classes.max(initial=0) and (long := _long_words(classes, starts, offsets[-1])).size:
        classes[long] = _LETTER
        starts = _unit_starts(classes, offsets)
    ends = np.append(starts[1:], len(folded))  # separators are zeros and add nothing to a hash
    hashes = span(prefix(folded.astype(np.uint64)), starts, ends[: len(starts)])
    return Units(hashes, WEIGHTS[classes[starts]], np.searchsorted(starts, offsets).astype(np.int64))


def _code_points(data: npt.NDArray[np.uint8], offsets: Ints) -> tuple[np.ndarray, Ints]:
    """Code points and where documents begin among them; ASCII stays bytes, four times smaller."""
    if not len(data) or data.max() < 0x80:
        return data, offsets
    first = (data & 0xC0) != 0x80
    before = np.zeros(len(data) + 1, np.int64)
    np.cumsum(first, out=before[1:])
    text = data.tobytes().decode("utf-8").encode("utf-32-le")
    return np.frombuffer(text, "<u4"), before[offsets]


def _fold(codes: np.ndarray) -> tuple[np.ndarray, npt.NDArray[np.uint8]]:
    """Case-folded code points with 0 for separators, and the class of each."""
    folded, classes = _tables()
    if codes.dtype == np.uint8:
        lower = np.frombuffer(codes.tobytes().translate(_ascii_fold()), np.uint8)
        return lower, (lower != 0).view(np.uint8)
    codes = np.minimum(codes, _CODES)
    return folded[codes], classes[codes]


def _unit_starts(classes: npt.NDArray[np.uint8], offsets: Ints) -> Ints:
    """Where units begin: at every character and letter, and where a run of letters of a spaced script begins."""
    spaced = classes == _SPACED
    starts = spaced.copy()
    starts[1:] &= ~spaced[:-1]
    firsts = offsets[:-1][
        np.diff(offsets) > 0
    ]  # a document's first letter continues no word of the one before
    starts[firsts] = spaced[firsts]
    if classes.max(initial=0) > _SPACED:
        starts |= classes > _SPACED
    return np.flatnonzero(starts)


def _long_words(classes: npt.NDArray[np.uint8], starts: Ints, size: int) -> Ints:
    """The positions of all letters of words longer than LONGEST_WORD."""
    room = np.diff(starts, append=size)
    suspects = np.flatnonzero((room > LONGEST_WORD) & (classes[starts] == _SPACED))
    if not len(suspects):
        return np.zeros(0, np.int64)
    positions = ranges(starts[suspects], room[suspects])
    letters = classes[positions] == _SPACED
    counts = np.add.reduceat(letters, offsets_of(room[suspects])[:-1], dtype=np.int64)
    return positions[letters & np.repeat(counts > LONGEST_WORD, room[suspects])]


@cache
def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """By code point: folded form (0: separator) and class. 1 MB, made once per process."""
    kept = np.append(major("LMN")[:_CODES], False)
    folded = np.where(kept, np.arange(_CODES + 1), 0).astype(np.uint32)
    classes = np.where(kept, _SPACED, 0).astype(np.uint8)
    for code, lower in enumerate(map(str.casefold, map(chr, range(_CODES)))):
        if len(lower) == 1 and kept[code] and ord(lower) != code:
            folded[code] = ord(lower)
    for class_, blocks in ((_CHARACTER, _CHARACTER_BLOCKS), (_LETTER, _LETTER_BLOCKS)):
        for first, last in blocks:
            inside = classes[first : last + 1]
            inside[inside > 0] = class_
    return folded, classes


@cache
def _ascii_fold() -> bytes:
    return _tables()[0][:256].astype(np.uint8).tobytes()
