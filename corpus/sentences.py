"""Where sentences begin: one vectorised pass over the UTF-8 bytes of a whole column, no Python per document.

Western scripts: . ! ? or … with the closing quotes or brackets behind it, a space, and then something that may open a
sentence (not a lower-case letter, not a comma). A full stop does not end a sentence after an abbreviation ("Dr.",
"e.g.", "J. Smith", "Fig. 3") or after the number of a list item at the beginning of a line ("2. Install").

Chinese and Japanese (the rule that Chinese pretraining code has in common): after 。！？ with the closing quotes or
brackets behind it, unless one of ，。！？、；： follows; no space is needed. An ellipsis counts when it is doubled as
Chinese writes it (…… or ......), ASCII ! ? and six dots when a wide character follows. Danda (Hindi, Bengali), the
Arabic question mark and the Urdu full stop are treated like 。.

A newline always ends a sentence. Only candidates are looked at closely, about one byte in a hundred: some 100 MB/s per core.
"""

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa

from corpus.columns import byte_set, mark, utf8

# Not the end of a sentence, whatever follows (lower case, without the full stop).
ALWAYS = "mr mrs ms dr prof st messrs vs fig figs eq eqs sec approx cf al resp viz gen col lt sgt capt gov sen rep hon rev"
# Not the end before a number: "No. 5", "Vol. 2", "Jan. 1", "p. 12".
BEFORE_DIGIT = "no nos vol vols p pp ch art sect par app ref refs ver v jan feb mar apr jun jul aug sep sept oct nov dec ca c"

CLOSERS = "\"')]}”’»›"
OPENERS = "\"'([{“‘«‹¿¡„<`*#$§–—"  # beside capitals, digits and letters of scripts without case
WIDE_STOPS = "。！？｡।॥؟۔"
WIDE_CLOSERS = "”’」』）】》〉〕］｝"
WIDE_CONTINUES = "，。！？、；：｡,!?"
MAX_RUN = 16  # closers or spaces looked through; more of them is not a sentence end but a drawing

_NARROW_CLOSER, _WIDE_STOP, _WIDE_CLOSER, _OPENS, _BLANK, _BREAKS, _WIDE = (1 << i for i in range(7))
_END = 0x10001  # "code point" behind the end of a document; 0x10000 stands for all beyond the basic plane
_WORD_BYTES = 8  # the longest abbreviation

_DOT, _NEWLINE = ord("."), ord("\n")
_STOPS = b".!?"
_LEADS = sorted({c.encode()[:2] for c in WIDE_STOPS + "…"})  # first two bytes of the wide stops
_CANDIDATES = byte_set([*_STOPS, _NEWLINE, *(lead[0] for lead in _LEADS)])


