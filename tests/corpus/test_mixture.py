"""A mixture: every sample is known by arithmetic, nothing is read twice before its time, nothing is lost."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.mixture import (
    FOREVER,
    Leave,
    Mixture,
    MixtureConfig,
    Restart,
    Stage,
    apportion,
    smoothed,
)
from tests.corpus.chance import plausible_counts

NAMES = ("de", "en", "zh", "code")


@st.composite
def mixtures(draw: st.DrawFn, at_end: type | None = None) -> Mixture:
    """Small mixtures of every shape: up to four sources and three stages, blocks of 8 to 40 samples."""
    sizes = {name: draw(st.integers(1, 90)) for name in NAMES}
    block = draw(st.integers(8, 40))
    begin, stages = 0, []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        weights = tuple((name, draw(st.integers(4, 9)) / 4) for name in names)
        stages.append(Stage(begin=begin, weights=weights))
        begin += block * draw(st.integers(1, 4))
    end = Leave(passes=draw(st.integers(1, 2))) if draw(st.booleans()) else Restart()
    config = MixtureConfig(stages=tuple(stages), block=block, seed=draw(st.integers(0, 99)), at_end=end)
    try:
        return Mixture(config, sizes)
    except ValueError as error:
        if "used up" not in str(error):  # a stage after everything has been read; the first one always works
            raise
        one = MixtureConfig(stages=config.stages[:1], block=block, seed=config.seed, at_end=end)
        return Mixture(one, sizes)


def rows_of(mixture: Mixture, first: int, last: int) -> list[tuple[str, int, int]]:
    found = mixture.at(range(first, last))
    names = [mixture.sources[i] for i in found.source]
    return list(zip(names, found.position.tolist(), found.index.tolist(), strict=True))


@given(mixtures())
@settings(max_examples=150, deadline=None)
def test_each_source_gives_its_positions_once_and_its_rows_once_a_pass(mixture):
    last = min(len(mixture), 1500)
    whole = last - last % mixture.config.block if last == 1500 else last
    rows = rows_of(mixture, 0, whole)
    for name in mixture.sources:
        mine = [(position, index) for source, position, index in rows if source == name]
        assert sorted(position for position, _ in mine) == list(range(len(mine)))
        read = Counter(index for _, index in mine)
        size = mixture.sizes[name]
        passes = len(mine) // size
        assert set(read) <= set(range(size))
        assert all(read[index] in (passes, passes + 1) for index in range(size))
        for number in range(passes):
            of_pass = [index for position, index in mine if position // size == number]
            assert sorted(of_pass) == list(range(size))
    if isinstance(mixture.config.at_end, Leave) and last < 1500:
        used = {n for n, _ in mixture.config.stages[-1].weights}
        counts = Counter(source for source, _, _ in rows)
        for name in used:
            assert counts[name] == mixture.sizes[name] * mixture.config.at_end.passes


@given(mixtures(), st.lists(st.integers(0, 1200), min_size=1, max_size=8), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_slicing_and_any_order_give_the_same(mixture, cuts, random):
    last = min(len(mixture), 1200)
    whole = rows_of(mixture, 0, last)
    edges = sorted({0, last, *(cut for cut in cuts if cut < last)})
    assert whole == [r for a, b in pairwise(edges) for r in rows_of(mixture, a, b)]
    some = [random.randrange(last) for _ in range(20)]
    found = mixture.at(np.array(some))
    assert [(mixture.sources[s], p) for s, p in zip(found.source, found.position, strict=True)] == [
        whole[n][:2] for n in some
    ]


@given(mixtures(), st.integers(0, 1000), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_shares_are_counted_without_reading(mixture, a, b):
    first, last = sorted(min(len(mixture), n) for n in (a, b))
    counted = Counter(source for source, _, _ in rows_of(mixture, first, last))
    assert mixture.drawn(first, last) == {name: counted[name] for name in mixture.sources}
    if first < last:
        assert mixture.shares(first, last) == {
            name: counted[name] / (last - first) for name in mixture.sources
        }


@given(mixtures())
@settings(max_examples=60, deadline=None)
def test_the_ledger_adds_up(mixture):
    ledger = mixture.ledger()
    assert ledger[0].begin == 0
    assert not any(ledger[0].read_before.values())
    for now, then in zip(ledger, [*ledger[1:], None], strict=True):
        blocks, rest = divmod(now.end - now.begin, now.block)
        assert rest == 0
        assert now.block == mixture.config.block or then is None
        if then is not None:
            assert then.begin == now.end
            for name in mixture.sources:
                assert then.read_before[name] == now.read_before[name] + blocks * now.per_block.get(name, 0)
    assert ledger[-1].end == len(mixture)


@given(mixtures(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_new_stage_changes_nothing_before_it_and_loses_nothing(mixture, data):
    """Weights change and a new generation comes in, in the middle of a run: the first part stays, the rest goes on."""
    block, old = mixture.config.block, mixture.config.stages
    last = min(len(mixture), old[-1].begin + 30 * block)
    if last // block <= old[-1].begin // block:
        return
    begin = block * data.draw(st.integers(old[-1].begin // block + 1, last // block))
    stage = Stage(begin=begin, weights=(("news", 1.0), *((n, 0.5) for n in NAMES)))
    changed = MixtureConfig(
        stages=(*old, stage), block=block, seed=mixture.config.seed, at_end=mixture.config.at_end
    )
    then = Mixture(changed, {**dict.fromkeys(NAMES, 50), **mixture.sizes, "news": 77})
    assert rows_of(then, 0, begin) == rows_of(mixture, 0, begin)
    assert then.agrees(mixture, begin)
    end = min(len(then), begin + 40 * block)
    rows = rows_of(then, 0, end)
    assert any(source == "news" for source, _, _ in rows)
    for name in then.sources:
        positions = sorted(position for source, position, _ in rows if source == name)
        assert positions == list(range(len(positions)))
    shared = min(
        end, len(mixture)
    )  # the old mixture may end where the new stage begins: then nothing differs yet
    if shared - begin >= block:
        assert not then.agrees(mixture, shared)


def test_a_mixture_that_read_something_else_does_not_agree():
    stages = (Stage(weights=(("a", 1.0), ("b", 1.0))), Stage(begin=80, weights=(("a", 1.0),)))
    sizes = {"a": 100, "b": 100}
    one = Mixture(MixtureConfig(stages=stages, block=8), sizes)
    for other, alike_until in (
        (Mixture(MixtureConfig(stages=stages[:1], block=8), sizes), 80),
        (Mixture(MixtureConfig(stages=stages, block=8), {**sizes, "b": 101}), 0),
        (Mixture(MixtureConfig(stages=stages, block=8, seed=1), sizes), 0),
        (Mixture(MixtureConfig(stages=(Stage(weights=(("b", 1.0), ("a", 2.0))),), block=8), sizes), 0),
        (Mixture(MixtureConfig(stages=(Stage(weights=(("b", 2.0), ("a", 2.0))),), block=8), sizes), 80),
    ):
        assert one.agrees(other, 0) == (other.config.seed == 0)
        for until in (1, 8, 79, 80, 81, 200):
            assert one.agrees(other, until) == (until <= alike_until), until
            if until <= alike_until:
                assert rows_of(one, 0, until) == rows_of(other, 0, until)


def test_every_block_has_the_shares_of_its_stage():
    config = MixtureConfig(stages=(Stage(weights=(("a", 3.0), ("b", 1.0))),), block=40)
    mixture = Mixture(config, {"a": 1000, "b": 1000})
    source = mixture.at(range(40 * 500)).source.reshape(-1, 40)
    assert ((source == 1).sum(1) == 10).all()
    assert plausible_counts((source == 1).sum(0), np.ones(40)), "and every place of a block is alike"
    assert mixture.shares(0, 40 * 10**12) == {"a": 0.75, "b": 0.25}


def test_two_passes_have_different_orders_and_so_have_two_sources():
    config = MixtureConfig(stages=(Stage(weights=(("a", 1.0), ("b", 1.0))),), block=50)
    mixture = Mixture(config, {"a": 1000, "b": 1000})
    a, b = mixture.order("a"), mixture.order("b")
    assert (a.index(range(1000)) == a.index(range(1000, 2000))).mean() < 0.02
    assert (a.index(range(1000)) == b.index(range(1000))).mean() < 0.02


def test_a_source_that_leaves_gives_its_place_to_the_others():
    config = MixtureConfig(
        stages=(Stage(weights=(("small", 1.0), ("x", 2.0), ("y", 1.0))),), block=40, at_end=Leave()
    )
    mixture = Mixture(config, {"small": 25, "x": 400, "y": 200})
    assert len(mixture) == 625
    assert mixture.drawn(0, 80) == {"small": 20, "x": 40, "y": 20}
    assert mixture.drawn(80, 120) == {"small": 5, "x": 23, "y": 12}
    assert mixture.drawn(120, 160) == {"small": 0, "x": 27, "y": 13}
    assert mixture.read(625) == mixture.sizes
    with pytest.raises(IndexError, match="sample 625 to 625 asked for; the mixture has 625"):
        mixture.at(range(625, 626))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=12), st.integers(1, 5000))
def test_apportioning_is_exact_and_within_one_of_the_quota(weights, seats):
    shares = {str(n): Fraction(weight) for n, weight in enumerate(weights)}
    counts = apportion(shares, seats)
    assert sum(counts.values()) == seats
    for name, count in counts.items():
        assert abs(count - shares[name] * seats / sum(weights)) < 1


def test_smoothing_is_that_of_multilingual_bert():
    """The readme of multilingual BERT: with 0.7, English of 21 % of the data would be sampled as 11 % or so."""
    sizes = {"en": 21_000_000, "is": 40_000, "zh": 1_000_000}
    weights = dict(smoothed(sizes, 0.7))
    for one, other in (("en", "is"), ("en", "zh")):
        assert weights[one] / weights[other] == pytest.approx((sizes[one] / sizes[other]) ** 0.7)
    assert sum(weights.values()) == pytest.approx(1)
    assert dict(smoothed(sizes, 0)) == pytest.approx(dict.fromkeys(sizes, 1 / 3))
    assert dict(smoothed(sizes, 1))["en"] == pytest.approx(21_000_000 / sum(sizes.values()))
    assert len(smoothed({"a": 10**18, "b": 1})) == 2


def test_a_mixture_without_end_can_be_asked_for_its_last_samples():
    config = MixtureConfig(stages=(Stage(weights=(("a", 1.0), ("b", 7.0))),), block=64)
    mixture = Mixture(config, {"a": 3, "b": 10**12})
    assert FOREVER - 64 < len(mixture) <= FOREVER
    far = mixture.at(range(len(mixture) - 64, len(mixture)))
    assert (far.source == 0).sum() == 8
    assert set(far.index[far.source == 0]) <= {0, 1, 2}
    assert len(mixture.at(range(0)).source) == 0


A = (("a", 1.0),)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Stage(weights=()), "at least one source"),
        (lambda: Stage(weights=(*A, *A)), "each once"),
        (lambda: Stage(weights=(("a", 0.0),)), "above 0"),
        (lambda: Stage(weights=(("a", float("nan")),)), "above 0"),
        (lambda: Leave(passes=0), "at least once"),
        (lambda: MixtureConfig(stages=()), "the first begins at 0"),
        (lambda: MixtureConfig(stages=(Stage(begin=4096, weights=A),)), "the first begins at 0"),
        (lambda: MixtureConfig(stages=(Stage(weights=A), Stage(weights=A))), "they rise"),
        (lambda: MixtureConfig(stages=(Stage(weights=A),), block=0), "give 1 to"),
        (
            lambda: MixtureConfig(stages=(Stage(weights=A), Stage(begin=5000, weights=A))),
            "inside a block of 4096; begin it at 4096 or 8192",
        ),
        (lambda: Mixture(MixtureConfig(stages=(Stage(weights=A),)), {"b": 1}), "'a', which is none of b"),
        (lambda: Mixture(MixtureConfig(stages=(Stage(weights=A),)), {"a": 0}), "'a', which is empty"),
        (
            lambda: Mixture(MixtureConfig(stages=(Stage(weights=(*A, ("b", 1e-5))),)), {"a": 1, "b": 1}),
            "no sample in a block of 4096; use blocks of 10000[01] samples",
        ),
        (
            lambda: Mixture(
                MixtureConfig(stages=(Stage(weights=A), Stage(begin=80, weights=A)), block=8, at_end=Leave()),
                {"a": 21},
            ),
            "begins at sample 80, but the sources before it are used up at 21; begin it at 16 or before",
        ),
        (lambda: smoothed({"a": 1}, 1.5), "between 0 .* and 1"),
        (lambda: smoothed({"a": 0}), "all hold something"),
        (lambda: smoothed({}), "all hold something"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()
