"""BART's noises have the published statistics: shares, Poisson lengths, uniform places, and those of the plain loops on
another generator.
"""

import itertools
import math

import numpy as np
import pytest

from corpus.corruption.bart import BartObjective, bart_command_published, bart_published
from corpus.corruption.infilling import Spans, TextInfilling, draw_spans, poisson, poisson_shares
from corpus.corruption.permuting import SentencePermutation
from corpus.corruption.rotating import DocumentRotation
from corpus.corruption.token_noises import TokenDeletion, TokenInsertion, TokenMasking
from tests.corpus import reference_bart as plain
from tests.corpus.chance import plausible_counts, plausible_share, same_distribution
from tests.corpus.in_memory import MARKS, documents, shard_of
from tests.corpus.rows_kit import keys, token_documents
from tests.corpus.test_corruption_bart import alone, sources, targets

SHARD = shard_of(documents(500, seed=1), seed=1)


def pmf(mean, k):
    return math.exp(-mean) * mean**k / math.factorial(k)


# --- span lengths ---


@pytest.mark.parametrize(("mean", "longest"), [(3.0, 17), (3.5, 18), (0.1, 5), (16.0, 41)])
def test_lengths_are_poisson_and_end_where_the_probability_falls_below_one_in_ten_million(mean, longest):
    shares = poisson_shares(mean)
    assert len(shares) - 1 == longest
    assert pmf(mean, longest) < 1e-7 <= pmf(mean, longest - 1)
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)
    counts = np.bincount(poisson(keys(200_000).bits(), mean), minlength=len(shares))
    expected = 200_000 * np.array([pmf(mean, k) for k in range(len(counts))])
    common = expected >= 5
    assert plausible_counts(
        [*counts[common], counts[~common].sum() + 5], [*expected[common], expected[~common].sum() + 5]
    )


def test_lengths_reach_the_budget_exactly_and_a_share_of_them_is_zero():
    budget = np.resize(np.arange(0, 60), 6000)
    spans = draw_spans(budget, 3.0, keys(6000))
    assert np.array_equal(np.bincount(spans.row_N, spans.lengths_N, minlength=6000), budget)
    assert (spans.lengths_N >= 1).all()
    assert np.array_equal(np.bincount(spans.row_N, minlength=6000), spans.spans_B)
    assert (spans.inserts_B[budget == 0] == 0).all()
    # before the budget is reached the number of zeros per other length is that of the distribution
    zeros, total = int(spans.inserts_B.sum()), int(spans.inserts_B.sum() + spans.spans_B.sum())
    assert plausible_share(zeros, total, pmf(3.0, 0))
    # the span that is cut to fit lies anywhere
    border = spans.row_N[1:] != spans.row_N[:-1]
    begins, ends = spans.lengths_N[1:][border], spans.lengths_N[:-1][border]
    assert same_distribution(begins + 0.0, ends + 0.0)


def test_whole_lengths_have_the_histogram_of_poisson_without_zero():
    """Budgets so large that the one cut length does not count."""
    spans = draw_spans(np.full(40, 6000), 3.0, keys(40))
    counts = np.bincount(spans.lengths_N, minlength=12)[1:12]
    assert plausible_counts(counts, [pmf(3.0, k) for k in range(1, 12)])


# --- infilling ---


def test_the_exact_variant_hides_the_budget_and_the_original_fewer():
    shares = {}
    for exact in (False, True):
        made = BartObjective(permute=None, infill=TextInfilling(exact=exact)).corrupt(
            SHARD, MARKS, seed=0, pass_number=0
        )
        kept = [sum(t != MARKS.mask_id for t in s[1:-1]) for s in sources(made)]
        shares[exact] = 1 - sum(kept) / len(SHARD.tokens_T)
    words_share = 0.3  # of words, and of tokens too: words are hidden whatever their length
    assert abs(shares[True] - words_share) < 0.01
    assert 0.24 < shares[False] < 0.28


