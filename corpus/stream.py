"""Counter-based randomness: every draw is a pure function of (seed, purpose, pass, content id, counter).

There is no generator with a state, so there is no order in which draws must happen: neither batch, worker,
rank nor restart can change one. After Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the
function is SplitMix64 (Steele et al. 2014) with Stafford's mixing constants, since its few 64-bit integer
operations are what numpy does fastest (3 ns a draw here) and give the same bits on every machine and every
numpy.

    (seed, purpose, pass) --blake2b--> salt --mix with the content id--> key_N --mix with the counter--> bits
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from corpus.ragged import Ints, offsets_of, rows_of, sums

Words = npt.NDArray[np.uint64]
Counter = int | npt.NDArray[np.integer]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(0xD1B54A32D192ED03)


def mix(words: Words) -> Words:
    """A bijection on 64 bits; each input bit flips each output bit with probability 1/2. Works in place."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def salt(seed: int, purpose: str, pass_number: int) -> np.uint64:
    """One word for what all items of a draw share. `purpose` keeps two uses of one seed independent."""
    digest = blake2b(f"{seed}\0{purpose}\0{pass_number}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u8")[0]


def below(bits: Words, bound: Counter) -> Ints:
    """The upper 32 bits of each word -> an integer in [0, bound), by multiplication (no division).

    For bound < 2^32; the shares differ from 1/bound by less than 2^-32.
    """
    product = bits >> np.uint64(32)
    product *= np.asarray(bound).astype(np.uint64)
    product >>= np.uint64(32)
    return product.view(np.int64)


class Stream:
    """N independent streams of draws, one for each item (document, instance, ...)."""

    __slots__ = ("keys_N",)

    def __init__(self, keys_N: Words) -> None:
        self.keys_N = keys_N

    @classmethod
    def of(cls, seed: int, purpose: str, pass_number: int, ids: npt.NDArray[np.unsignedinteger]) -> Stream:
        """Streams of items known by content id: (N, 16) uint8 digests, or (N,) uint64."""
        words = ids.view("<u8") if ids.dtype == np.uint8 else ids.astype(np.uint64).reshape(-1, 1)
        keys = np.full(len(words), salt(seed, purpose, pass_number), np.uint64)
        for column in words.T:
            keys ^= column
            mix(keys)
        return cls(keys)

    def __len__(self) -> int:
        return len(self.keys_N)

    def at(self, rows: slice | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Stream:
        """The streams of some items; an item may appear many times."""
        return Stream(self.keys_N[rows])

    def fold(self, number: Counter) -> Stream:
        """A new stream for every item's part number so-and-so (a chunk of a document, a side of a pair)."""
        return Stream(mix(self.bits(number) ^ _FOLD))

    def bits(self, counter: Counter = 0) -> Words:
        """(N,) 64 random bits each, for draw number `counter`: one number, or one for each item."""
        return mix(self.keys_N + (np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)) * _GOLDEN)

    def below(self, bound: Counter, counter: Counter = 0) -> Ints:
        """(N,) integers in [0, bound)."""
        return below(self.bits(counter), bound)

    def chance(self, share: float, counter: Counter = 0) -> npt.NDArray[np.bool_]:
        """(N,) True with probability `share`."""
        return (self.bits(counter) >> np.uint64(11)) < np.uint64(round(share * 2.0**53))

    def heads(self, flips_N: npt.NDArray[np.integer]) -> Ints:
        """(N,) how many of `flips_N` fair coins show heads: binomial(flips, 1/2), by counting random bits.

        Flip number f of an item is bit f % 64 of its word f // 64.
        """
        words_N = (flips_N + 63) // 64
        rows, offsets = rows_of(words_N), offsets_of(words_N)
        number = np.arange(offsets[-1]) - offsets[rows]
        used = np.minimum(flips_N[rows] - 64 * number, 64).astype(np.uint64)
        bits = self.at(rows).bits(number) << (np.uint64(64) - used)
        return sums(np.bitwise_count(bits), offsets)
