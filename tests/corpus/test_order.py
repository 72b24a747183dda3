"""Every epoch reads every instance once, in an order of its own that needs no memory."""

import numpy as np
import pytest

from corpus.order import Order, index_each
from tests.corpus.chance import plausible_counts

GOLDEN = [47, 102, 385, 609, 837, 995]


@pytest.mark.parametrize(
    "count", [1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 99, 100, 101, 255, 256, 257, 1000, 4097, 65_537]
)
def test_every_epoch_is_a_permutation(count):
    for seed in (0, 1):
        index = Order(seed=seed, count=count).index(range(3 * count)).reshape(3, count)
        assert np.array_equal(np.sort(index, axis=1), np.broadcast_to(np.arange(count), index.shape))


def test_small_counts_are_permutations_without_exception():
    for count in range(1, 200):
        index = Order(seed=count, count=count).index(range(count))
        assert np.array_equal(np.sort(index), np.arange(count))


def test_a_sample_does_not_depend_on_what_is_asked_with_it():
    order = Order(seed=3, count=1234)
    samples = np.random.default_rng(0).integers(0, 10**6, 500)
    together = order.index(samples)
    assert [int(order.index(np.array([n]))[0]) for n in samples[:50]] == together[:50].tolist()
    assert np.array_equal(order.index(samples[::-1]), together[::-1])
    assert len(order.index(np.zeros(0, np.int64))) == 0


def test_seeds_and_epochs_have_different_orders():
    first = Order(seed=1, count=1000).index(range(2000)).reshape(2, 1000)
    other = Order(seed=2, count=1000).index(range(1000))
    assert (first[0] == first[1]).mean() < 0.01
    assert (first[0] == other).mean() < 0.01


def test_all_orders_of_four_are_equally_likely():
    epochs = Order(seed=0, count=4).index(range(4 * 24_000)).reshape(-1, 4)
    kinds = np.unique(epochs, axis=0, return_counts=True)[1]
    assert len(kinds) == 24
    assert plausible_counts(kinds, np.ones(24))


def test_places_and_steps_are_uniform():
    count = 64
    epochs = Order(seed=5, count=count).index(range(count * 4000)).reshape(-1, count)
    for place in (0, 1, 31, 63):
        assert plausible_counts(np.bincount(epochs[:, place], minlength=count), np.ones(count))
    steps = (epochs[:, 1] - epochs[:, 0]) % count
    assert plausible_counts(np.bincount(steps, minlength=count)[1:], np.ones(count - 1))


def test_no_correlation_with_the_place_in_a_large_epoch():
    count = 100_003
    index = Order(seed=9, count=count).index(range(count))
    assert abs(np.corrcoef(index, np.arange(count))[0, 1]) < 4 / np.sqrt(count)
    assert abs(np.corrcoef(index[1:], index[:-1])[0, 1]) < 4 / np.sqrt(count)


def test_huge_counts_stay_inside():
    for count in (2**31 - 1, 2**40 + 3):
        index = Order(seed=0, count=count).index(np.arange(10**6, 10**6 + 1000))
        assert index.min() >= 0
        assert index.max() < count
        assert len(np.unique(index)) == 1000


def test_neighbours_are_scattered_evenly_over_a_large_epoch():
    """Chi-square of (tenth of the epoch a sample stands in, tenth of the instances it reads), and of pairs in a row."""
    count = 400_000
    for seed in (0, 1):
        cell = Order(seed=seed, count=count).index(range(count)) * 10 // count
        place = np.arange(count) * 10 // count
        table = np.bincount(place * 10 + cell, minlength=100)
        assert abs(((table - count / 100) ** 2 / (count / 100)).sum() - 81) < 4 * np.sqrt(2 * 81)
        assert plausible_counts(np.bincount(cell[:-1] * 10 + cell[1:], minlength=100), np.ones(100))


def test_many_orders_at_once_give_what_each_gives():
    rng = np.random.default_rng(0)
    counts = [1, 2, 3, 7, 10, 100, 101, 4097, 2**31 - 1, 2**40 + 3]
    orders = [Order(seed=s, count=c, purpose=p) for c in counts for s in (0, 1) for p in ("a", "b")]
    which = rng.integers(0, len(orders), 3000)
    samples = rng.integers(0, 2**50, 3000) >> rng.integers(0, 50, 3000)
    each = [int(orders[w].index(np.array([n]))[0]) for w, n in zip(which, samples, strict=True)]
    assert index_each(orders, which, samples).tolist() == each
    assert index_each(orders, which[:0], samples[:0]).tolist() == []


def test_a_range_and_blocks_and_many_epochs_at_once_are_the_same_order():
    order = Order(seed=4, count=321)
    whole = order.index(range(100_000))
    assert np.array_equal(whole[5:90_000:7], order.index(range(5, 90_000, 7)))
    far = np.arange(0, 100_000, 997)
    assert np.array_equal(order.index(far), whole[far])


def test_purposes_are_unrelated():
    first, other = (Order(seed=1, count=1000, purpose=p).index(range(1000)) for p in ("order", "block"))
    assert (first == other).mean() < 0.01


def test_an_order_is_for_ever():
    """A run that goes on with a later cloze reads what it would have read: these numbers may never change."""
    order = Order(seed=7, count=1000)
    assert order.index(np.array([0, 1, 2, 999, 1000, 10**12])).tolist() == GOLDEN


def test_an_empty_artifact_and_a_negative_sample_are_refused():
    with pytest.raises(ValueError, match="at least one instance"):
        Order(seed=0, count=0)
    with pytest.raises(ValueError, match="-1 is negative"):
        Order(seed=0, count=3).index(np.array([-1]))