@pytest.mark.parametrize("objective", [bart_published(), bart_command_published()])
def test_sources_have_the_statistics_of_the_plain_loops_on_another_generator(objective):
    made = objective.corrupt(SHARD, MARKS, seed=5, pass_number=0)
    draws, theirs = plain.RandomDraws(1), []
    for sentences in token_documents(SHARD):
        texts = [[(at, int(SHARD.tokens_T[at])) for at in sentence] for sentence in sentences]
        for row in plain.rows_of(texts, objective.room):
            read = plain.corrupt(row, SHARD.word_start_T, objective, MARKS.vocab_size, draws)
            size = sum(map(len, row))
            masks = sum(token == plain.MASK for token in read)
            others = sum(isinstance(token, int) for token in read)
            theirs.append((size, len(read), masks, others))
    ours = []
    for source, target in zip(sources(made), targets(made), strict=True):
        masks = source.count(MARKS.mask_id)
        ours.append((len(target) - 2, len(source) - 2, masks))
    a, b = np.array(ours, float), np.array(theirs, float)
    assert np.array_equal(a[:, 0], b[:, 0])
    long = a[:, 0] > 100
    assert long.sum() > 150
    for column in (1, 2):  # what is left of a row, and its masks
        x, y = ((t[:, column] / t[:, 0])[long] for t in (a, b))
        assert abs(x.mean() - y.mean()) < 4 * np.sqrt((x.var() + y.var()) / len(x))
        assert 0.7 < x.std() / y.std() < 1.4
    assert b[:, 3].sum() > 0 or objective.infill.random_share == 0


def test_every_place_of_spans_apart_is_equally_likely():
    """Spans of 2 and 1 among six words: two lengths in ten arrangements of the shrunk spans."""
    rows = 20_000
    spans = Spans(
        lengths_N=np.tile([2, 1], rows),
        row_N=np.repeat(np.arange(rows), 2),
        spans_B=np.full(rows, 2),
        inserts_B=np.zeros(rows, np.int64),
    )
    starts = TextInfilling(exact=True)._starts(spans, np.full(rows, 6), keys(rows)).reshape(-1, 2)
    assert (starts[:, 1] >= starts[:, 0] + 2).all()
    assert (starts[:, 1] < 6).all()
    found, counts = np.unique(starts, axis=0, return_counts=True)
    assert len(found) == 10
    assert plausible_counts(counts, np.ones(10))


def test_spans_begin_at_every_word_equally_often():
    rows, words = 1500, 20
    shard = shard_of([[words]] * rows)
    shard.word_start_T[:] = True
    shard.tokens_T[:] = np.tile(np.arange(100, 100 + words), rows)
    objective = alone(infill=TextInfilling(share=0.04, mean_span=0.01))  # one word in each row
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    kept = np.bincount(made.source_tokens, minlength=100 + words)[100:]
    assert kept.sum() == rows * (words - 1)
    assert plausible_counts(rows - kept, np.ones(words))


def test_a_share_of_the_masks_is_random_and_uniform_but_for_the_first_token_of_the_vocabulary():
    shard = shard_of(documents(300, seed=2), vocab_size=6000)
    marks_of = MARKS.__class__(vocab_size=40, cls_id=6001, sep_id=6002, mask_id=6003)
    shard.tokens_T[:] = 6000
    for exact in (False, True):
        objective = BartObjective(permute=None, infill=TextInfilling(random_share=0.1, exact=exact))
        made = objective.corrupt(shard, marks_of, seed=0, pass_number=0)
        masks = int((made.source_tokens == 6003).sum())
        others = made.source_tokens[made.source_tokens < 6000]
        counts = np.bincount(others, minlength=40)
        assert counts[0] == 0
        assert plausible_counts(counts[1:], np.ones(39))
        share = len(others) / (masks + len(others))
        if exact:
            assert plausible_share(len(others), masks + len(others), 0.1)
        else:
            assert share > 0.1  # of the masks put in into a row at least one is random


