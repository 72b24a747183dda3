"""Unicode's general category of every code point that text has, as one table: made once per process, in 40 ms.

Asking `unicodedata` character by character in each module that wants to know took every new process half a second.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

CODES = 0x40000  # planes 0 to 3; above them are no letters, marks or numbers


@cache
def categories() -> npt.NDArray[np.uint8]:
    """(CODES, 2) the two ASCII letters of the category, e.g. b"Lu"."""
    letters = "".join(map(unicodedata.category, map(chr, range(CODES))))
    return np.frombuffer(letters.encode("ascii"), np.uint8).reshape(-1, 2)


def major(names: str) -> npt.NDArray[np.bool_]:
    """(CODES,) whether a code point is of one of the major categories, e.g. "LMN"."""
    return np.isin(categories()[:, 0], np.frombuffer(names.encode("ascii"), np.uint8))


def among(*names: str) -> npt.NDArray[np.bool_]:
    """(CODES,) whether a code point is of one of the categories, e.g. "Lu", "Lt"."""
    wanted = np.frombuffer("".join(names).encode("ascii"), np.uint16)
    return np.isin(np.ascontiguousarray(categories()).view(np.uint16)[:, 0], wanted)
