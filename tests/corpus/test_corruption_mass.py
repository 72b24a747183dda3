"""MASS: equal to the plain loops given the same draws, with the published statistics, and every target where it belongs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption import seq2seq
from corpus.corruption.masking import Marks
from corpus.corruption.mass import (
    FragmentPerBlock,
    MassObjective,
    OneFragment,
    mass_published,
    mass_summarisation_published,
    mass_supervised_published,
)
from corpus.corruption.packing import DocSentences
from corpus.corruption.replacement import AnyToken, Replacement
from tests.corpus import reference_mass as plain
from tests.corpus.chance import plausible_counts, plausible_share, same_distribution
from tests.corpus.in_memory import documents, shard_of
from tests.corpus.reference_bart import rows_of
from tests.corpus.reference_bert import fold, key_of
from tests.corpus.rows_kit import keys, token_documents

MARKS = Marks(vocab_size=8000, cls_id=2, sep_id=3, mask_id=4, special_ids=(0, 1, 2, 3, 4))
ODD = [
    [],
    [1],
    [7],
    [3, 4],
    [],
    [300],
    [1, 1, 1],
    [60, 70, 2],
    [30] * 12,
    [1] * 70,
    [127, 1],
    [126],
    [64],
    [63],
]
OBJECTIVES = {
    "published": mass_published(),
    "supervised": mass_supervised_published(),
    "summarisation": mass_summarisation_published(),
    "paper's half in blocks": replace(mass_summarisation_published(), fragments=FragmentPerBlock(share=0.5)),
    "documents": MassObjective(max_seq_len=40, packing=DocSentences(), fragments=OneFragment(share=0.3)),
    "short blocks": MassObjective(max_seq_len=50, fragments=FragmentPerBlock(share=0.2, block_tokens=7)),
}
EACH = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def instances(made):
    """(source, decoder, positions, target) of each."""
    for (a, b), (c, d) in zip(
        itertools.pairwise(made.source_offsets), itertools.pairwise(made.decoder_offsets), strict=True
    ):
        columns = (made.decoder_tokens, made.decoder_positions, made.target_tokens)
        yield made.source_tokens[a:b].tolist(), *(column[c:d].tolist() for column in columns)


def texts_of(objective, shard):
    """(document, chunk, row) of the rows that there must be."""
    for own, sentences in enumerate(token_documents(shard)):
        room = objective.max_seq_len - 2
        if isinstance(objective.packing, DocSentences):
            rows = rows_of(sentences, room)
        else:
            rows = [[s[at : at + room]] for s in sentences for at in range(0, len(s), room)]
        for chunk, row in enumerate(rows):
            tokens = [int(shard.tokens_T[at]) for sentence in row for at in sentence]
            yield own, chunk, [MARKS.cls_id, *tokens, MARKS.sep_id]


def assert_equals_the_plain_loops(objective, shard):
    made = objective.corrupt(shard, MARKS, seed=7, pass_number=1)
    found = list(instances(made))
    expected = list(texts_of(objective, shard))
    assert len(found) == len(expected)
    noise, decoder_noise = objective.replacement, objective.decoder_noise
    ids = list(range(8000)) if isinstance(noise.other, AnyToken) else list(range(5, 8000))
    shares = [(n.masked, n.kept) if n else (0.0, 0.0) for n in (noise, decoder_noise)]
    for number, (own, chunk, row) in enumerate(expected):
        words = [int(w) for w in shard.document_ids[own].view("<u8")]
        identity = fold(key_of(0, "instance", 1, *words), chunk)
        draws = plain.KeyedDraws(key_of(7, "noise", 1, identity), ids, *shares)
        f = objective.fragments
        if isinstance(f, OneFragment):
            hidden = plain.one_fragment(len(row), f.share, f.first_share, f.last_share, draws)
        else:
            hidden = plain.fragment_per_block(len(row), f.share, f.block_tokens, draws)
        want = plain.build(row, hidden, draws, decoder_noise)
        assert made.instance_id[number] == identity
        assert found[number] == tuple(
            [MARKS.mask_id if t == plain.MASK else t for t in column] for column in want
        )


@EACH
def test_instances_equal_the_plain_loops_given_the_same_draws(objective):
    shard = shard_of([*ODD, *documents(15, seed=3)])
    assert len(list(texts_of(objective, shard))) > 20
    assert_equals_the_plain_loops(objective, shard)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 150), max_size=5), max_size=3),
    st.sampled_from(list(OBJECTIVES.values())),
    st.integers(0, 1000),
)
def test_any_text_equals_the_plain_loops(lengths, objective, seed):
    assert_equals_the_plain_loops(objective, shard_of(lengths, seed=seed))


# --- every target where it belongs ---


@EACH
def test_targets_put_into_the_source_give_the_text_and_the_decoder_reads_what_stands_before_them(objective):
    shard = shard_of([*ODD, *documents(30, seed=5)])
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    faithful, read = 0, 0
    for (source, decoder, positions, target), (_, _, row) in zip(
        instances(made), texts_of(objective, shard), strict=True
    ):
        assert target, "no instance is without a target"
        assert all(0 <= place < len(row) - 1 for place in positions)
        assert positions == sorted(set(positions))
        restored = list(source)
        for place, token in zip(positions, target, strict=True):
            restored[place + 1] = token
        assert restored == row
        faithful += sum(row[place] == token for place, token in zip(positions, decoder, strict=True))
        read += len(decoder)
    if objective.decoder_noise is None:
        assert faithful == read
    else:
        assert plausible_share(faithful, read, 0.8)


# --- statistics ---


def test_a_fragment_is_half_the_sentence_and_begins_at_the_start_the_end_or_anywhere():
    """20 % each at the first and the last place, the other 60 % at any of all places, these two included."""
    for words, hidden in (
        (9, 6),
        (8, 5),
        (10, 6),
        (1, 2),
    ):  # round(11 / 2) is 6, round(5) 5, round(6) 6, round(1.5) 2
        made = mass_published().corrupt(shard_of([[words]] * 8000), MARKS, seed=words, pass_number=0)
        first = made.decoder_positions.reshape(8000, hidden)[:, 0] + 1
        places = words + 2 - hidden
        expected = np.full(places, 0.6 / places)
        expected[0] += 0.2
        expected[-1] += 0.2
        assert np.array_equal(np.unique(first), np.arange(1, 1 + places))
        if places > 1:
            assert plausible_counts(np.bincount(first)[1:], expected)


def test_the_mix_of_starts_is_that_of_the_plain_loop_on_another_generator():
    draws = plain.RandomDraws(3)
    theirs = [plain.one_fragment(40, 0.5, 0.2, 0.2, draws)[0] for _ in range(6000)]
    ours, count, _ = OneFragment().place(np.full(6000, 40), keys(6000))
    assert set(count) == {20}
    assert same_distribution(ours + 0.0, np.array(theirs, float), bins=8)


def test_eighty_ten_ten_of_the_source_and_special_tokens_as_chosen():
    shard = shard_of(documents(150, seed=2), vocab_size=64)
    marks = replace(MARKS, vocab_size=64)
    for objective, lowest in ((mass_published(), 0), (mass_supervised_published(), 5)):
        made = objective.corrupt(shard, marks, seed=0, pass_number=0)
        row = np.repeat(made.source_offsets[:-1], np.diff(made.decoder_offsets))
        read, target = made.source_tokens[row + made.decoder_positions + 1], made.target_tokens
        ordinary = target >= 5  # the end of the row apart
        read, target = read[ordinary], target[ordinary]
        by_chance = 0.1 / (64 - lowest)
        assert plausible_share(int((read == 4).sum()), len(read), 0.8 + (by_chance if lowest == 0 else 0.0))
        assert plausible_share(int((read == target).sum()), len(read), 0.1 + by_chance)
        other = np.bincount(read[(read != 4) & (read != target)], minlength=64)
        assert (other[:lowest] == 0).all()
        drawn = np.delete(other, range(lowest)) if lowest else np.delete(other, 4)[:4]
        expected = np.ones(4) if not lowest else 1 - np.bincount(target, minlength=64)[5:] / len(target)
        assert plausible_counts(drawn, expected)


def test_supervised_mass_hides_what_it_predicts():
    made = mass_supervised_published().corrupt(shard_of([[18]] * 3000), MARKS, seed=0, pass_number=0)
    source = made.source_tokens.reshape(3000, 20)
    first = made.decoder_positions.reshape(3000, 6)[:, 0] + 1  # round(20 x 0.3)
    hidden = source == MARKS.mask_id
    inside = (np.arange(20) >= first[:, None]) & (np.arange(20) < first[:, None] + 6)
    assert not (hidden & ~inside).any()
    assert plausible_share(int(hidden.sum()), int(inside.sum()), 0.8)
    decoder = made.decoder_tokens
    assert plausible_share(int((decoder == MARKS.mask_id).sum()), len(decoder), 0.1)


def test_one_throw_can_decide_for_a_whole_fragment():
    objective = replace(mass_published(), replacement=Replacement(together=True))
    made = objective.corrupt(shard_of([[18]] * 2000), MARKS, seed=0, pass_number=0)
    row = np.repeat(made.source_offsets[:-1], np.diff(made.decoder_offsets))
    read = made.source_tokens[row + made.decoder_positions + 1].reshape(2000, 10)
    masked = (read == MARKS.mask_id).sum(1)
    assert plausible_share(int((masked == 10).sum()), 2000, 0.8)
    assert ((masked <= 1) | (masked == 10)).all()  # a mask among random tokens is one by chance


@pytest.mark.parametrize(("share", "hidden"), [(0.15, [9, 9, 0]), (0.5, [32, 32, 3])])
def test_every_block_of_64_has_a_fragment_anywhere_in_it(share, hidden):
    objective = replace(mass_summarisation_published(), fragments=FragmentPerBlock(share=share))
    shard = shard_of([[133]] * 2000)  # 64 + 64 + 6 with </s>: int(6 x 0.15) is none
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    positions = made.decoder_positions.reshape(2000, sum(hidden)).astype(int) + 1
    at = 0
    for block, count in enumerate(hidden):
        inner = positions[:, at : at + count] - 1 - 64 * block
        at += count
        if count:
            size = 64 if block < 2 else 6
            assert (np.diff(inner, axis=1) == 1).all()
            begins = np.bincount(inner[:, 0], minlength=size - count + 1)
            assert plausible_counts(begins, np.ones(size - count + 1))


def test_short_rows_have_a_target_too():
    made = mass_summarisation_published().corrupt(
        shard_of([[n] for n in range(1, 20)]), MARKS, seed=0, pass_number=0
    )
    assert np.diff(made.decoder_offsets).tolist() == [max(1, int((n + 1) * 0.15)) for n in range(1, 20)]


# --- the same bits however it is cut ---


@EACH
def test_prepared_ahead_equals_on_the_fly_for_any_subset_of_documents(objective, monkeypatch):
    shard = shard_of([*ODD, *documents(10, seed=4)])
    for array in vars(shard).values():
        array.flags.writeable = False
    ahead = objective.corrupt(shard, MARKS, seed=5, pass_number=1)
    some = np.array([20, 3, 8, 8, 15])
    apart = [
        list(instances(objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array([i]))))
        for i in range(len(ODD) + 10)
    ]
    assert list(instances(ahead)) == [one for document in apart for one in document]
    backwards = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=some)
    assert list(instances(backwards)) == [one for i in some for one in apart[i]]
    monkeypatch.setattr(seq2seq, "BLOCK_TOKENS", 100)
    assert objective.corrupt(shard, MARKS, seed=5, pass_number=1).same_as(ahead)
    assert not objective.corrupt(shard, MARKS, seed=6, pass_number=1).same_as(ahead)


@EACH
def test_empty_documents_give_nothing_and_tiny_ones_one_instance_each(objective):
    for lengths in ([], [[], [], []]):
        assert len(objective.corrupt(shard_of(lengths), MARKS, seed=0, pass_number=0)) == 0
    made = objective.corrupt(shard_of([[], [1], [], [1]]), MARKS, seed=0, pass_number=0)
    assert made.document.tolist() == [1, 3]
    assert np.diff(made.source_offsets).tolist() == [3, 3]
    assert (np.diff(made.decoder_offsets) >= 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MassObjective(max_seq_len=2), "MassObjective.max_seq_len is 2; it must be 3 to 65536"),
        (lambda: OneFragment(share=1.0), "OneFragment.share is 1.0; it must lie between 0 and 1"),
        (lambda: OneFragment(first_share=0.7, last_share=0.5), "first_share is 0.7 and last_share 0.5"),
        (lambda: FragmentPerBlock(share=0.0), "FragmentPerBlock.share is 0.0"),
        (lambda: FragmentPerBlock(block_tokens=5), "block_tokens is 5; at share 0.15 a block must have 7"),
        (lambda: Replacement(masked=0.9, kept=0.2), "masked is 0.9 and kept 0.2"),
    ],
)
def test_bad_values_are_refused_with_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
