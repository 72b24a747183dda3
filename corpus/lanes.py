"""Which instance is sample number n, for models that remember: every lane of the batch reads on in its text.

    sample      0  1  2 | 3  4  5 | 6  7  8      lanes = 3, the batch size
    lane        0  1  2 | 0  1  2 | 0  1  2
    position    0  0  0 | 1  1  1 | 2  2  2      a lane is a run of consecutive instances

What a model handed over with row r of a batch is about the text just before row r of the next one. Shuffled are therefore
whole streams only (the runs of instances that go on in each other: a shard, read in one direction): each epoch lays all
streams end to end in an order of its own and cuts the result into equal lanes. As corpus/order.py, this is a pure
function of (seed, n): nothing is stored, and any sample number can be asked for at any time. An epoch has
ceil(count / lanes) steps and reads everything once, but for fewer than `lanes` instances that fill the last lane again.

Letters: `B` samples, `R` streams.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from corpus.instance_kinds import PermutationInstances
from corpus.instances import Instances, InstanceShard
from corpus.order import Order
from corpus.ragged import Ints, offsets_of

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lanes:
    """`streams` are the lengths of the streams, in instances; instances are numbered stream by stream.

    `Lanes.of(instances, lanes=32, seed=1).gather(instances, range(64, 96))` is the third batch of 32.
    """

    streams: Ints  # (R,)
    lanes: int
    seed: int

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(
                f"Lanes.lanes is {self.lanes}; it is the number of rows in a batch, give 1 or more"
            )
        if not len(self.streams) or self.streams.min() < 1:
            raise ValueError(
                f"Lanes.streams are {self.streams.tolist()[:9]}; give the lengths of one stream or more, each 1 or more: "
                "is the artifact empty?"
            )

    @classmethod
    def of(cls, instances: Instances, *, lanes: int, seed: int) -> Lanes:
        """A stream goes on as long as the column `continues` says so; instances without one go on through a shard."""
        return cls(np.concatenate([_runs(shard) for shard in instances.shards]), lanes, seed)

    def gather(self, instances: Instances, samples: npt.NDArray[np.integer] | range) -> InstanceShard:
        """The instances of these samples; `continues` becomes whether they go on in the lane's sample before."""
        found = instances.gather(self.index(samples))
        if not isinstance(found, PermutationInstances):
            return found
        return replace(found, continues=self.goes_on(samples).astype(np.int64))

    @property
    def count(self) -> int:
        return int(self.streams.sum())

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-self.count // self.lanes)

    def index(self, samples: npt.NDArray[np.integer] | range) -> Ints:
        """(B,) sample numbers, from 0 without end -> (B,) instances."""
        numbers = np.asarray(samples, np.int64)
        if numbers.size and numbers.min() < 0:
            raise ValueError(f"sample number {numbers.min()} is negative; samples are numbered from 0")
        position, lane = np.divmod(numbers, self.lanes)
        epoch, position = np.divmod(position, self.steps)
        place = (lane * self.steps + position) % self.count
        index = np.empty(len(numbers), np.int64)
        for number in np.unique(epoch):
            here = epoch == number
            first, shift = _laid_out(self.streams.tobytes(), self.seed, int(number))
            stream = np.searchsorted(first, place[here], side="right") - 1
            index[here] = place[here] + shift[stream]
        return index

    def goes_on(self, samples: npt.NDArray[np.integer] | range) -> Bools:
        """(B,) whether the lane's sample before is the instance before in the same stream."""
        numbers = np.asarray(samples, np.int64)
        index = self.index(numbers)
        before = np.where(numbers < self.lanes, -1, self.index(np.maximum(numbers - self.lanes, 0)))
        return (before == index - 1) & ~np.isin(index, offsets_of(self.streams)[:-1])


def _runs(shard: InstanceShard) -> Ints:
    if isinstance(shard, PermutationInstances):
        return np.diff(np.flatnonzero(shard.continues == 0), append=len(shard))
    return np.full(int(len(shard) > 0), len(shard), np.int64)


@lru_cache(maxsize=8)
def _laid_out(streams: bytes, seed: int, epoch: int) -> tuple[Ints, Ints]:
    """(R + 1,) where the streams of an epoch begin, in its order; (R,) what leads from there to instances."""
    lengths = np.frombuffer(streams, np.int64)
    order = Order(seed=seed, count=len(lengths), purpose="streams")
    chosen = order.index(epoch * len(lengths) + np.arange(len(lengths)))
    first = offsets_of(lengths[chosen])
    return first, offsets_of(lengths)[chosen] - first[:-1]
