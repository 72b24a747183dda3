"""Which source is sample number n from, and which of its samples: pure arithmetic, so any sample can be asked for.

After Levanter's block mixture, made exact. Samples come in blocks of `block`; in every block of a stage each source
has the same number of samples (its weight, rounded by largest remainders), and a keyed permutation of the block says
who stands where. With 0 for the first source and 1 for the second, two blocks of eight with weights 3 : 1:

    sample     0 1 2 3 4 5 6 7 | 8 9 . .
    source     0 1 0 0 0 1 0 0 | 0 0 1 0 0 0 0 1
    position   4 1 0 2 5 0 1 3 | 9 6 2 8 ...         the source's samples 0 to 5, then 6 to 11

A block therefore uses up a run of each source's positions, whole, and what has been read of every source at any moment
is a multiplication. Position p of a source of `size` samples is number p % size of a keyed permutation (order.py), a
different one for every pass p // size.

A stage begins at a block and has its own weights; each source goes on where it stood, so weights can be changed and
sources added (a new generation) without repeating or losing anything, and what comes before is not touched. When a
source has been read as often as it may be, it leaves: the rest of its last block and all later ones are shared out
among the others. All of this is worked out once, as a list of `Stretch`es of equal blocks; a lookup is a bisection.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from corpus.order import Order, index_each
from corpus.ragged import Ints, offsets_of

FOREVER = 1 << 62  # no mixture is longer


@dataclass(frozen=True, kw_only=True)
class Restart:
    """A source that has been read to its end is read again, in another order, as often as its weight asks."""


@dataclass(frozen=True, kw_only=True)
class Leave:
    """A source that has been read `passes` times leaves the mixture; the others share its place."""

    passes: int = 1

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"Leave.passes is {self.passes}; a source is read at least once: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """From sample number `begin` on, sources have these weights: numbers of any scale, each above 0."""

    begin: int = 0
    weights: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.weights]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Stage.weights names {names}; it names at least one source, and each once")
        for name, weight in self.weights:
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(
                    f"Stage.weights gives {name!r} {weight}; a weight is above 0: leave out what is not wanted"
                )


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """`block` samples is the length over which shares are exact; stages begin at multiples of it."""

    stages: tuple[Stage, ...]
    block: int = 4096
    seed: int = 0
    at_end: Restart | Leave = field(default_factory=Restart)

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 1 << 24:
            raise ValueError(f"MixtureConfig.block is {self.block}; give 1 to {1 << 24} samples, e.g. 4096")
        begins = [stage.begin for stage in self.stages]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)):
            raise ValueError(f"MixtureConfig.stages begin at {begins}; the first begins at 0 and they rise")
        for begin in begins:
            if begin % self.block:
                below = begin - begin % self.block
                raise ValueError(
                    f"a stage begins at sample {begin}, inside a block of {self.block}; "
                    f"begin it at {below} or {below + self.block}"
                )


def smoothed(sizes: Mapping[str, int], exponent: float = 0.7) -> tuple[tuple[str, float], ...]:
    """Weights size ** exponent (mBERT: 0.7), scaled to a sum of 1, in the order given: 1 keeps shares, 0 makes them equal."""
    if not 0 <= exponent <= 1:
        raise ValueError(f"the exponent is {exponent}; it lies between 0 (equal shares) and 1 (as they are)")
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(f"sizes are {dict(sizes)}; smoothing needs sources that all hold something")
    logs = {name: exponent * math.log(size) for name, size in sizes.items()}
    most = max(logs.values())
    raw = {name: math.exp(value - most) for name, value in logs.items()}
    total = math.fsum(raw.values())
    # twelve digits: the last ones differ between mathematical libraries, and weights name results
    return tuple((name, float(f"{value / total:.12g}")) for name, value in raw.items())


def apportion(weights: Mapping[str, Fraction], seats: int) -> dict[str, int]:
    """Whole numbers with sum `seats`, as near to the weights as can be: largest remainders, ties by name."""
    total = sum(weights.values())
    quotas = {name: weight * seats / total for name, weight in weights.items()}
    counts = {name: math.floor(quota) for name, quota in quotas.items()}
    by_rest = sorted(quotas, key=lambda name: (counts[name] - quotas[name], name))
    for name in by_rest[: seats - sum(counts.values())]:
        counts[name] += 1
    return counts


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The samples [begin, end): blocks that are all alike. One row of the ledger.

    `per_block` and `read_before` are sample counts by source: what a block takes, and what was taken before `begin`.
    """

    begin: int
    end: int
    per_block: dict[str, int]
    read_before: dict[str, int]

    @property
    def block(self) -> int:
        return sum(self.per_block.values())


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What samples are: (B,) each. `sources[source[i]]` is the name; `index` the row of the source."""

    source: Ints
    position: Ints  # how many samples of that source come before it in position, over all passes
    index: Ints  # which of the source's `size` samples


class Mixture:
    """A config over sources of known sizes (in samples). `sources` are numbered by name: the order of weights means nothing.

    Raises ValueError for a stage that names an unknown or empty source, that gives a source less than one sample in a
    block, or that begins after everything has been read.
    """

    def __init__(self, config: MixtureConfig, sizes: Mapping[str, int]) -> None:
        names = sorted({name for stage in config.stages for name, _ in stage.weights})
        for name in names:
            if sizes.get(name, 0) < 1:
                holds = "is empty" if name in sizes else f"is none of {', '.join(sizes) or 'no source'}"
                raise ValueError(f"the mixture asks for {name!r}, which {holds}; correct its stages")
        self.config = config
        self.sources = tuple(names)
        self.sizes = {name: sizes[name] for name in names}
        self.stretches = tuple(_stretches(config, self.sizes))
        self._begin = np.array([s.begin for s in self.stretches])
        self._block = np.array([s.block for s in self.stretches])
        self._per_block = np.array([[s.per_block.get(n, 0) for n in names] for s in self.stretches])
        self._read = np.array([[s.read_before[n] for n in names] for s in self.stretches])
        self._first = np.stack([offsets_of(row)[:-1] for row in self._per_block])

    def __len__(self) -> int:
        """Samples in all; without end, about FOREVER, if sources restart."""
        return self.stretches[-1].end

    def at(self, samples: npt.NDArray[np.integer] | range) -> Drawn:
        """(B,) sample numbers, in any order -> what they are. Raises IndexError beyond the end."""
        if isinstance(samples, range):
            samples = np.arange(samples.start, samples.stop, samples.step)
        numbers = np.asarray(samples, np.int64)
        source, position = self._place(numbers)
        orders = [self.order(name) for name in self.sources]
        return Drawn(source=source, position=position, index=index_each(orders, source, position))

    def order(self, name: str) -> Order:
        """Position -> row of one source: a permutation for every pass."""
        return Order(seed=self.config.seed, count=self.sizes[name], purpose=f"source {name}")

    def drawn(self, first: int, last: int) -> dict[str, int]:
        """How many of the samples [first, last) each source has; exact, and as quick for a trillion as for ten."""
        before, after = self.read(first), self.read(last)
        return {name: after[name] - before[name] for name in self.sources}

    def shares(self, first: int, last: int) -> dict[str, float]:
        """The realised shares of the samples [first, last)."""
        if last <= first:
            raise ValueError(f"samples {first} to {last} are none, so they have no shares; give first < last")
        return {name: count / (last - first) for name, count in self.drawn(first, last).items()}

    def read(self, until: int) -> dict[str, int]:
        """How many samples of each source come before sample number `until`."""
        self._check(np.array([until - 1] if until else [], np.int64))
        which = max(int(np.searchsorted(self._begin, until, side="right")) - 1, 0)
        blocks, rest = divmod(until - int(self._begin[which]), int(self._block[which]))
        partial = np.bincount(self._place(np.arange(until - rest, until))[0], minlength=len(self.sources))
        counts = self._read[which] + blocks * self._per_block[which] + partial
        return dict(zip(self.sources, counts.tolist(), strict=True))

    def ledger(self, until: int | None = None) -> tuple[Stretch, ...]:
        """The stretches before sample number `until` (None: all): a few integers each, and the proof of what was read.

        For each source, `read_before` of a stretch is that of the one before plus its blocks times `per_block`: runs
        of positions that touch and do not overlap. Within a block a source's positions are a permuted run, and a pass
        is a permutation of the rows, so that r positions have read each row r // size or r // size + 1 times.
        """
        return tuple(s for s in self.stretches if until is None or s.begin < until)

    def agrees(self, earlier: "Mixture", until: int) -> bool:
        """Whether the samples before `until` are those of the `earlier` mixture: may a run that read them go on here?"""
        if until > min(len(self), len(earlier)):
            return False
        ours, theirs = self.config, earlier.config
        same = (ours.seed, ours.block) == (theirs.seed, theirs.block)
        same &= all(self.sizes.get(n) == earlier.sizes[n] for s in earlier.ledger(until) for n in s.per_block)
        edges = {s.begin for m in (self, earlier) for s in m.ledger(until)}
        return same and all(self._row(begin) == earlier._row(begin) for begin in edges)

    def _row(self, begin: int) -> tuple[dict[str, int], dict[str, int]]:
        """Counts of a block that begins there, and of what was read before it."""
        which = int(np.searchsorted(self._begin, begin, side="right")) - 1
        counts = {n: self.stretches[which].per_block.get(n, 0) for n in self.sources}
        return {n: c for n, c in counts.items() if c}, {n: c for n, c in self.read(begin).items() if c}

    def _place(self, numbers: Ints) -> tuple[Ints, Ints]:
        """(B,) sample numbers -> their sources and positions."""
        self._check(numbers)
        which = np.searchsorted(self._begin, numbers, side="right") - 1
        block, inside = np.divmod(numbers - self._begin[which], self._block[which])
        shuffled = self._shuffle(numbers, inside, which)
        # one bisection for all stretches: stretch w's places lie in [w * side, w * side + block)
        side = self.config.block + 1
        table = (np.arange(len(self._first))[:, None] * side + self._first).ravel()
        cell = np.searchsorted(table, which * side + shuffled, side="right") - 1
        source = cell - which * len(self.sources)
        at = (which, source)
        return source, self._read[at] + block * self._per_block[at] + shuffled - self._first[at]

    def _shuffle(self, numbers: Ints, inside: Ints, which: Ints) -> Ints:
        """Where in its block's row of sources each sample reads."""
        size, seed = self.config.block, self.config.seed
        shuffled = Order(seed=seed, count=size, purpose="mixture").index(numbers)
        if (short := self._block[which] < size).any():  # the mixture's last block
            last = Order(seed=seed, count=self.stretches[-1].block, purpose="mixture end")
            shuffled[short] = last.index(inside[short])
        return shuffled

    def _check(self, numbers: Ints) -> None:
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < len(self)):
            raise IndexError(
                f"sample {numbers.min()} to {numbers.max()} asked for; the mixture has {len(self)}, from 0"
            )


