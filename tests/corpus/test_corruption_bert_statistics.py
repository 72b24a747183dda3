"""BERT's pairs and masks have the published statistics: shares, uniformity, and those of the plain loop."""

from dataclasses import replace

import numpy as np
import pytest

from corpus.corruption.bert import BertObjective
from corpus.corruption.choose import choose, choose_units
from corpus.corruption.masking import Marks, budgets, hide
from corpus.corruption.pairs import make_pairs
from corpus.corruption.replacement import Replacement
from corpus.stream import Stream
from tests.corpus import reference_bert as plain
from tests.corpus.chance import plausible_counts, plausible_share, same_distribution
from tests.corpus.in_memory import MARKS, shard_of
from tests.corpus.rows_kit import keys, rows_of_lengths, token_documents
from tests.corpus.test_corruption_bert import SHARD


@pytest.fixture(scope="module")
def made():
    return BertObjective().corrupt(SHARD, MARKS, seed=2024, pass_number=0)


@pytest.fixture(scope="module")
def reference():
    """Segments of the plain loop, on Python's generator, over the same documents.

    Without short targets: one short document is many instances of one length, and no bin of a chi-square is
    independent.
    """
    draws, texts = plain.RandomDraws(1), token_documents(SHARD)
    return [pair for own in range(len(texts)) for pair in plain.pairs_of(texts, own, 125, 0.0, draws)]


def test_masked_share_and_eighty_ten_ten(made):
    lengths, hidden = np.diff(made.offsets), np.diff(made.target_offsets)
    assert np.array_equal(hidden, np.minimum(budgets(lengths, 0.15, 20), lengths - 3))
    assert 0.145 < hidden.sum() / lengths.sum() < 0.155
    read = made.tokens[made.target_positions + np.repeat(made.offsets[:-1], hidden)]
    masked, kept = read == MARKS.mask_id, read == made.target_tokens
    total = len(read)
    assert plausible_share(int(masked.sum()), total, 0.8 + 0.1 / MARKS.vocab_size)
    assert plausible_share(int(kept.sum()), total, 0.1 + 0.1 / MARKS.vocab_size)
    assert plausible_share(total - int((masked | kept).sum()), total, 0.1 * (1 - 2 / MARKS.vocab_size))


def test_random_tokens_are_uniform_over_the_whole_vocabulary_special_tokens_too():
    marks = Marks(vocab_size=50, cls_id=2, sep_id=3, mask_id=49)
    rows = replace(rows_of_lengths([1], 1), marks=marks)
    read = Replacement().read(np.full(200_000, 48, np.uint16), keys(200_000).bits().__getitem__, rows, None)
    counts = np.bincount(read, minlength=50)
    assert plausible_counts(counts[:48], np.ones(48))
    assert plausible_share(int(counts[:48].sum()), 200_000, 0.1 * 48 / 50)


def test_all_subsets_are_equally_likely_and_each_place_is_hidden_equally_often():
    taken = choose(np.full(40_000, 6), np.full(40_000, 3), keys(40_000)).reshape(-1, 6)
    kinds = np.unique(taken, axis=0, return_counts=True)[1]
    assert len(kinds) == 20
    assert plausible_counts(kinds, np.ones(20))
    rows = rows_of_lengths([58, 67], 3000)
    targets = hide(rows, share=0.15, most=20, whole_word=False, replacement=Replacement())
    places = np.bincount(targets.positions_M, minlength=128)
    assert places[0] == places[59] == places[127] == 0
    # k of n without replacement varies less than n independent bins: (n - k) / (n - 1)
    inner = np.delete(places, [0, 59, 127])
    expected = 3000 * 19 / 125
    spread = ((inner - expected) ** 2 / (expected * (1 - 19 / 125))).sum()
    assert abs(spread - 124) < 4 * np.sqrt(2 * 124)


def test_words_are_shuffled_fairly():
    lengths = np.tile([1, 2, 3, 1, 1], 30_000)
    taken = choose_units(lengths, np.full(30_000, 5), np.ones(30_000, np.int64), keys(30_000)).reshape(-1, 5)
    assert plausible_counts(taken.sum(0)[[0, 3, 4]], np.ones(3))
    assert taken[:, [1, 2]].sum() == 0


def test_pairs_have_the_statistics_of_the_plain_loop(reference):
    made = BertObjective(short_share=0.0).corrupt(SHARD, MARKS, seed=2024, pass_number=0)
    lengths = np.diff(made.offsets) - 3
    a = made.segment_b - 2
    theirs = np.array([(len(p.a), len(p.b), p.is_random) for p in reference])
    assert same_distribution(lengths, theirs[:, 0] + theirs[:, 1])
    assert same_distribution(a, theirs[:, 0])
    assert same_distribution(lengths - a, theirs[:, 1])
    share = theirs[:, 2].mean()
    assert share > 0.5  # one-sentence chunks are always random
    difference = made.pair_label.mean() - share
    assert abs(difference) < 4 * np.sqrt(share * (1 - share) * (1 / len(made) + 1 / len(theirs)))
    assert abs(len(made) / len(theirs) - 1) < 0.02


def test_half_of_the_many_sentence_chunks_are_random_and_cuts_are_uniform():
    shard = shard_of([[10, 10, 10, 10]] * 8000)
    stream = Stream.of(1, "segments", 0, shard.document_ids)
    found = make_pairs(shard, np.arange(8000), stream=stream, room=400, short_share=0.0)
    first = found.chunk == 0
    assert plausible_share(int(found.label[first].sum()), 8000, 0.5)
    assert plausible_counts(np.bincount(found.a_length[first] // 10, minlength=4)[1:4], np.ones(3))
    lent = found.b_start[found.label] // 10
    owner = lent // 4
    assert not (owner == found.document[found.label]).any()
    assert plausible_counts(np.bincount(owner // 400, minlength=20), np.ones(20))
    assert plausible_counts(np.bincount(lent % 4, minlength=4), np.ones(4))


def test_short_targets_are_a_tenth_of_documents_and_uniform():
    shard = shard_of([[1] * 200] * 4000)
    stream = Stream.of(1, "segments", 0, shard.document_ids)
    found = make_pairs(shard, np.arange(4000), stream=stream, room=12, short_share=0.1)
    length = (found.a_length + found.b_length)[found.chunk == 0]
    assert plausible_share(int((length < 12).sum()), 4000, 0.1 * 10 / 11)
    assert plausible_counts(np.bincount(length, minlength=12)[2:12], np.ones(10))


def test_truncation_removes_front_and_back_alike():
    shard = shard_of([[300]] * 5000)
    stream = Stream.of(1, "segments", 0, shard.document_ids)
    found = make_pairs(shard, np.arange(5000), stream=stream, room=125, short_share=0.0)
    assert set(found.a_length) == {63}
    assert set(found.b_length) == {62}
    for start, lost in ((found.a_start, 237), (found.b_start, 238)):
        front = start % 300
        assert abs(front.mean() - lost / 2) < 4 * np.sqrt(lost / 4 / 5000)
        assert abs(front.var() / (lost / 4) - 1) < 4 * np.sqrt(2 / 5000)
