"""Noises on single tokens: masking, deletion, insertion (BART, section 2.2; fairseq, DenoisingDataset).

    text         a b c d e f g
    masked       a _ c d _ f g       a share of the tokens, chosen without replacement, each read as a mask
    deleted      a c d f g           the model must find out where something is missing
    inserted     a b _ c d e f _ g   masks where nothing was

Numbers of tokens are rounded up, so every row loses or gets one at least. Semantics `code`: a token is what the tokenizer
made (fairseq's mask length "subword"); of inserted tokens exactly ceil(random_share x inserted) are random ones, so if any
are, at least one in every row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.corruption.choose import choose
from corpus.corruption.noisy_text import (
    AnyTokenButTheFirst,
    NoisyText,
    OtherToken,
    check_random_share,
    check_share,
    index_inside,
    masks,
)
from corpus.corruption.seq2seq import numbers
from corpus.ragged import Ints
from corpus.stream import Stream

_WHICH, _WHAT = 0, 1  # parts of a noise's stream
_RANDOM = 0  # and of the last one


@dataclass(frozen=True, kw_only=True)
class TokenMasking:
    """`share` of the tokens are read as a mask, of these `random_share` as a random token.

    The paper follows BERT, without a share of its own; none is left as it is.
    """

    share: float = 0.15
    random_share: float = 0.0
    other: OtherToken = field(default_factory=AnyTokenButTheFirst)

    def __post_init__(self) -> None:
        check_share(self.share, "TokenMasking.share", example=0.15)
        check_random_share(self.random_share, "TokenMasking.random_share")

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise."""
        count_B = share_of(text.inner_B, self.share)
        index_M = index_inside(choose(text.inner_B, count_B, stream.fold(_WHICH)), count_B)
        return text.written(index_M, masks(count_B, self.random_share, self.other, text, stream.fold(_WHAT)))


@dataclass(frozen=True, kw_only=True)
class TokenDeletion:
    """`share` of the tokens are left out. The paper gives no share."""

    share: float = 0.15

    def __post_init__(self) -> None:
        check_share(self.share, "TokenDeletion.share", example=0.15)

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise."""
        count_B = share_of(text.inner_B, self.share)
        index_M = index_inside(choose(text.inner_B, count_B, stream.fold(_WHICH)), count_B)
        return text.without(index_M, count_B)


@dataclass(frozen=True, kw_only=True)
class TokenInsertion:
    """Masks are put in at uniform places, `share` x the row's length (<s> and </s> counted); `random_share` of them are
    random tokens instead.
    """

    share: float = 0.15
    random_share: float = 0.0
    other: OtherToken = field(default_factory=AnyTokenButTheFirst)

    def __post_init__(self) -> None:
        check_share(self.share, "TokenInsertion.share", example=0.15)
        check_random_share(self.random_share, "TokenInsertion.random_share")

    def apply(self, text: NoisyText, stream: Stream) -> NoisyText:
        """The noise."""
        count_B = np.minimum(share_of(text.inner_B + 2, self.share), text.spare_B)
        tokens_M = some_random(count_B, self.random_share, self.other, text, stream.fold(_WHAT))
        return put_in(text, count_B, tokens_M, stream.fold(_WHICH))


def put_in(text: NoisyText, count_B: Ints, tokens_M: npt.NDArray[Any], stream: Stream) -> NoisyText:
    """These tokens more, `count_B` in each row, at uniform places; they keep their order."""
    if not count_B.any():
        return text
    taken_C = choose(text.inner_B + count_B, count_B, stream)
    return text.with_more(index_inside(taken_C, count_B), tokens_M, count_B)


def some_random(
    count_B: Ints, random_share: float, other: OtherToken, text: NoisyText, stream: Stream
) -> npt.NDArray[Any]:
    """(M,) masks, `count_B` in each row, but ceil(random_share x count) of them, any, are other tokens."""
    tokens_M = masks(count_B, 0.0, other, text, stream)
    if random_share > 0.0:
        random_B = share_of(count_B, random_share)
        random = np.flatnonzero(choose(count_B, random_B, stream.fold(_RANDOM)))
        row, number = numbers(random_B)
        tokens_M[random] = other.draw(stream.at(row).bits(number), text.rows)
    return tokens_M


def share_of(count_B: Ints, share: float) -> Ints:
    """(B,) share x count, rounded up."""
    return np.ceil(count_B * share).astype(np.int64)
