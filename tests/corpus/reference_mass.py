"""MASS's three builders as plain loops over one example, written from their description: lists in, lists out, no numpy.

Chance comes from a `draws` object: Python's generator, or the keyed draws of corpus.stream with Python integers.
"""

from __future__ import annotations

import random
from typing import Any

from tests.corpus.reference_bert import below, bits, fold

MASK = "[MASK]"


def one_fragment(length: int, share: float, first: float, last: float, draws: Any) -> list[int]:
    """The hidden positions of a row of `length` tokens: one fragment, never position 0."""
    hidden = max(1, round(length * share))
    hidden = min(hidden, length - 1)
    unmasked = length - hidden - 1
    kind = draws.kind(first, last)
    before = 0 if kind == "first" else unmasked if kind == "last" else draws.start(0, unmasked + 1)
    return list(range(1 + before, 1 + before + hidden))


def fragment_per_block(length: int, share: float, block: int, draws: Any) -> list[int]:
    """The hidden positions: one fragment in every block behind position 0."""
    positions: list[int] = []
    for number, begin in enumerate(range(1, length, block)):
        size = min(block, length - begin)
        hidden = int(size * share)
        if number == 0 and hidden == 0:
            hidden = 1  # the original leaves the row without a target
        at = begin + draws.start(number, size - hidden + 1)
        positions += range(at, at + hidden)
    return positions


def build(
    row: list[int], hidden: list[int], draws: Any, decoder_noise: Any = None
) -> tuple[list[Any], list[Any], list[int], list[int]]:
    """(source, what the decoder reads, its positions, targets)."""
    source: list[Any] = list(row)
    decoder: list[Any] = []
    for position in hidden:
        source[position] = draws.read(row[position], position)
        before = row[position - 1]
        decoder.append(before if decoder_noise is None else draws.decoder_read(before, position))
    return source, decoder, [position - 1 for position in hidden], [row[position] for position in hidden]


class RandomDraws:
    """Python's generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def kind(self, first: float, last: float) -> str:
        drawn = self.rng.random()
        return "last" if drawn < last else "first" if drawn < last + first else "any"

    def start(self, number: int, ways: int) -> int:
        return self.rng.randrange(ways)

    def read(self, token: int, position: int) -> Any:
        drawn = self.rng.random()
        return MASK if drawn < 0.8 else token if drawn < 0.9 else self.rng.randrange(8000)


class KeyedDraws:
    """The draws of one instance, as corpus.corruption.mass numbers them; `ordinary`: the ids that may be drawn."""

    def __init__(
        self, key: int, ordinary: list[int], shares: tuple[float, float], decoder: tuple[float, float]
    ) -> None:
        self.where, self.what, self.heard = fold(key, 16), fold(key, 1), fold(key, 17)
        self.ordinary, self.shares, self.decoder = ordinary, shares, decoder

    def kind(self, first: float, last: float) -> str:
        drawn = (bits(self.where, 0) >> 11) / 2**53
        return "first" if drawn < first else "last" if drawn >= 1.0 - last else "any"

    def start(self, number: int, ways: int) -> int:
        return below(bits(self.where, 1 + number), ways)

    def read(self, token: int, position: int) -> Any:
        return self._read(token, bits(self.what, position), self.shares)

    def decoder_read(self, token: int, position: int) -> Any:
        return self._read(token, bits(self.heard, position), self.decoder)

    def _read(self, token: int, word: int, shares: tuple[float, float]) -> Any:
        masked, kept = shares
        if word >> 32 < round(masked * 2**32):
            return MASK
        if word >> 32 < round((masked + kept) * 2**32):
            return token
        return self.ordinary[(word & 0xFFFFFFFF) * len(self.ordinary) >> 32]
