"""What a character is to a segmenter: Han, Kana, a letter of a script of South-East Asia, a mark, or none of its business.

Characters are looked at as bytes of a column, many at a time.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from corpus.columns import byte_set

Int64s = NDArray[np.int64]
UInt8s = NDArray[np.uint8]
Bools = NDArray[np.bool_]
_Ranges = tuple[tuple[int, int], ...]

OTHER, HAN, KANA, SOUTHEAST, MARK = range(5)

# fmt: off
_HAN_RANGES: _Ranges = (
    (0x3005, 0x3005), (0x3007, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x3FFFD),
)
_KANA_RANGES: _Ranges = (
    (0x3041, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F),
)
# Thai and Lao, Burmese and its two extensions, Khmer; of these only letters, marks and digits
_SOUTHEAST_RANGES: _Ranges = (
    (0x0E01, 0x0EDF), (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0x1780, 0x17E9),
)
_MARK_RANGES: _Ranges = (
    (0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0x302A, 0x302F), (0x3099, 0x309A),
    (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0xE0100, 0xE01EF),
)
# fmt: on
# Letters and controls that belong to what is before them: vowels am, joiners, halfwidth voicing marks.
_MORE_MARKS = (0x0E33, 0x0EB3, 0x200C, 0x200D, 0xFF9E, 0xFF9F)
# What the next letter belongs to: vowels written before their consonant, stacking signs, the joiner.
_JOINS_NEXT = (*range(0x0E40, 0x0E45), *range(0x0EC0, 0x0EC5), 0x1039, 0x17D2, 0x200D)


def may_begin(data: UInt8s, at: Int64s) -> Bools:
    """Which bytes are the first of a character that may begin a word, seen from it and the character before it."""
    before = at - 3  # joiners have three bytes
    joined = (before >= 0) & (data.take(before, mode="clip") >= 0xE0)
    joined &= np.isin(_code_points(data, np.maximum(before, 0)), _JOINS_NEXT)
    return (data[at] & 0xC0 != 0x80) & (classes_at(data, at) != MARK) & ~joined


def sizes_at(data: UInt8s, at: Int64s) -> Int64s:
    """Bytes of the characters that begin at `at`."""
    lead = data[at]
    return 1 + (lead >= 0xC0).astype(np.int64) + (lead >= 0xE0) + (lead >= 0xF0)


def _code_points(data: UInt8s, at: Int64s) -> NDArray[np.int32]:
    """The characters that begin at `at`."""
    lead, *more = (data.take(at + k, mode="clip").astype(np.int32) for k in range(4))
    one, two, three = (byte & 0x3F for byte in more)
    codes = (lead & 0x0F) << 12 | one << 6 | two
    short, long = np.flatnonzero(lead < 0xE0), np.flatnonzero(lead >= 0xF0)
    codes[short] = np.where(lead[short] < 0x80, lead[short], (lead[short] & 0x1F) << 6 | one[short])
    codes[long] = (lead[long] & 0x07) << 18 | codes[long] << 6 & 0x3FFC0 | three[long]
    return codes


def classes_at(data: UInt8s, at: Int64s) -> UInt8s:
    return _classes()[_code_points(data, at)]


@cache
def _classes() -> UInt8s:
    """(0x110000,) what each character is: OTHER to MARK."""
    table = np.zeros(0x110000, np.uint8)
    for ranges_, name in ((_HAN_RANGES, HAN), (_KANA_RANGES, KANA)):
        for low, high in ranges_:
            table[low : high + 1] = name
    for low, high in _SOUTHEAST_RANGES:
        for code in range(low, high + 1):
            if unicodedata.category(chr(code))[0] in "LMN":
                table[code] = SOUTHEAST
    for low, high in (*_MARK_RANGES, *_SOUTHEAST_RANGES):
        for code in range(low, high + 1):
            if unicodedata.category(chr(code))[0] == "M":
                table[code] = MARK
    table[list(_MORE_MARKS)] = MARK
    return table


@cache
def first_bytes() -> tuple[bytes, Bools]:
    """(table for `mark` of first bytes, (65536,) first two bytes) of all characters that are not OTHER."""
    codes = np.flatnonzero(_classes())
    two = 0xC0 | codes >> 6, 0x80 | codes & 0x3F
    three = 0xE0 | codes >> 12, 0x80 | codes >> 6 & 0x3F
    four = 0xF0 | codes >> 18, 0x80 | codes >> 12 & 0x3F
    first, second = (
        np.select([codes < 0x800, codes < 0x10000], [a, b], c)
        for a, b, c in zip(two, three, four, strict=True)
    )
    assert codes[0] >= 0x80, "an ASCII character has no second byte"
    pairs = np.zeros(1 << 16, np.bool_)
    pairs[first << 8 | second] = True
    return byte_set((np.flatnonzero(pairs) >> 8).tolist()), pairs
