"""Ragged columns: rows of different lengths in one flat array, addressed by offsets.

The layout of Arrow's lists and of `cu_seqlens`:  row i is values[offsets[i] : offsets[i + 1]].
"""

import itertools

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def offsets_of(lengths: npt.NDArray[np.integer]) -> Ints:
    """(B,) lengths -> (B + 1,) offsets that begin with 0."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def rows_of(lengths: npt.NDArray[np.integer]) -> Ints:
    """(B,) lengths -> (sum,) the row that each flat element belongs to."""
    return np.repeat(np.arange(len(lengths)), lengths)


def ranges(starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> Ints:
    """(B,) starts and lengths -> (sum,) the indices of all ranges, one after the other.

    ranges([7, 2], [3, 2]) = [7, 8, 9, 2, 3]. This is how many slices are copied by one `take`.
    """
    offsets = offsets_of(lengths)
    index = np.repeat(starts - offsets[:-1], lengths)
    index += np.arange(offsets[-1])
    return index


def sums(values: npt.NDArray[np.integer], offsets: npt.NDArray[np.integer]) -> Ints:
    """(T,) values and (B + 1,) offsets -> (B,) the sum of each row; empty rows give 0."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total[offsets[1:]] - total[offsets[:-1]]


def blocks(offsets: npt.NDArray[np.integer], size: int) -> list[tuple[int, int]]:
    """Cut rows into consecutive runs [first, last) of about `size` elements, at least one row each.

    Work done block by block keeps its temporaries in the cache. The cut is never visible in a result.
    """
    if len(offsets) <= 1:
        return []
    marks = np.arange(0, max(1, int(offsets[-1])), size)
    cuts = np.unique(np.searchsorted(offsets[:-1], marks)).tolist()
    edges = sorted({0, *cuts, len(offsets) - 1})
    return list(itertools.pairwise(edges))
