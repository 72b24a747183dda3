"""MinHash signatures and the bands that propose near duplicates.

Broder 1997: under a random order of all shingles, two sets have the same first shingle with the probability of their
Jaccard similarity J. A band is `rows` such minima; documents that agree in one of `bands` bands are proposed, which
happens with probability 1 - (1 - J^rows)^bands:

    J            0.2     0.3     0.5     0.7     0.8     0.85     0.9      14 bands of 6 (the default)
    proposed   0.0009  0.0102   0.198   0.827   0.986   0.9987   0.99998

Each minimum has its own function of every shingle, so the minima are independent and the formula is exact also for
documents of a few shingles, where one-permutation hashing copies between empty bins. It costs 84 passes of 32-bit
arithmetic over the shingles of a block that stays in the cache: 4 ns a byte of English, a fifth of reading the shingles.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.near.shingles import shingle_blocks
from corpus.ragged import Ints
from corpus.stream import Words, mix, salt

Minima = npt.NDArray[np.uint32]


def proposal_chance(jaccard: float, *, bands: int, rows: int) -> float:
    """The probability that two documents of this similarity share a band."""
    return float(1 - (1 - jaccard**rows) ** bands)


def band_keys(texts: pa.LargeStringArray, *, bands: int, rows: int) -> tuple[Ints, Words]:
    """The documents that have shingles (m,), and their band keys (m, bands) uint64.

    A key holds the number of its band: equal keys are equal bands.
    """
    documents, keys = [np.zeros(0, np.int64)], [np.zeros((0, bands), np.uint64)]
    for first, hashes, offsets in shingle_blocks(texts):
        filled = np.flatnonzero(np.diff(offsets))
        documents.append(first + filled)
        keys.append(bands_of(signatures(hashes, offsets[filled], bands * rows), bands))
    return np.concatenate(documents), np.concatenate(keys)


def signatures(hashes: Words, begins: Ints, count: int) -> Minima:
    """(count, m) uint32: `count` minima of each of m documents; document i is hashes[begins[i] : begins[i + 1]]."""
    minima = np.empty((count, len(begins)), np.uint32)
    if not len(begins):
        return minima
    narrow = (hashes >> np.uint64(32)).astype(np.uint32)
    work = np.empty_like(narrow)
    for number, (flip, factor) in enumerate(_functions(count).tolist()):
        np.bitwise_xor(narrow, np.uint32(flip), out=work)
        np.multiply(work, np.uint32(factor), out=work)
        np.minimum.reduceat(work, begins, out=minima[number])
    return minima


def bands_of(minima: Minima, bands: int) -> Words:
    """(bands * rows, m) minima -> (m, bands) keys."""
    by_band = minima.reshape(bands, len(minima) // bands, minima.shape[1])
    keys = np.repeat(np.arange(1, bands + 1, dtype=np.uint64)[:, None], minima.shape[1], axis=1)
    for row in range(by_band.shape[1]):
        keys = mix(keys ^ by_band[:, row]) + np.uint64(row)
    return np.ascontiguousarray(keys.T)


@cache
def _functions(count: int) -> Minima:
    """(count, 2) of each function x -> (x ^ flip) * factor: a bijection on 32 bits, since the factor is odd."""
    words = mix(salt(0, "minhash", 0) + np.arange(count, dtype=np.uint64))
    return np.stack([(words >> np.uint64(32)).astype(np.uint32), words.astype(np.uint32) | np.uint32(1)], 1)