def sentence_starts(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """(starts_S int64, document_S int64): the byte at which each sentence begins, and the document it is in.

    Bytes count from the first byte of the column's first text, through the concatenated UTF-8 of all texts. Sentence i
    is the bytes [starts[i], starts[i + 1]), or to the end of its document if it is the last one. Each document that is
    not empty begins with a sentence, so sentences cover the text; blanks belong to the sentence before them.
    """
    offsets, data = utf8(texts)
    if not len(data):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = np.flatnonzero(mark(data, _CANDIDATES))
    byte = data[at]
    stops = at[(byte == _DOT) | (byte == ord("!")) | (byte == ord("?"))]
    newlines = at[byte == _NEWLINE] + 1
    newlines = newlines[_byte(data, newlines) != _NEWLINE]
    text = _Text(data, offsets)
    wide, ellipses = _wide_stops(text, at[byte >= 0x80])
    starts = [offsets[:-1], newlines, _narrow(text, stops, ellipses), _wide(text, wide, ellipses, stops)]
    merged = np.unique(np.concatenate(starts))
    merged = merged[merged < len(data)]
    return merged, np.searchsorted(offsets, merged, side="right") - 1


class _Text:
    """Bytes and documents, with the character at many places at once."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        self.data, self.offsets = data, offsets

    def bounds(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(begin, end) of the documents that hold the bytes `at`."""
        document = np.searchsorted(self.offsets, at, side="right")
        return self.offsets[document - 1], self.offsets[document]

    def character(self, at: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(code point, width in bytes) of the characters that begin at `at`; _END where `at` has reached `end`."""
        b0, b1, b2 = (_byte(self.data, at + k).astype(np.int32) for k in range(3))
        width = 1 + (b0 >= 0xC0) + (b0 >= 0xE0).astype(np.int64) + (b0 >= 0xF0)
        two, three = (b0 & 0x1F) << 6 | b1 & 0x3F, (b0 & 0x0F) << 12 | (b1 & 0x3F) << 6 | b2 & 0x3F
        code = np.choose(width - 1, (b0, two, three, np.int32(0x10000)))
        return np.where(at >= end, _END, code), width

    def skip(self, at: np.ndarray, end: np.ndarray, kind: int) -> np.ndarray:
        """`at` moved over up to MAX_RUN characters of a kind."""
        at, active = at.copy(), np.arange(len(at))
        for _ in range(MAX_RUN):
            code, width = self.character(at[active], end[active])
            hit = (_properties()[code] & kind) != 0
            active = active[hit]
            if not len(active):
                break
            at[active] += width[hit]
        return at


def _byte(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bytes at `at`; places outside the text give its first or last byte, which callers mask."""
    return data.take(at, mode="clip")


def _wide_stops(text: _Text, leads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes just behind each wide stop, first bytes of each single …) among characters that begin at `leads`."""
    pairs = np.array([int.from_bytes(lead, "big") for lead in _LEADS])
    pair = text.data[leads].astype(np.int64) << 8 | _byte(text.data, leads + 1)
    leads = leads[np.isin(pair, pairs)]
    code, width = text.character(leads, np.full(len(leads), len(text.data)))
    wide = (_properties()[code] & _WIDE_STOP) != 0
    return leads[wide] + width[wide], leads[code == ord("…")]


def _narrow(text: _Text, stops: np.ndarray, ellipses: np.ndarray) -> np.ndarray:
    """Starts behind . ! ? … that are followed by closers, a space and an opener."""
    stop = np.concatenate([stops, ellipses])
    begin, end = text.bounds(stop)
    after = stop + np.repeat([1, 3], [len(stops), len(ellipses)])
    # Most stops are inside a number, a name or a run of dots: keep those before a space or a closer.
    code, _ = text.character(after, end)
    likely = (_properties()[code] & (_BLANK | _NARROW_CLOSER)) != 0
    stop, begin, end, after = stop[likely], begin[likely], end[likely], after[likely]
    closed = text.skip(after, end, _NARROW_CLOSER)
    start = text.skip(closed, end, _BLANK)
    code, _ = text.character(start, end)
    good = (start > closed) & ((_properties()[code] & _OPENS) != 0)
    digit = (code >= ord("0")) & (code <= ord("9"))
    stop, begin, start, digit = stop[good], begin[good], start[good], digit[good]
    return start[~_abbreviated(text.data, stop, begin, digit)]


def _wide(text: _Text, wide: np.ndarray, ellipses: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Starts that need no space before them."""
    doubled = ellipses[1:][np.diff(ellipses) == 3] + 3
    dots = stops[text.data[stops] == _DOT]
    sixth = dots[5:][dots[5:] - dots[:-5] == 5] + 1
    marks = stops[text.data[stops] != _DOT] + 1
    kinds = (wide, doubled, sixth, marks)
    sizes = [len(k) for k in kinds]
    after = np.concatenate(kinds)
    needs_wide = np.repeat([False, False, True, True], sizes)
    begin, end = text.bounds(after - 1)
    whole = (
        after - np.repeat([1, 6, 6, 1], sizes) >= begin
    )  # a doubled mark may not begin in the document before
    closed = text.skip(after, end, _WIDE_CLOSER)
    start = text.skip(closed, end, _BLANK)
    kind = _properties()[text.character(start, end)[0]]
    wide_next = ((kind & _WIDE) != 0) & (start == closed)
    return start[whole & ((kind & _BREAKS) != 0) & (wide_next | ~needs_wide)]


def _abbreviated(
    data: np.ndarray, stop: np.ndarray, begin: np.ndarray, before_digit: np.ndarray
) -> np.ndarray:
    """Which stops are a full stop that belongs to the word or number before it."""
    back = stop[:, None] - np.arange(1, _WORD_BYTES + 2)  # the bytes before the stop, nearest first
    before = np.where(back >= begin[:, None], _byte(data, back), _NEWLINE)
    lower = before | 0x20
    letter = (lower >= ord("a")) & (lower <= ord("z"))
    digit = (before >= ord("0")) & (before <= ord("9"))
    letters, edge = _run(letter, before)
    alone = (letters <= _WORD_BYTES) & ~(
        (edge >= 0x80) | (edge == ord("_")) | (edge >= ord("0")) & (edge <= ord("9"))
    )
    spelled = np.where(np.arange(_WORD_BYTES) < letters[:, None], lower[:, :-1], 0).astype(np.uint64)
    key = (spelled << 8 * np.arange(_WORD_BYTES, dtype=np.uint64)).sum(1, dtype=np.uint64)
    word = np.isin(key, _keys(ALWAYS)) | before_digit & np.isin(key, _keys(BEFORE_DIGIT))
    initial = (letters == 1) & ((before[:, 0] < ord("a")) | (edge == _DOT))  # J. Smith, e.g., U.S.
    digits, edge = _run(digit, before)
    numbered = (digits >= 1) & (digits <= 3) & (edge == _NEWLINE)
    return (data[stop] == _DOT) & (alone & (word | initial) | numbered)


def _run(flags: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how many flags are set from the first column on, the byte of `before` behind them)."""
    length = np.logical_and.accumulate(flags, 1).sum(1)
    edge = np.take_along_axis(before, np.minimum(length, flags.shape[1] - 1)[:, None], 1)[:, 0]
    return length, edge


@cache
def _keys(words: str) -> np.ndarray:
    """Words packed as _abbreviated packs them: the last letter in the lowest byte."""
    return np.array([int.from_bytes(w.encode(), "big") for w in words.split()], np.uint64)


@cache
def _properties() -> np.ndarray:
    """(0x10002,) uint8: what each character of the basic plane may be; then all others; then the end of a document."""
    table = np.zeros(_END + 1, np.uint8)
    table[:0x10000] = _BREAKS
    for code in range(0x10000):
        if unicodedata.category(chr(code)) in ("Lu", "Lt", "Lo", "Lm", "Nd", "Nl", "No", "So", "Ps", "Pi"):
            table[code] |= _OPENS
    table[0x2E80:] |= _WIDE
    table[0x10000] = _BREAKS | _OPENS | _WIDE
    for characters, kind in (
        (CLOSERS, _NARROW_CLOSER),
        (OPENERS, _OPENS),
        (WIDE_STOPS, _WIDE_STOP),
        (WIDE_CLOSERS, _WIDE_CLOSER),
        (" \u3000", _BLANK),
    ):
        for c in characters:
            table[ord(c)] |= kind
    for c in WIDE_CONTINUES + WIDE_STOPS + WIDE_CLOSERS + "… \u3000\n":
        table[ord(c)] &= ~_BREAKS & 0xFF
    table[_END] = 0
    return table
