"""Where sentences begin: one vectorised pass over the UTF-8 bytes of a whole column, no Python per document.

Scripts with spaces: . ! ? or … with the closing quotes or brackets behind it, a space, and then something that may open
a sentence (not a lower-case letter, not a comma). A full stop does not end a sentence after an abbreviation ("Dr.",
"e.g.", "J. Smith", "Fig. 3"), an ordinal in languages that write them so ("3. Oktober") or the number of a list item at
the beginning of a line ("2. Install"); abbreviations and ordinals are the language's (corpus/abbreviations.py).

Chinese and Japanese (the rule that Chinese pretraining code has in common): after 。！？ with the closing quotes or
brackets behind it, unless one of ，。！？、；： follows; no space is needed. An ellipsis counts when it is doubled as
Chinese writes it (…… or ......), ASCII ! ? beside a Han or Kana character, six dots when one follows. The full stops of
Hindi, Urdu, Amharic, Armenian, Khmer, Burmese, Tibetan and Mongolian are treated like 。. Thai and Lao have none: there a
space between two letters ends a sentence, or what comes nearest to one.

A newline always ends a sentence. A long text without any mark is one sentence: who needs shorter ones has to cut it.
Only candidates are looked at closely, about one byte in a hundred: some 100 MB/s per core.
"""

from functools import cache

import numpy as np
import pyarrow as pa

from corpus.abbreviations import ENGLISH, LANGUAGES, OTHER
from corpus.columns import byte_set, mark, utf8
from corpus.unicode_categories import among

CLOSERS = "\"')]}”’»›“‘«‹״"  # German closes with “, Danish with «: directly behind a mark they cannot open
OPENERS = "\"'([{“‘«‹»›”’¿¡„‚<`*#$§–—"  # beside capitals, digits and letters of scripts without case
SPACED_CLOSERS = "»”"  # closing also between spaces, as in French
WIDE_STOPS = "。！？｡।॥؟۔።፧፨։។៕။།༎᠃᠉\u037e"
WIDE_CLOSERS = "”’」』）】》〉〕］｝)]"
WIDE_CONTINUES = "，。！？、；：｡,!?"
BLANKS = " \t\u00a0\u202f\u3000"
MAX_RUN = 16  # closers or spaces looked through; more of them is not a sentence end but a drawing

_NARROW_CLOSER, _WIDE_STOP, _WIDE_CLOSER, _OPENS, _BLANK, _BREAKS, _WIDE, _INITIAL = (
    1 << i for i in range(8)
)
_END = 0x10001  # "code point" behind the end of a document; 0x10000 stands for all beyond the basic plane
_WORD_BYTES = 16  # the longest abbreviation
_EDGES = np.isin(np.arange(256), list(b" (-\n"))  # what may stand before an ordinal
_CHUNK = 1 << 14  # stops looked at together, each with 19 bytes and 19 places

_DOT, _NEWLINE, _SPACE = ord("."), ord("\n"), ord(" ")
_STOPS = b".!?"
_LEADS = sorted({c.encode()[:2] for c in WIDE_STOPS + "…"})  # first two bytes of the wide stops
_CANDIDATES = [
    *_STOPS,
    _NEWLINE,
    *(lead[0] for lead in _LEADS),
]  # 0xE0 among them, for Hindi: Thai and Lao begin with it


