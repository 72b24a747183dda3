"""Which documents are text worth learning from. Every drop has a name, and the name is counted.

Columns in, columns out: a rule is a few numpy operations over the bytes of all documents at once.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from corpus.columns import byte_set, mark, per_document, utf8

REASONS = ("kept", "too_short", "too_long", "mostly_symbols")
KEPT = 0

# Bytes that belong to words. In UTF-8 every byte of a character beyond ASCII is >= 0x80, so letters of all other
# scripts count; so do their punctuation marks, which are too few to matter.
_LETTERS = byte_set([*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *range(128, 256)])
_BLANKS = byte_set(b" \n")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Bounds a document must keep. `min_letter_share` is letters / (all bytes that are not blanks)."""

    min_bytes: int = 60
    max_bytes: int = 1 << 24
    min_letter_share: float = 0.6

    def __post_init__(self) -> None:
        if self.min_bytes < 1:
            raise ValueError(
                f"min_bytes is {self.min_bytes}; an empty document cannot be kept, so use 1 or more"
            )
        if self.max_bytes < self.min_bytes:
            raise ValueError(
                f"max_bytes {self.max_bytes} is below min_bytes {self.min_bytes}; nothing would be kept"
            )
        if not 0 <= self.min_letter_share <= 1:
            raise ValueError(f"min_letter_share is {self.min_letter_share}; a share lies between 0 and 1")


def judge(config: FilterConfig, texts: pa.LargeStringArray) -> np.ndarray:
    """(n,) uint8: an index into REASONS per normalised text; KEPT is 0. The first rule that fires names the drop."""
    offsets, data = utf8(texts)
    size = np.diff(offsets)
    letters = per_document(mark(data, _LETTERS), offsets)
    visible = size - per_document(mark(data, _BLANKS), offsets)
    verdict = np.zeros(len(size), np.uint8)
    verdict[letters < config.min_letter_share * np.maximum(visible, 1)] = REASONS.index("mostly_symbols")
    verdict[size > config.max_bytes] = REASONS.index("too_long")
    verdict[size < config.min_bytes] = REASONS.index("too_short")
    return verdict
