"""GPT-2's pre-tokens (Radford et al. 2019), a whole column at a time: the units of byte-level BPE.

The rule is a regular expression, tried at each place in this order:

    's  't  're  've  'm  'll  'd       what English joins with an apostrophe
    ?letters   ?digits   ?others        a run of one class, with the one blank (U+0020) before it, if there is one
    white space                         all of it at the end of a text, else without its last character

    "I've  seen\n3 cats!"    I  've  ␣  ␣seen  \n  3  ␣cats  !

Here it is comparisons of neighbouring characters: a pre-token begins where the class changes, unless a blank before has
joined; and at the last white space before something else. Pre-tokens cover the text without gaps. The class of a
character beyond ASCII is learned from `tokenizers` when it is first seen, so its Unicode tables are ours.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

from corpus.vocabulary.counts import count_units
from corpus.wordpiece.interning import PADDING, Int64s
from corpus.wordpiece.units import UInt8s, Units

SPACE, LETTER, DIGIT, OTHER = 1, 2, 3, 4
_BLANK: Final = 0x20
_APOSTROPHE: Final = 0x27
_SINGLE: Final = np.frombuffer(b"stmd", np.uint8)
_DOUBLE: Final = np.array([left << 8 | right for left, right in (b"re", b"ve", b"ll")], np.uint16)

Bools = NDArray[np.bool_]


def _ascii_class(byte: int) -> int:
    if byte in b" \t\n\r\x0b\x0c":
        return SPACE
    character = chr(byte)
    return LETTER if character.isalpha() else DIGIT if character.isdigit() else OTHER


_ASCII: Final = bytes(_ascii_class(byte) if byte < 0x80 else 0 for byte in range(256))
_classes: Final[UInt8s] = np.zeros(0x110000, np.uint8)
_classes[:0x80] = np.frombuffer(_ASCII, np.uint8)[:0x80]
_library: Final = ByteLevel(add_prefix_space=False, use_regex=True)


def _learn(character: str) -> int:
    """The class by which `tokenizers` cuts: two of a class stay together."""
    if len(_library.pre_tokenize_str(f"a{character}a")) == 1:
        return LETTER
    if len(_library.pre_tokenize_str(f"1{character}1")) == 1:
        return DIGIT
    return OTHER if len(_library.pre_tokenize_str(f"!{character}!")) == 1 else SPACE


def classes_of(text: str) -> UInt8s:
    """(characters,) the class of each."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    classes = _classes[codes]
    if not classes.all():
        for code in np.unique(codes[classes == 0]).tolist():
            _classes[code] = _learn(chr(code))
        classes = _classes[codes]
    return classes


def split_pretokens(text: bytes, cuts: Int64s) -> Units:
    """Split `text` (UTF-8). No pre-token crosses a byte offset in `cuts`, where a text begins.

    `begins` of the units are after the blank that has joined a word.
    """
    data = np.frombuffer(text, np.uint8)
    edges = cuts[(cuts > 0) & (cuts < len(text))]
    if text.isascii():
        places, leads = None, data
        classes = np.frombuffer(text.translate(_ASCII), np.uint8) if text else data
    else:
        places = np.flatnonzero((data & 0xC0) != 0x80)  # the first byte of each character
        leads, classes = data[places], classes_of(text.decode())
        edges = np.searchsorted(places, edges)
    is_start = _starts(leads, classes, edges)
    first = np.flatnonzero(is_start)
    joined = leads[first] == _BLANK
    following = np.minimum(first + 1, len(leads) - 1)
    joined &= ~is_start[following] & (classes[following] != SPACE)
    starts = first if places is None else places[first]
    return Units(text + PADDING, starts, np.diff(starts, append=len(text)), starts + joined)


def _starts(leads: UInt8s, classes: UInt8s, edges: Int64s) -> Bools:
    """(characters,) where a pre-token begins; `leads` are first bytes, `edges` the characters that begin a text."""
    starts = np.zeros(len(leads), np.bool_)
    if not len(leads):
        return starts
    space = classes == SPACE
    starts[1:] = classes[1:] != classes[:-1]
    starts[1:] &= (leads[:-1] != _BLANK) | space[1:]  # a word has the blank before it
    last_space = space[:-1] & ~space[1:]
    last_space[edges - 1] = False  # white space at the end of a text stays whole
    starts[:-1] |= last_space
    starts[0] = True
    starts[edges] = True
    _cut_contractions(leads, starts, edges)
    return starts


def _cut_contractions(leads: UInt8s, starts: Bools, edges: Int64s) -> None:
    """Where a pre-token would begin with an apostrophe and 's, 't, 're ... follows, they are one, and it ends there."""
    at = np.flatnonzero(starts & (leads == _APOSTROPHE))
    if not len(at):
        return
    padded = np.append(leads, np.zeros(3, np.uint8))
    one, two = padded[at + 1], padded[at + 2]
    single = np.isin(one, _SINGLE)
    double = np.isin(one.astype(np.uint16) << 8 | two, _DOUBLE)
    edge = np.zeros(len(padded), np.bool_)
    edge[edges] = True
    single &= ~edge[at + 1]
    double &= ~edge[at + 1] & ~edge[at + 2]
    for chosen, size in ((single, 2), (double, 3)):
        after = at[chosen] + size
        starts[at[chosen] + 1] = False
        starts[after[after < len(starts)]] = True


def last_cut(window: UInt8s) -> int:
    """Where in `window` text may be cut so that no pre-token is; 0 if nowhere (LastCut).

    Between two characters of different classes, the first of which is neither white space (it may join) nor an
    apostrophe (a contraction is of two classes), pre-tokens end whatever is around.
    """
    places = np.flatnonzero((window & 0xC0) != 0x80)
    if len(places) < 3:
        return 0
    places = places[:-1]  # the last character may be cut
    begin, end = int(places[0]), int(places[-1])
    classes = classes_of(window[begin:end].tobytes().decode())
    leads = window[places[:-1]]
    free = (classes[:-1] != SPACE) & (leads[:-1] != _APOSTROPHE)
    found = np.flatnonzero((classes[1:] != classes[:-1]) & free)
    return int(places[found[-1] + 1]) if len(found) else 0


@dataclass(frozen=True)
class Pretokens:
    """What a word is to byte-level BPE: a pre-token, its blank included."""

    def count(self, texts: pa.Array) -> pa.Table:
        return count_units(texts, split_pretokens, lambda units: [[unit] for unit in units], last_cut)
