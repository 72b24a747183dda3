"""Proposals have the probability that the formula says, also for documents of a few shingles."""

import numpy as np
import pyarrow as pa
import pytest

from corpus.deduplicate import DeduplicateConfig
from corpus.near.minhash import band_keys, bands_of, proposal_chance, signatures
from corpus.ragged import offsets_of
from corpus.stream import Words

BANDS, ROWS = DeduplicateConfig().bands, DeduplicateConfig().rows


def pairs_of(count: int, union: int, common: int, rng: np.random.Generator) -> tuple[Words, np.ndarray]:
    """2 * count sets as flat hashes and offsets: 2i and 2i + 1 share `common` of `union` elements."""
    own = (union - common) // 2
    hashes = rng.integers(0, 1 << 63, (count, union), np.uint64) * np.uint64(2)
    first, second = hashes[:, : common + own], np.delete(hashes, np.s_[common : common + own], axis=1)
    flat = np.stack([first, second], 1).reshape(-1)
    return flat, offsets_of(np.full(2 * count, common + own))


@pytest.mark.parametrize(("union", "common"), [(20, 16), (200, 170), (1000, 500), (40, 8)])
def test_minima_agree_as_often_as_sets_are_similar_and_independently(union: int, common: int) -> None:
    flat, offsets = pairs_of(600, union, common, np.random.default_rng(1))
    minima = signatures(flat, offsets[:-1], BANDS * ROWS)
    agree = (minima[:, 0::2] == minima[:, 1::2]).sum(0)
    n, p = BANDS * ROWS, common / union
    assert abs(agree.mean() - n * p) < 4 * np.sqrt(n * p * (1 - p) / 600)
    assert 0.8 < agree.var() / (n * p * (1 - p)) < 1.25, "one function for all minima would make it 84"


@pytest.mark.parametrize("jaccard", [0.5, 0.7, 0.85])
@pytest.mark.parametrize("union", [40, 400])
def test_pairs_are_proposed_with_the_stated_probability(union: int, jaccard: float) -> None:
    count, common = 1500, round(union * jaccard)
    flat, offsets = pairs_of(count, union, common, np.random.default_rng(2))
    keys = bands_of(signatures(flat, offsets[:-1], BANDS * ROWS), BANDS)
    proposed = (keys[0::2] == keys[1::2]).any(1).mean()
    chance = proposal_chance(common / union, bands=BANDS, rows=ROWS)
    assert abs(proposed - chance) < 4 * np.sqrt(chance * (1 - chance) / count) + 1e-3


def test_the_default_misses_at_most_one_in_two_hundred_from_085_on() -> None:
    assert proposal_chance(0.85, bands=BANDS, rows=ROWS) >= 0.995
    assert proposal_chance(0.3, bands=BANDS, rows=ROWS) < 0.011


def test_keys_depend_on_the_text_alone() -> None:
    texts = [f"{n} green bottles hanging on the wall and if one" for n in range(50)] + ["", "😀"]
    documents, keys = band_keys(pa.array(texts, pa.large_string()), bands=BANDS, rows=ROWS)
    assert documents.tolist() == list(range(50))
    alone = [band_keys(pa.array([t], pa.large_string()), bands=BANDS, rows=ROWS)[1] for t in texts]
    np.testing.assert_array_equal(np.concatenate(alone), keys)
    assert len(np.unique(keys[0])) == BANDS