def _stretches(config: MixtureConfig, sizes: Mapping[str, int]) -> list[Stretch]:
    """The whole mixture, worked out: a stretch for every stage, and new ones where a source leaves."""
    at_end, block = config.at_end, config.block
    limits = {n: size * at_end.passes if isinstance(at_end, Leave) else FOREVER for n, size in sizes.items()}
    out: list[Stretch] = []
    read = dict.fromkeys(sizes, 0)
    begin = 0
    ends = [*(stage.begin for stage in config.stages[1:]), FOREVER - FOREVER % block]
    for stage, end in zip(config.stages, ends, strict=True):
        if begin < stage.begin:
            raise ValueError(
                f"a stage begins at sample {stage.begin}, but the sources before it are used up at {begin}; "
                f"begin it at {begin - begin % block} or before, or let sources restart"
            )
        weights = {name: Fraction(weight) for name, weight in stage.weights}
        _refuse_none(weights, stage, block)
        while begin < end and (left := {n: limits[n] - read[n] for n in weights if limits[n] > read[n]}):
            counts = _fill({n: weights[n] for n in left}, left, min(block, sum(left.values())))
            blocks = min((end - begin) // block, *(left[n] // c for n, c in counts.items() if c))
            stop = begin + blocks * sum(counts.values())
            out.append(Stretch(begin=begin, end=stop, per_block=counts, read_before=dict(read)))
            read |= {name: read[name] + blocks * count for name, count in counts.items()}
            begin = stop
    return out


def _fill(weights: Mapping[str, Fraction], left: Mapping[str, int], seats: int) -> dict[str, int]:
    """A block's counts: by weight, but no source gives more than it has left; the others take the rest."""
    counts: dict[str, int] = {}
    while True:
        shared = apportion(weights, seats)
        over = {name: left[name] for name, count in shared.items() if count > left[name]}
        if not over:
            return counts | shared
        counts |= over
        seats -= sum(over.values())
        weights = {name: weight for name, weight in weights.items() if name not in over}


def _refuse_none(weights: Mapping[str, Fraction], stage: Stage, block: int) -> None:
    for name, count in apportion(weights, block).items():
        if not count:
            share = float(weights[name] / sum(weights.values()))
            raise ValueError(
                f"source {name!r} has the share {share:.2g} of the stage at sample {stage.begin}, no sample in a block "
                f"of {block}; use blocks of {math.ceil(1 / share)} samples or more, or a larger weight"
            )
