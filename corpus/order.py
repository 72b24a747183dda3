"""Which instance is sample number n: a keyed permutation of all instances for every epoch, in O(1) memory.

No epoch's order is ever stored or shuffled: any sample number can be asked for at any time, so a resumed run,
another world size or another batch size sees the same sequence. A Feistel network (as Levanter's permutation,
and Black & Rogaway 2002 for domains that are not a power of two): a number is a pair (left, right) in a
rectangle,

    n = left * width + right,    left < height,  right < width,  height * width >= count

each round adds a keyed hash of one half to the other half, modulo its side, which can be undone, hence a
bijection of the rectangle. What lands outside [0, count) walks on until it lands inside; the rectangle has
fewer than sqrt(count) + 1 cells too many, so walking is rare.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from corpus.ragged import Ints
from corpus.stream import Stream, below, salt

_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class Order:
    """`Order(seed=1, count=len(instances)).index(n)`: the instance that sample number n reads."""

    seed: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count < 2**62:
            raise ValueError(
                f"Order.count is {self.count}; an order needs at least one instance: is the artifact empty?"
            )

    def index(self, samples: npt.NDArray[np.integer] | range) -> Ints:
        """(B,) sample numbers, from 0 without end -> (B,) instances; each epoch of `count` has all once."""
        numbers = np.asarray(samples, np.int64)
        if numbers.size and numbers.min() < 0:
            raise ValueError(f"sample number {numbers.min()} is negative; samples are numbered from 0")
        epoch, index = np.divmod(numbers, self.count)
        stream = Stream(np.full(len(numbers), salt(self.seed, "order", 0), np.uint64)).fold(epoch)
        outside = np.arange(len(index))
        while outside.size:
            moved = self._permute(index[outside], stream.at(outside))
            index[outside] = moved
            outside = outside[moved >= self.count]
        return index

    def _permute(self, index: Ints, stream: Stream) -> Ints:
        """A bijection of the rectangle, another one for every key."""
        height = isqrt(self.count - 1) + 1
        width = -(-self.count // height)
        left, right = np.divmod(index, width)
        for number in range(0, _ROUNDS, 2):
            left = (left + below(stream.fold(number).bits(right), height)) % height
            right = (right + below(stream.fold(number + 1).bits(left), width)) % width
        return left * width + right
