"""Which script a text is written in, counted on the bytes of whole columns.

The first two bytes of a character in UTF-8 say its code point (two-byte characters) or its block of 64 code points
(longer ones), and scripts are laid out in such blocks: one look-up per character that is not ASCII, none for those that
are. Letters of rare scripts are not counted.
"""

from functools import cache

import numpy as np

from corpus.columns import per_document

# Blocks of Unicode: first and last code point. Ends are multiples of 64 where characters have three bytes or more.
BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": ((0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x5D0, 0x5F2),),
    "Arabic": ((0x620, 0x6FF), (0x750, 0x77F), (0xFB40, 0xFDFF), (0xFE80, 0xFEBF)),
    "Devanagari": ((0x900, 0x97F),),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Oriya": ((0xB00, 0xB7F),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Sinhala": ((0xD80, 0xDFF),),
    "Thai": ((0xE00, 0xE7F),),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Myanmar": ((0x1000, 0x107F),),
    "Georgian": ((0x10C0, 0x10FF),),
    "Ethiopic": ((0x1200, 0x137F),),
    "Khmer": ((0x1780, 0x17FF),),
    "Hangul": ((0x1100, 0x11FF), (0xAC00, 0xD7BF)),
    "Kana": ((0x3040, 0x30FF),),
    "Han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF)),
}
SCRIPTS = tuple(BLOCKS)
UNSPACED = (
    "Thai",
    "Lao",
    "Tibetan",
    "Myanmar",
    "Khmer",
    "Kana",
    "Han",
)  # written without spaces between words
UNSPACED_SHARE = 0.3  # of the letters; an English word has five letters where Chinese has one or two


@cache
def _table() -> np.ndarray:
    """(65536,) uint8: 1 + the script's place in SCRIPTS for the first two bytes of a character, 0 for none."""
    table = np.zeros(1 << 16, np.uint8)
    for number, blocks in enumerate(BLOCKS.values(), 1):
        for first, last in blocks:
            for code in range(first, last + 1, 64 if first >= 0x800 else 1):
                lead = chr(code).encode()
                table[lead[0] << 8 | lead[1]] = number
    return table


def script_of(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places of the characters that are not ASCII, 1 + their script in SCRIPTS or 0) in UTF-8 bytes."""
    leads = np.flatnonzero(data >= 0xC0)
    if not len(leads):
        return leads, np.zeros(0, np.uint8)
    pair = data[leads].astype(np.uint16) << 8
    pair |= data.take(leads + 1, mode="clip")
    return leads, _table()[pair]


def code_points(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The code points of the characters that begin at these bytes."""
    b0, b1, b2, b3 = (data.take(at + k, mode="clip").astype(np.int64) for k in range(4))
    two, three = (b0 & 0x1F) << 6 | b1 & 0x3F, (b0 & 0x0F) << 12 | (b1 & 0x3F) << 6 | b2 & 0x3F
    four = (b0 & 0x07) << 18 | (b1 & 0x3F) << 12 | (b2 & 0x3F) << 6 | b3 & 0x3F
    return np.select([b0 < 0x80, b0 < 0xE0, b0 < 0xF0], [b0, two, three], four)


def is_unspaced(script: np.ndarray) -> np.ndarray:
    """Which of the numbers that `script_of` gives belong to scripts without spaces between words."""
    table = np.zeros(len(SCRIPTS) + 1, np.bool_)
    table[[SCRIPTS.index(s) + 1 for s in UNSPACED]] = True
    return table[script]


def script_counts(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, len(SCRIPTS)) int64: letters of each script in each document of a column."""
    counts = wide_script_counts(data, offsets)
    counts[:, SCRIPTS.index("Latin")] += per_document(ascii_letters(data), offsets)
    return counts


def wide_script_counts(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, len(SCRIPTS)) int64: the same without ASCII letters."""
    leads, script = script_of(data)
    size = len(SCRIPTS) + 1
    document = np.searchsorted(offsets, leads, side="right") - 1
    cells = np.bincount(document * size + script, minlength=(len(offsets) - 1) * size)
    return cells.reshape(-1, size)[:, 1:].astype(np.int64)


def ascii_letters(data: np.ndarray) -> np.ndarray:
    """(len(data),) bool: a-z and A-Z."""
    return ((data | 0x20) - ord("a")).astype(np.uint8) < 26


def columns_of(counts: np.ndarray, *scripts: str) -> np.ndarray:
    """(n,) int64: letters of the named scripts."""
    return counts[:, [SCRIPTS.index(s) for s in scripts]].sum(1)
