"""Hashes of every span of a sequence at once: one prefix sum, then two look-ups and two multiplications a span.

    S[i] = sum of value[j] * BASE^j for j < i                  (modulo 2^64)
    hash(begin, end) = (S[end] - S[begin]) * BASE^-begin       the same wherever the span lies

BASE is odd, so it has an inverse modulo 2^64. Values should be well mixed 64-bit words (`mix`), not small numbers.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

BASE = 0x9E6C63D0676A9A99
_INVERSE = pow(BASE, -1, 1 << 64)


def mix(values: U64) -> U64:
    """A bijection of 64-bit words after which every bit depends on every bit (the finaliser of MurmurHash3)."""
    out = values.copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        out ^= out >> np.uint64(33)
        out *= np.uint64(factor)
    out ^= out >> np.uint64(33)
    return out


@cache
def byte_values(zero: bytes = b"") -> U64:
    """(256,) a mixed word per byte; 0 for the bytes that shall not count."""
    values = mix(np.arange(1, 257, dtype=np.uint64))
    values[list(zero)] = 0
    return values


@cache
def _powers(bits: int, factor: int) -> U64:
    powers = np.full(1 << bits, factor, np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _power(count: int, factor: int) -> U64:
    # one table of 16 MB serves all blocks; only a document of several megabytes asks for a larger one
    return _powers(max(21, count.bit_length()), factor)[:count]


def prefix(values: U64) -> U64:
    """(n,) values -> (n + 1,) prefix sums for `span`."""
    out = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * _power(len(values), BASE), out=out[1:])
    return out


def span(prefix: U64, begin: npt.NDArray[np.integer], end: npt.NDArray[np.integer]) -> U64:
    """(m,) hashes of the spans [begin, end), mixed."""
    return mix((prefix[end] - prefix[begin]) * _power(len(prefix), _INVERSE)[begin])
