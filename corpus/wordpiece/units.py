"""A column of text -> units: the byte ranges that BERT's normalisation treats independently of each other.

    text     "The naïve don't-care \n re-use 「猫」と"
    units    the  naïve  don  '  t  -  care  re  -  use  「  猫  」  と

A unit is a run of letters, digits, controls and most non-ASCII characters, or one character that stands alone.

ASCII whitespace and punctuation, and every character that `Normalization.classes` finds to stand alone, is a place
where a word ends whatever is on either side. So tokens(text) is the concatenation of tokens(unit), and a unit's tokens
depend on its bytes only. A plain ASCII unit is a word. The work is a few passes of byte arithmetic over the buffer
(about 1.5 ns a byte); only non-ASCII characters are decoded.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.columns import utf8
from corpus.ragged import ranges
from corpus.wordpiece.interning import PADDING, Int64s
from corpus.wordpiece.normalization import STANDS_ALONE, Normalization

UInt8s = NDArray[np.uint8]

BLOCK_BYTES: Final = 1 << 20  # of text at a time: the temporaries, about 10 bytes a byte, stay near the cache

_SPACE, _RUN, _ALONE = 0, 1, 2  # bits: bit 0 a run, bit 1 a unit of its own


def _class_of(byte: int) -> int:
    if byte in b" \t\n\r":  # BERT deletes the other ASCII controls, so they do not end a word
        return _SPACE
    return _ALONE if 0x21 <= byte <= 0x7E and not chr(byte).isalnum() else _RUN


_CLASSES: Final = bytes(map(_class_of, range(256)))


@dataclass(frozen=True, slots=True)
class Units:
    """`starts` and `lengths` (bytes of `text`) of each unit, in order. `text` is padded; its ASCII letters are small if
    the normalisation is uncased. `begins` are the starts, but after a space that a unit has joined to its word."""

    text: bytes
    starts: Int64s
    lengths: Int64s
    begins: Int64s

    def string(self, index: int) -> str:
        start = int(self.starts[index])
        return self.text[start : start + int(self.lengths[index])].decode()


def split_units(
    text: bytes, cuts: Int64s, normalization: Normalization, literals: re.Pattern[bytes] | None = None
) -> Units:
    """Split `text` (UTF-8). No unit crosses a byte offset in `cuts` (where a document begins).

    A match of `literals` is one unit and keeps its letters as they are.
    """
    classes = np.frombuffer(text, np.uint8) if not text else np.frombuffer(text.translate(_CLASSES), np.uint8)
    in_run: UInt8s = classes & np.uint8(_RUN)
    starts: UInt8s = classes >> np.uint8(1)
    ends = starts.copy()
    literal_starts, literal_lengths = _matches(literals, text, cuts)
    if not text.isascii():
        _isolate(*_stand_alone(text, normalization), in_run, starts, ends)
    _isolate(literal_starts, literal_lengths, in_run, starts, ends)
    starts[1:] |= in_run[1:] > in_run[:-1]
    ends[:-1] |= in_run[:-1] > in_run[1:]
    edges = cuts[(cuts > 0) & (cuts < len(text))]
    starts[edges] |= in_run[edges]
    ends[edges - 1] |= in_run[edges - 1]
    if text:
        starts[0] |= in_run[0]
        ends[-1] |= in_run[-1]
    first = np.flatnonzero(starts.view(np.bool_))
    lengths = np.flatnonzero(ends.view(np.bool_))
    lengths -= first - 1
    if normalization.lowercase:
        text = _lower(text, literal_starts, literal_lengths)
    return Units(text + PADDING, first, lengths, first)


def _isolate(begins: Int64s, lengths: Int64s, in_run: UInt8s, starts: UInt8s, ends: UInt8s) -> None:
    """Make each of these byte ranges one unit."""
    inside = ranges(begins, lengths)
    in_run[inside] = starts[inside] = ends[inside] = 0
    starts[begins] = 1
    ends[begins + lengths - 1] = 1


def _stand_alone(text: bytes, normalization: Normalization) -> tuple[Int64s, Int64s]:
    """Where the non-ASCII characters are that stand alone, and their sizes in bytes (2, 3 or 4)."""
    data = np.frombuffer(text, np.uint8)
    begins = np.flatnonzero(data >= 0xC0)
    leads = data[begins]
    sizes = 2 + (leads >= 0xE0).astype(np.int64) + (leads >= 0xF0)
    code_points = (leads & (np.uint8(0x7F) >> sizes.astype(np.uint8))).astype(np.uint32)
    for place in range(1, 4):
        more = np.flatnonzero(sizes > place)
        code_points[more] = (code_points[more] << np.uint32(6)) | (data[begins[more] + place] & 0x3F)
    alone = normalization.classes(code_points) == STANDS_ALONE
    return begins[alone], sizes[alone]


def _matches(literals: re.Pattern[bytes] | None, text: bytes, cuts: Int64s) -> tuple[Int64s, Int64s]:
    """Starts and lengths of the literals in `text` that lie within one document."""
    spans = [] if literals is None else [match.span() for match in literals.finditer(text)]
    begins, ends = np.array(spans, np.int64).reshape(-1, 2).T
    whole = np.searchsorted(cuts, begins, "right") == np.searchsorted(cuts, ends, "left")
    return begins[whole], ends[whole] - begins[whole]


def _lower(text: bytes, kept_starts: Int64s, kept_lengths: Int64s) -> bytes:
    """Small ASCII letters. The normalisation would do it as well; here it lets "The" and "the" share one entry."""
    if not len(kept_starts):
        return text.lower()
    lowered = bytearray(text.lower())
    for start, length in zip(kept_starts.tolist(), kept_lengths.tolist(), strict=True):
        lowered[start : start + length] = text[start : start + length]
    return bytes(lowered)


def utf8_of(texts: pa.Array | Sequence[str]) -> tuple[UInt8s, Int64s]:
    """The UTF-8 of all texts, one after the other, and their (B + 1,) byte offsets. A null is an empty text."""
    array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise TypeError(f"texts have type {array.type}; encode a column of strings")
    offsets, data = utf8((array.fill_null("") if array.null_count else array).cast(pa.large_string()))
    return data, offsets


LastCut = Callable[[UInt8s], int]


def after_last_space(window: UInt8s) -> int:
    """Where in `window` text may be cut so that no unit is: after its last space or line end; 0 if nowhere."""
    spaces = np.flatnonzero((window == 0x20) | (window == 0x0A))
    return int(spaces[-1]) + 1 if len(spaces) else 0


def text_blocks(
    data: UInt8s, offsets: Int64s, last_cut: LastCut = after_last_space
) -> Iterator[tuple[int, int]]:
    """Cut text into [begin, end) of about BLOCK_BYTES, at a `last_cut` or between texts, where no unit is cut."""
    begin = 0
    while begin < len(data):
        end = begin
        reach = BLOCK_BYTES
        while end == begin:  # normally once; a longer search when a single word fills the block
            stop = begin + reach
            if stop >= len(data):
                end = len(data)
                break
            text_begin = int(offsets[np.searchsorted(offsets, stop, "right") - 1])
            window_begin = max(begin, stop - 4096)
            cut = last_cut(data[window_begin:stop])
            end = max(text_begin, window_begin + cut if cut else begin)
            reach *= 2
        yield begin, end
        begin = end