def test_masks_are_put_in_at_every_place_equally_often():
    rows = 6000
    shard = shard_of([[9]] * rows)
    shard.tokens_T[:] = 50
    made = alone(insert=TokenInsertion(share=0.09)).corrupt(shard, MARKS, seed=0, pass_number=0)
    table = made.source_tokens.reshape(rows, 12)  # <s>, ten places, </s>
    assert (np.sort(table[:, 1:-1] == MARKS.mask_id, axis=1).sum(1) == 1).all()
    assert plausible_counts((table == MARKS.mask_id).sum(0)[1:-1], np.ones(10))


# --- masking, deletion ---


def test_the_share_of_tokens_is_rounded_up_and_every_place_is_hit_equally_often():
    rows, length = 3000, 30
    shard = shard_of([[length]] * rows)
    shard.tokens_T[:] = np.tile(np.arange(100, 100 + length), rows)
    count = math.ceil(length * 0.15)
    for noise in ({"mask": TokenMasking()}, {"delete": TokenDeletion()}):
        made = alone(**noise).corrupt(shard, MARKS, seed=1, pass_number=0)
        kept = np.bincount(made.source_tokens, minlength=100 + length)[100:]
        assert kept.sum() == rows * (length - count)
        expected = rows * count / length
        chi = ((rows - kept - expected) ** 2 / (expected * (1 - count / length))).sum()
        assert abs(chi - (length - 1)) < 4 * np.sqrt(2 * (length - 1))
        assert (
            np.diff(made.source_offsets).tolist() == [length + 2 - (count if "delete" in noise else 0)] * rows
        )


# --- order ---


def test_all_orders_of_sentences_are_equally_likely():
    shard = shard_of([[1, 1, 1, 1]] * 6000)
    shard.tokens_T[:] = np.tile([100, 101, 102, 103], 6000)
    made = alone(permute=SentencePermutation()).corrupt(shard, MARKS, seed=0, pass_number=0)
    orders = made.source_tokens.reshape(-1, 6)[:, 1:-1] - 100
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert [tuple(o) for o in found] == list(itertools.permutations(range(4)))
    assert plausible_counts(counts, np.ones(24))


def test_a_share_of_the_sentences_change_places_among_themselves():
    """Two of four: half the time they stay, else any of six pairs has changed places."""
    shard = shard_of([[1, 1, 1, 1]] * 6000)
    shard.tokens_T[:] = np.tile([100, 101, 102, 103], 6000)
    made = alone(permute=SentencePermutation(share=0.5)).corrupt(shard, MARKS, seed=0, pass_number=0)
    orders = made.source_tokens.reshape(-1, 6)[:, 1:-1] - 100
    moved = orders != np.arange(4)
    assert set(moved.sum(1)) == {0, 2}
    pairs, counts = np.unique(moved, axis=0, return_counts=True)
    assert len(pairs) == 7
    assert plausible_counts(counts, [6 if not pair.any() else 1 for pair in pairs])


def test_rotation_begins_anywhere_and_twice_as_often_where_it_began():
    """Offsets 1 ... length - 1 count from <s>, and the last one turns the text all the way round."""
    shard = shard_of([[6]] * 7000)
    shard.tokens_T[:] = np.tile(np.arange(100, 106), 7000)
    made = alone(rotate=DocumentRotation()).corrupt(shard, MARKS, seed=0, pass_number=0)
    first = made.source_tokens.reshape(-1, 8)[:, 1] - 100
    assert plausible_counts(np.bincount(first, minlength=6), [2, 1, 1, 1, 1, 1])
    some = alone(rotate=DocumentRotation(share=0.3)).corrupt(shard, MARKS, seed=0, pass_number=0)
    first = some.source_tokens.reshape(-1, 8)[:, 1] - 100
    assert plausible_share(int((first == 0).sum()), 7000, 0.7 + 0.3 * 2 / 7)
