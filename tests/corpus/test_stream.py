"""Draws are pure functions of their key and counter, and look like chance."""

import numpy as np
import pytest

from corpus.ragged import blocks, offsets_of, ranges, rows_of, sums
from corpus.stream import Stream
from tests.corpus import reference_bert as plain
from tests.corpus.chance import plausible_counts, plausible_share

IDS = np.random.default_rng(7).integers(0, 256, (20_000, 16)).astype(np.uint8)


def stream(purpose: str = "test", seed: int = 1, pass_number: int = 0) -> Stream:
    return Stream.of(seed, purpose, pass_number, IDS)


def test_bits_equal_the_same_arithmetic_with_python_integers():
    words = IDS.view("<u8")
    folded = stream(seed=-5, pass_number=3).fold(9).bits(4)
    for i in range(20):
        key = plain.key_of(-5, "test", 3, *map(int, words[i]))
        assert int(folded[i]) == plain.bits(plain.fold(key, 9), 4)


def test_known_answers_never_change():
    """A change here would silently make every prepared corpus another one."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # SplitMix64 from state 0
    assert Stream(np.zeros(3, np.uint64)).bits(np.arange(3)).tolist() == published
    assert Stream.of(1, "golden", 0, np.arange(2, dtype=np.uint64)).bits().tolist() == [
        0x2701C3AA127CD123,
        0x29ED98B466014599,
    ]


def test_an_item_draws_the_same_alone_in_any_batch_and_in_any_order():
    order = np.random.default_rng(0).permutation(len(IDS))
    together = stream().bits(5)
    assert np.array_equal(Stream.of(1, "test", 0, IDS[order]).bits(5), together[order])
    assert np.array_equal(stream().at(order[:10]).bits(5), together[order[:10]])
    assert np.array_equal(stream().bits(np.full(len(IDS), 5)), together)


@pytest.mark.parametrize("other", [stream("else"), stream(seed=2), stream(pass_number=1), stream().fold(0)])
def test_seed_purpose_pass_and_fold_give_unrelated_draws(other):
    same_bits = np.bitwise_count(~(stream().bits() ^ other.bits())).sum(dtype=int)
    assert plausible_share(same_bits, 64 * len(IDS), 0.5)


def test_every_bit_is_fair_and_neighbouring_counters_are_independent():
    s = stream()
    for counter in (0, 1, 2**40):
        bits, after = s.bits(counter), s.bits(counter + 1)
        for bit in range(64):
            shift = np.uint64(bit)
            assert plausible_share(int((bits >> shift & np.uint64(1)).sum()), len(IDS), 0.5)
        assert plausible_share(int(np.bitwise_count(bits ^ after).sum(dtype=int)), 64 * len(IDS), 0.5)


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 100, 1000])
def test_below_is_uniform_and_stays_below(bound):
    drawn = stream().below(bound)
    assert drawn.min() >= 0
    assert drawn.max() < bound
    counts = np.bincount(drawn, minlength=bound)
    assert bound == 1 or plausible_counts(counts, np.ones(bound))


def test_below_reaches_the_ends_of_a_large_bound():
    drawn = stream().below(2**31)
    assert drawn.max() > 2**31 * 0.999
    assert drawn.min() < 2**31 * 0.001


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_chance_has_its_share(share):
    assert plausible_share(int(stream().chance(share).sum()), len(IDS), share)


def test_heads_are_binomial_for_few_and_many_flips():
    for flips in (1, 63, 64, 65, 1000):
        heads = stream().heads(np.full(len(IDS), flips))
        assert heads.max() <= flips
        assert abs(heads.mean() - flips / 2) < 4 * np.sqrt(flips / 4 / len(IDS))
        assert abs(heads.var() / (flips / 4) - 1) < 4 * np.sqrt(2 / len(IDS)) + 2 / flips / np.sqrt(len(IDS))
    assert stream().heads(np.zeros(len(IDS), np.int64)).sum() == 0
    assert len(Stream(np.zeros(0, np.uint64)).heads(np.zeros(0, np.int64))) == 0


def test_no_draw_warns_on_one_item_or_none():
    for n in (0, 1):
        s = Stream.of(0, "x", 0, IDS[:n]).fold(3)
        assert len(s.bits(1)) == len(s.below(5, 2)) == len(s.chance(0.5)) == len(s) == n


def test_ragged_helpers_agree_with_loops():
    starts, lengths = np.array([7, 2, 4, 0]), np.array([3, 0, 2, 1])
    assert ranges(starts, lengths).tolist() == [7, 8, 9, 4, 5, 0]
    assert rows_of(lengths).tolist() == [0, 0, 0, 2, 2, 3]
    assert sums(np.array([1, 2, 3, 4, 5, 6]), offsets_of(lengths)).tolist() == [6, 0, 9, 6]


@pytest.mark.parametrize("lengths", [[], [5], [1] * 10, [100, 1, 1, 1, 100, 1], [0, 0], [3, 0, 0, 9]])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_cover_every_row_once(lengths, size):
    cut = blocks(offsets_of(np.array(lengths, np.int64)), size)
    assert [row for first, last in cut for row in range(first, last)] == list(range(len(lengths)))
    assert all(first < last for first, last in cut)
