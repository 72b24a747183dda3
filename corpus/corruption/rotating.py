"""Document rotation: the text begins at a random token (BART, section 2.2; fairseq, add_rolling_noise).

    <s> a b c d e </s>     ->     <s> d e a b c </s>

The model must find out where the document began. Semantics `code`: the offset is uniform in 1 ... length - 1 of the row with
<s> and </s>, counted from <s>; at the first and the last of these the text stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpus.corruption.noisy_text import NoisyText, check_share
from corpus.ragged import ranges
from corpus.stream import Stream

_WHETHER, _OFFSET = 0, 1  # counters of the noise's stream


@dataclass(frozen=True, kw_only=True)
class DocumentRotation:
    """`share` of the rows are rotated."""

    share: float = 1.0

    def __post_init__(self) -> None:
        check_share(self.share, "DocumentRotation.share", example=1.0, whole=True)

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise."""
        lengths_B = np.diff(text.offsets)
        offset_B = 1 + stream.below(lengths_B - 1, _OFFSET)
        offset_B[~stream.chance(self.share, _WHETHER)] = 1
        starts = np.stack([text.offsets[:-1] + offset_B, text.offsets[:-1] + 1], 1)
        lengths = np.stack([lengths_B - 1 - offset_B, offset_B - 1], 1)
        return text.moved(ranges(starts.ravel(), lengths.ravel()))
