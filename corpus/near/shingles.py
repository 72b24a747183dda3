"""Shingles: the overlapping runs of units by which two texts are compared, as 64-bit hashes of columns.

A shingle begins at every unit that has at least SHINGLE_WEIGHT after it (itself included) and ends where that weight is
reached: 5 words, 8 Chinese characters, 16 letters of DNA or Thai, or a mixture (corpus.near.units). A document that weighs
less is one shingle, all of it, so short documents are near duplicates only if they are equal but for case and
punctuation. A document without a letter (an emoji) has no shingle and is nobody's duplicate.

Broder 1997, "On the resemblance and containment of documents". Two different shingles share a hash once in 1.8e19 pairs,
so set operations on hashes are those on the text.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from corpus.columns import utf8
from corpus.near.units import SHINGLE_WEIGHT, Units, units_of
from corpus.ragged import Ints, blocks, offsets_of, ranges
from corpus.rolling import prefix, span
from corpus.stream import Words

_BLOCK_BYTES = 1 << 18  # its temporaries fit the cache: twice as fast as 4 MB


def shingle_blocks(texts: pa.LargeStringArray) -> Iterator[tuple[int, Words, Ints]]:
    """The shingles of a column in blocks of about 256 KB of text, at least one document each.

    Yields (first document, hashes (S,), offsets (n + 1,)); a shingle that a document repeats is repeated.
    """
    offsets, data = utf8(texts)
    for first, last in blocks(offsets, _BLOCK_BYTES):
        inside = offsets[first : last + 1]
        hashes, bounds = shingles_of(units_of(data[inside[0] : inside[-1]], inside - inside[0]))
        yield first, hashes, bounds


def shingle_sets(texts: pa.LargeStringArray) -> list[Words]:
    """The distinct shingles of each document, sorted."""
    return [
        np.unique(hashes[begin:end])
        for _, hashes, bounds in shingle_blocks(texts)
        for begin, end in itertools.pairwise(bounds.tolist())
    ]


def shared(a: Words, b: Words) -> int:
    """How many shingles two sorted sets have in common. The Jaccard similarity is s / (len(a) + len(b) - s)."""
    both = np.concatenate([a, b])
    both.sort()
    return int(np.count_nonzero(both[1:] == both[:-1]))


def shingles_of(units: Units) -> tuple[Words, Ints]:
    """Shingle hashes (S,) and offsets (n + 1,) of documents given as units."""
    starts, ends, offsets = _spans(units)
    return span(prefix(units.hashes), starts, ends), offsets


def _spans(units: Units) -> tuple[Ints, Ints, Ints]:
    """First unit and end of each shingle (S,), and where each document's shingles begin (n + 1,)."""
    begin, end = units.offsets[:-1], units.offsets[1:]
    weight = units.weights[0] if len(units.weights) else np.uint8(1)
    if (units.weights == weight).all():  # one script: a shingle is a fixed number of units
        step = -(-SHINGLE_WEIGHT // int(weight))
        counts = np.maximum(end - begin - step + 1, end > begin)
        starts = ranges(begin, counts)
        return starts, np.minimum(starts + step, np.repeat(end, counts)), offsets_of(counts)
    total = offsets_of(units.weights)
    ends = np.searchsorted(total, total[:-1] + SHINGLE_WEIGHT)  # len(total) where too little is left
    document = np.repeat(np.arange(len(begin)), end - begin)
    whole = ends <= end[document]
    whole[begin[end > begin]] = True  # the first unit always begins one, if need be of all there is
    starts = np.flatnonzero(whole)
    document = document[starts]
    counts = np.bincount(document, minlength=len(begin))
    return starts, np.minimum(ends[starts], end[document]), offsets_of(counts)