def sentence_starts(
    texts: pa.LargeStringArray, languages: pa.StringArray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(starts_S int64, document_S int64): the byte at which each sentence begins, and the document it is in.

    Bytes count from the first byte of the column's first text, through the concatenated UTF-8 of all texts. Sentence i
    is the bytes [starts[i], starts[i + 1]), or to the end of its document if it is the last one. Each document that is
    not empty begins with a sentence, so sentences cover the text; blanks belong to the sentence before them.

    `languages` are the documents' BCP 47 tags; null, "und" or no array stands for English. Raises ValueError if their
    number is another.
    """
    offsets, data = utf8(texts)
    if languages is not None and len(languages) != len(texts):
        raise ValueError(
            f"{len(languages)} languages for {len(texts)} texts; give one language for each text"
        )
    if not len(data):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    text = _Text(data, offsets, languages)
    extra = b"".join(language.stops.encode() for language in text.languages)
    at = np.flatnonzero(mark(data, byte_set([*_CANDIDATES, *extra])))
    byte = data[at]
    stops = at[(byte == _DOT) | (byte == ord("!")) | (byte == ord("?"))]
    newlines = at[byte == _NEWLINE] + 1
    newlines = newlines[_byte(data, newlines) != _NEWLINE]
    wide, ellipses = _wide_stops(text, at[byte >= 0x80])
    own = text.own_stops(at[np.isin(byte, list(extra))])
    starts = [
        offsets[:-1],
        newlines,
        _narrow(
            text,
            np.concatenate([stops, own, ellipses]),
            np.repeat([1, 3], [len(stops) + len(own), len(ellipses)]),
        ),
        _wide(text, wide, ellipses, stops),
        _spaces(text, at[byte == 0xE0]),
    ]
    merged = np.sort(
        np.concatenate(starts), kind="stable"
    )  # np.unique's hashing took a third of the whole time
    merged = merged[(merged < len(data)) & (np.diff(merged, prepend=-1) > 0)]
    return merged, np.searchsorted(offsets, merged, side="right") - 1


class _Text:
    """Bytes and documents and their languages, with the character at many places at once."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray, languages: pa.StringArray | None) -> None:
        self.data, self.offsets = data, offsets
        self.languages, self._language_of = [ENGLISH], np.zeros(len(offsets) - 1, np.int64)
        if languages is not None:
            tags, self._language_of = np.unique(
                [(tag or "und").split("-")[0].lower() for tag in languages.to_pylist()], return_inverse=True
            )
            self.languages = [ENGLISH if tag == "und" else LANGUAGES.get(tag, OTHER) for tag in tags.tolist()]

    def language(self, at: np.ndarray) -> np.ndarray:
        """Number (in `languages`) of the language at the bytes `at`."""
        if len(self.languages) == 1:
            return np.zeros(len(at), np.int64)
        return self._language_of[np.searchsorted(self.offsets, at, side="right") - 1]

    def own_stops(self, at: np.ndarray) -> np.ndarray:
        """Those of `at` that hold a mark which ends sentences in the language of the document only."""
        good = np.zeros((len(self.languages), 256), np.bool_)
        for number, language in enumerate(self.languages):
            good[number, list(language.stops.encode())] = True
        return at[good[self.language(at), self.data[at]]]

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


def _narrow(text: _Text, stop: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Starts behind . ! ? … (at bytes `stop`, `width` bytes wide) that are followed by closers, a space and an opener."""
    begin, end = text.bounds(stop)
    after = stop + width
    # Most stops are inside a number, a name or a run of dots: keep those before a space or a closer.
    code, _ = text.character(after, end)
    likely = (_properties()[code] & (_BLANK | _NARROW_CLOSER)) != 0
    stop, begin, end, after = stop[likely], begin[likely], end[likely], after[likely]
    closed = text.skip(after, end, _NARROW_CLOSER)
    start = text.skip(closed, end, _BLANK)
    start = _behind_spaced_closers(text, start, end)
    code, _ = text.character(start, end)
    good = (start > closed) & ((_properties()[code] & _OPENS) != 0)
    digit = (code >= ord("0")) & (code <= ord("9"))
    stop, begin, start, digit = stop[good], begin[good], start[good], digit[good]
    kept = [np.zeros(0, np.bool_)]
    for first in range(0, len(stop), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        kept.append(~_no_end(text, stop[chunk], begin[chunk], digit[chunk]))
    return start[np.concatenate(kept)]


def _behind_spaced_closers(text: _Text, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`start`, moved behind a closing quote that stands between spaces: "Oui. » Il"."""
    code, width = text.character(start, end)
    quoted = np.flatnonzero(np.isin(code, [ord(c) for c in SPACED_CLOSERS]))
    behind = start[quoted] + width[quoted]
    moved = text.skip(behind, end[quoted], _BLANK)
    start[quoted] = np.where(moved > behind, moved, start[quoted])
    return start


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
    needs_wide[len(after) - len(marks) :] = ~_behind_wide(text, marks - 1)
    begin, end = text.bounds(after - 1)
    whole = (
        after - np.repeat([1, 6, 6, 1], sizes) >= begin
    )  # a doubled mark may not begin in the document before
    closed = text.skip(after, end, _WIDE_CLOSER)
    start = text.skip(closed, end, _BLANK)
    kind = _properties()[text.character(start, end)[0]]
    wide_next = ((kind & _WIDE) != 0) & (start == closed)
    return start[whole & ((kind & _BREAKS) != 0) & (wide_next | ~needs_wide)]


def _behind_wide(text: _Text, stop: np.ndarray) -> np.ndarray:
    """Which stops follow a Han or Kana character (or wide punctuation) of the same document."""
    begin, end = text.bounds(stop)
    code, width = text.character(np.maximum(stop - 3, 0), end)
    return (stop - 3 >= begin) & (width == 3) & ((code >= 0x3000) & (code < 0xA000) | (code >= 0xFF00))


def _spaces(text: _Text, at: np.ndarray) -> np.ndarray:
    """Starts behind a space between two letters of Thai or of Lao, of which `at` are possible first bytes."""
    at = at[(_byte(text.data, at + 1) >= 0xB8) & (_byte(text.data, at + 1) <= 0xBB)]
    at = at[_byte(text.data, at + 3) == _SPACE]
    _, end = text.bounds(at)
    start = text.skip(at + 3, end, _BLANK)
    before, after = text.character(at, end)[0], text.character(start, end)[0]
    apart = [0x0E2F, 0x0E46, 0x0EAF, 0x0EC6]  # marks of abbreviation and repetition, which spaces surround
    apart += [*range(0x0E4F, 0x0E80), *range(0x0ECE, 0x0EDC)]  # digits and signs
    letter = (after >= 0x0E01) & (after <= 0x0EDF) & ~np.isin(after, apart)
    return start[letter & ~np.isin(before, apart)]


def _no_end(text: _Text, stop: np.ndarray, begin: np.ndarray, before_digit: np.ndarray) -> np.ndarray:
    """Which stops belong to the word or number before them, or stand alone in brackets: "(...)"."""
    data, language = text.data, text.language(stop)
    back = stop[:, None] - np.arange(1, _WORD_BYTES + 4)  # the bytes before the stop, nearest first
    before = np.where(back >= begin[:, None], _byte(data, back), _NEWLINE)
    lower = np.where(before < 0x80, before | 0x20, before)
    ascii_letter = (lower >= ord("a")) & (lower <= ord("z"))
    digit = (before >= ord("0")) & (before <= ord("9"))
    length, edge = _run(ascii_letter | (before >= 0x80) & ~_punctuation(before), before)
    alone = (length <= _WORD_BYTES) & ~((edge == ord("_")) | (edge >= ord("0")) & (edge <= ord("9")))
    key = _packed(np.where(np.arange(_WORD_BYTES) < length[:, None], lower[:, :_WORD_BYTES], 0))
    word, ordinal = np.zeros(len(stop), np.bool_), np.zeros(len(stop), np.bool_)
    digits, digits_edge = _run(digit, before)
    for number in np.flatnonzero(np.bincount(language)).tolist():
        rows = np.flatnonzero(language == number)
        own = text.languages[number]
        word[rows] = _among(key[rows], _keys(own.always))
        word[rows] |= before_digit[rows] & _among(key[rows], _keys(own.before_digit))
        ordinal[rows] = own.ordinals
    ordinal &= (digits >= 1) & (digits <= 2) & _EDGES[digits_edge]
    numbered = (digits >= 1) & (digits <= 3) & (digits_edge == _NEWLINE)
    code, width = text.character(stop - np.minimum(length, 3), stop)
    one = (length >= 1) & (width == length)
    initial = one & (((_properties()[code] & _INITIAL) != 0) | (edge == _DOT))  # J. Smith, e.g., U.S.
    _, bracket = _run(before == _DOT, before)
    in_brackets = (bracket == ord("(")) | (bracket == ord("["))
    return (data[stop] == _DOT) & (alone & (word | initial) | numbered | ordinal) | in_brackets


def _punctuation(before: np.ndarray) -> np.ndarray:
    """Which bytes belong to the quotes, dashes and blanks among U+0080-00BF and U+2000-203F; `before` runs backwards."""
    flags = np.zeros_like(before, np.bool_)
    size = before.shape[1]
    two = (before[:, 1:] == 0xC2) & (before[:, :-1] >= 0x80) & (before[:, :-1] < 0xC0)
    three = (before[:, 2:] == 0xE2) & (before[:, 1:-1] == 0x80)
    for shift in range(2):
        flags[:, shift : size - 1 + shift] |= two
    for shift in range(3):
        flags[:, shift : size - 2 + shift] |= three
    return flags


def _run(flags: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how many flags are set from the first column on, the byte of `before` behind them)."""
    length = np.logical_and.accumulate(flags, 1).sum(1)
    edge = np.take_along_axis(before, np.minimum(length, flags.shape[1] - 1)[:, None], 1)[:, 0]
    return length, edge


def _packed(letters: np.ndarray) -> np.ndarray:
    """(n, 16) bytes -> (n,) uint64, one number for each word."""
    words = np.ascontiguousarray(letters, np.uint8).view("<u8")
    return words[:, 0] ^ words[:, 1] * np.uint64(0x9E3779B97F4A7C15)


@cache
def _keys(words: str) -> np.ndarray:
    """Words packed as _no_end packs them, backwards; ASCII capitals are small there, others are given both ways."""
    spelled = {
        form.encode()[::-1] for word in words.split() for form in (word, word.capitalize(), word.upper())
    }
    rows = [bytes(b | 0x20 if b < 0x80 else b for b in form).ljust(_WORD_BYTES, b"\0") for form in spelled]
    return np.sort(_packed(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, _WORD_BYTES)))


def _among(keys: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Which keys are in a sorted table."""
    if not len(table):
        return np.zeros(len(keys), np.bool_)
    return table.take(np.searchsorted(table, keys), mode="clip") == keys


@cache
def _properties() -> np.ndarray:
    """(0x10002,) uint8: what each character of the basic plane may be; then all others; then the end of a document."""
    table = np.zeros(_END + 1, np.uint8)
    table[:0x10000] = _BREAKS
    table[:0x10000][among("Lu", "Lt", "Lo", "Lm", "Nd", "Nl", "No", "So", "Ps", "Pi")[:0x10000]] |= _OPENS
    initial = among("Lu", "Lt")
    initial[:0x2E80] |= among("Lo")[:0x2E80]
    table[:0x10000][initial[:0x10000]] |= _INITIAL
    table[0x10D0:0x1100] |= _OPENS  # Georgian small letters have no capitals in running text
    table[0x2E80:] |= _WIDE
    table[0x10000] = _BREAKS | _OPENS | _WIDE
    for characters, kind in (
        (CLOSERS, _NARROW_CLOSER),
        (OPENERS, _OPENS),
        (WIDE_STOPS, _WIDE_STOP),
        (WIDE_CLOSERS, _WIDE_CLOSER),
        (BLANKS, _BLANK),
    ):
        for c in characters:
            table[ord(c)] |= kind
    for c in WIDE_CONTINUES + WIDE_STOPS + WIDE_CLOSERS + BLANKS + "…\n":
        table[ord(c)] &= ~_BREAKS & 0xFF
    table[_END] = 0
    return table
