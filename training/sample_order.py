"""Which instance is sample number n of a pretraining: arithmetic in (config, instances), nothing is stored or replayed.

    Shuffled            every instance once an epoch, in an order of its own for each epoch; streams of them, where the
                        network carries state from step to step (corpus/lanes.py)
    SmoothedLanguages   languages get size ** exponent of the samples (multilingual BERT: 0.7)
    MixtureConfig       languages with weights, in stages that begin at stated samples (corpus/mixture.py)

What language an instance is in, its token shard says. The mixture's ledger is what `cloze ledger` prints.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.instances import Instances
from corpus.lanes import Lanes
from corpus.mixture import Mixture, MixtureConfig, Stage, smoothed
from corpus.order import Order
from corpus.ragged import Ints
from corpus.shard_file import TokenShard
from infra.artifacts import Artifact

Index = Callable[[range], Ints]  # sample numbers -> instances


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Nothing to choose: `train.seed` is the seed."""


@dataclass(frozen=True, kw_only=True)
class SmoothedLanguages:
    """Exponent 1 keeps the languages' shares, 0 makes them equal; shares are exact over `block` samples."""

    exponent: float = 0.7
    block: int = 4096

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise ValueError(
                f"SmoothedLanguages.exponent is {self.exponent}; it lies between 0 (equal shares) and 1 (as they are)"
            )


SampleOrder = Shuffled | SmoothedLanguages | MixtureConfig


def in_lanes(order: SampleOrder, instances: Instances, *, lanes: int, seed: int) -> Lanes:
    """The order for a network that carries state from step to step. Raises ValueError for a mixture."""
    if not isinstance(order, Shuffled):
        raise ValueError(
            f"order is a {type(order).__name__}, but this network goes on where the step before ended, so its text cannot be "
            "drawn from languages at will; leave order at Shuffled"
        )
    return Lanes.of(instances, lanes=lanes, seed=seed)


def index_of(
    order: SampleOrder, artifacts: tuple[Artifact, ...], instances: Instances, *, seed: int, samples: int
) -> Index:
    """The function from sample numbers below `samples` to instances.

    Raises ValueError for weights of languages that are not there, and for a mixture that ends before.
    """
    if isinstance(order, Shuffled):
        return Order(seed=seed, count=len(instances)).index
    mixture, rows = mixture_of(order, artifacts, seed)
    if len(mixture) < samples:
        raise ValueError(
            f"the mixture ends after {len(mixture):,} samples and {samples:,} are to be read; lower train.steps, or let its "
            "sources restart"
        )
    members = [rows[name] for name in mixture.sources]

    def index(numbers: range) -> Ints:
        drawn = mixture.at(numbers)
        found = np.empty(len(drawn.index), np.int64)
        for number, member in enumerate(members):
            at = drawn.source == number
            found[at] = member[drawn.index[at]]
        return found

    return index


def ledger_of(
    order: SampleOrder, artifacts: tuple[Artifact, ...], seed: int, samples: int
) -> list[dict[str, int | dict[str, int]]]:
    """What the first `samples` samples read: stretches of equal blocks, in each block so many of every language.

    `read_before` of a stretch is that of the one before plus its blocks times `per_block`: nothing repeated, nothing lost.
    """
    if isinstance(order, Shuffled):
        count = len(Instances(*artifacts))
        return [{"begin": 0, "end": samples, "per_block": {"all": count}, "read_before": {"all": 0}}]
    mixture, _ = mixture_of(order, artifacts, seed)
    return [
        {"begin": s.begin, "end": min(s.end, samples), "per_block": s.per_block, "read_before": s.read_before}
        for s in mixture.ledger(samples)
    ]


def mixture_of(
    order: SmoothedLanguages | MixtureConfig, artifacts: tuple[Artifact, ...], seed: int
) -> tuple[Mixture, dict[str, Ints]]:
    """The mixture over the languages of these instances, and the instances of each, ascending."""
    language = languages_of(artifacts)
    rows = {str(name): np.flatnonzero(language == name) for name in np.unique(language)}
    sizes = {name: len(found) for name, found in rows.items()}
    if isinstance(order, SmoothedLanguages):
        weights = smoothed(sizes, order.exponent)
        order = MixtureConfig(stages=(Stage(weights=weights),), block=order.block, seed=seed)
    return Mixture(order, sizes), rows


def languages_of(artifacts: tuple[Artifact, ...]) -> npt.NDArray[np.str_]:
    """The language of every instance, in the order of `Instances`."""
    found = [np.zeros(0, "U3")]
    for artifact in artifacts:
        shards = artifact.inputs["shards"]
        names = [name for name in artifact.names() if name.endswith(".arrow")]
        for name, instances in zip(names, Instances(artifact).shards, strict=True):
            shard = TokenShard.open(shards.path(f"{name.rpartition('-')[0]}.arrow"))
            found.append(shard.languages[instances.document])
    return np.concatenate(found)
