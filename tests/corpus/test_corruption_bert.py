"""BERT's pairs and masks: equal to the plain loop given the same draws, with its statistics given other
draws, and the same bits whatever is asked for together.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption import rows as rows_module
from corpus.corruption.bert import BertObjective
from corpus.corruption.choose import choose, choose_units
from corpus.corruption.masking import Marks, budgets
from corpus.corruption.pairs import make_pairs, trims
from corpus.instance_kinds import NO_PAIR
from corpus.ragged import offsets_of
from corpus.stream import Stream
from tests.corpus import reference_bert as plain
from tests.corpus.in_memory import MARKS, documents, shard_of
from tests.corpus.rows_kit import instance_rows, keys, token_documents

SHARD = shard_of(documents(3000, seed=1), seed=1)
ODD = [
    [],
    [1],
    [7],
    [3, 4],
    [],
    [500],
    [1, 1, 1],
    [200, 300, 2],
    [60] * 30,
    [1] * 300,
    [129, 1],
    [125],
    [126],
    [124, 1],
]
OBJECTIVES = [
    BertObjective(),
    BertObjective(whole_word=True),
    BertObjective(next_sentence=False),
    BertObjective(max_seq_len=16, max_predictions=3, short_share=0.5, whole_word=True),
    BertObjective(max_seq_len=5, masked_share=0.9),
    BertObjective(max_seq_len=512, max_predictions=77, next_sentence=False, whole_word=True),
]


# --- given the same draws: exactly the plain loop ---


@pytest.mark.parametrize("lengths", [ODD, documents(150, seed=3), [[9, 9, 9]], [[40]], [[1]]])
@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o.next_sentence])
def test_instances_equal_the_plain_loop_given_the_same_draws(objective, lengths):
    shard = shard_of(lengths)
    ours = objective.corrupt(shard, MARKS, seed=11, pass_number=2)
    texts = token_documents(shard)
    number = 0
    for own, digest in enumerate(shard.document_ids):
        words = [int(w) for w in digest.view("<u8")]
        draws = plain.KeyedSegments(plain.key_of(11, "segments", 2, *words))
        pairs = plain.pairs_of(texts, own, objective.max_seq_len - 3, objective.short_share, draws)
        for chunk, pair in enumerate(pairs):
            identity = plain.fold(plain.key_of(0, "instance", 2, *words), chunk)
            at = [plain.CLS, *pair.a, plain.SEP, *pair.b, plain.SEP]
            ids = {plain.CLS: MARKS.cls_id, plain.SEP: MARKS.sep_id}
            tokens = [t if t in ids else int(shard.tokens_T[t]) for t in at]
            begins = [t in ids or bool(shard.word_start_T[t]) for t in at]
            begins[1] = begins[len(pair.a) + 2] = True  # the guard: a leading ## piece of A or B is a word
            noise = plain.KeyedNoise(plain.key_of(11, "noise", 2, identity), objective.whole_word)
            read, positions, targets = plain.hide(
                tokens,
                begins if objective.whole_word else None,
                objective.masked_share,
                objective.max_predictions,
                MARKS.vocab_size,
                MARKS.mask_id,
                noise,
            )
            first, last = ours.target_offsets[number : number + 2]
            begin, end = ours.offsets[number : number + 2]
            assert ours.instance_id[number] == identity
            assert ours.tokens[begin:end].tolist() == [ids.get(t, t) for t in read]
            assert ours.segment_b[number] == len(pair.a) + 2
            assert bool(ours.pair_label[number]) == pair.is_random
            assert ours.target_positions[first:last].tolist() == positions
            assert ours.target_tokens[first:last].tolist() == targets
            number += 1
    assert number == len(ours)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 30)),
        min_size=1,
        max_size=8,
    )
)
def test_words_are_chosen_as_the_greedy_walk_does(rows):
    units = np.array([len(lengths) for lengths, _ in rows])
    lengths = np.array([n for row, _ in rows for n in row])
    budget = np.array([b for _, b in rows])
    taken = choose_units(lengths, units, budget, keys(len(rows)))
    for row, (first, last) in enumerate(zip(offsets_of(units)[:-1], offsets_of(units)[1:], strict=True)):
        key = int(keys(len(rows)).keys_N[row])
        left, want = budget[row], set()
        for unit in sorted(range(last - first), key=lambda u, key=key: plain.bits(key, u) >> 18):
            if lengths[first + unit] <= left:
                want.add(unit)
                left -= lengths[first + unit]
        assert set(np.flatnonzero(taken[first:last])) == want


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), min_size=0, max_size=20))
def test_exactly_the_budget_is_chosen_as_floyd_does(rows):
    candidates = np.array([n for n, _ in rows], np.int64)
    budget = np.array([min(n, k) for n, k in rows], np.int64)
    taken = choose(candidates, budget, keys(len(rows)))
    for row, (first, last) in enumerate(
        zip(offsets_of(candidates)[:-1], offsets_of(candidates)[1:], strict=True)
    ):
        key = int(keys(len(rows)).keys_N[row])
        assert np.flatnonzero(taken[first:last]).tolist() == sorted(
            plain.floyd(last - first, int(budget[row]), key)
        )


def test_trimming_in_closed_form_equals_removing_one_at_a_time():
    a, b, room = (x.ravel() for x in np.meshgrid(range(1, 25), range(25), (2, 5, 6, 13)))
    for x, y, r, lost_a, lost_b in zip(a, b, room, *trims_of(a, b, room), strict=True):
        left = [x, y]
        while sum(left) > r:
            left[0 if left[0] > left[1] else 1] -= 1
        assert [x - lost_a, y - lost_b] == left


def trims_of(a, b, room):
    lost = np.array(
        [[int(v[0]) for v in trims(a[i : i + 1], b[i : i + 1], int(room[i]))] for i in range(len(a))]
    )
    return lost.T


def test_the_budget_rounds_half_to_even_and_counts_special_tokens():
    lengths = np.array([1, 3, 10, 30, 50, 128, 128, 512])
    for share, most in ((0.15, 20), (0.25, 77), (0.5, 5)):
        assert budgets(lengths, share, most).tolist() == [
            min(most, max(1, round(n * share))) for n in lengths.tolist()
        ]
    assert budgets(np.array([10, 30, 50]), 0.15, 99).tolist() == [2, 4, 8]  # 1.5, 4.5, 7.5


# --- the same bits however it is cut ---


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_prepared_ahead_equals_on_the_fly_for_any_subset_of_documents(objective):
    shard = shard_of(ODD + documents(60, seed=4))
    ahead = objective.corrupt(shard, MARKS, seed=5, pass_number=1)
    apart = [
        objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array([i]))
        for i in range(len(ODD) + 60)
    ]
    for name in ("tokens", "segment_b", "target_positions", "target_tokens", "pair_label", "instance_id"):
        assert np.array_equal(np.concatenate([getattr(one, name) for one in apart]), getattr(ahead, name)), (
            name
        )
    some = np.array([70, 3, 8, 8, 20])
    backwards = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=some)
    assert instance_rows(backwards) == [row for i in some for row in instance_rows(apart[i])]


@pytest.mark.parametrize("block", [1, 300, 10_000])
@pytest.mark.parametrize("objective", OBJECTIVES[:3])
def test_blocks_are_not_visible(objective, block, monkeypatch):
    shard = shard_of(documents(100, seed=5))
    whole = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", block)
    assert objective.corrupt(shard, MARKS, seed=0, pass_number=0).same_as(whole)


def test_seed_and_pass_change_everything_and_the_shard_dtype_is_kept():
    shard = shard_of(documents(200), vocab_size=100_000, dtype=np.uint32)
    marks = Marks(vocab_size=100_000, cls_id=2, sep_id=3, mask_id=4)
    made = [BertObjective().corrupt(shard, marks, seed=s, pass_number=p) for s, p in ((0, 0), (0, 1), (1, 0))]
    assert made[0].tokens.dtype == made[0].target_tokens.dtype == np.uint32
    assert made[0].target_tokens.max() > 65_536
    assert len({one.tokens.tobytes() for one in made}) == 3
    assert not set(made[0].instance_id) & set(made[1].instance_id)
    assert len(set(made[0].instance_id)) == len(made[0])


def test_the_shard_is_not_changed():
    shard = shard_of(documents(50))
    before = shard.tokens_T.copy()
    for array in vars(shard).values():
        array.flags.writeable = False
    for objective in OBJECTIVES:
        objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    assert np.array_equal(shard.tokens_T, before)


# --- what an instance looks like ---


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_are_well_formed_and_targets_restore_the_text(objective):
    shard = shard_of(ODD + documents(300, seed=6))
    made = objective.corrupt(shard, MARKS, seed=3, pass_number=0)
    restored = made.tokens.copy()
    hidden = np.diff(made.target_offsets)
    restored[made.target_positions + np.repeat(made.offsets[:-1], hidden)] = made.target_tokens
    lengths = np.diff(made.offsets)
    assert lengths.max() <= objective.max_seq_len
    assert np.all(made.tokens[made.offsets[:-1]] == MARKS.cls_id)
    assert np.all(made.tokens[made.offsets[1:] - 1] == MARKS.sep_id)
    assert np.all(hidden <= budgets(lengths, objective.masked_share, objective.max_predictions))
    assert np.all(hidden >= 0 if objective.whole_word else hidden >= 1)
    special = np.zeros(len(made.tokens), bool)
    special[made.offsets[:-1]] = special[made.offsets[1:] - 1] = True
    if objective.next_sentence:
        assert np.all((made.segment_b > 2) & (made.segment_b < lengths))
        special[made.offsets[:-1] + made.segment_b - 1] = True
        assert np.all(made.tokens[made.offsets[:-1] + made.segment_b - 1] == MARKS.sep_id)
    else:
        assert np.array_equal(made.segment_b, lengths)
        assert (made.pair_label == NO_PAIR).all()
    targets = np.zeros(len(made.tokens), bool)
    targets[made.target_positions + np.repeat(made.offsets[:-1], hidden)] = True
    assert not (targets & special).any()
    assert (restored[~special] >= 5).all()  # nothing but text outside the special places
    for row in range(0, len(made), 97):
        assert np.all(
            np.diff(made.target_positions[made.target_offsets[row] : made.target_offsets[row + 1]]) > 0
        )


def test_every_sentence_of_a_document_is_read_unless_trimmed_and_lengths_reach_the_target():
    shard = shard_of([[10] * 50 for _ in range(40)])
    stream = Stream.of(0, "segments", 0, shard.document_ids)
    found = make_pairs(shard, np.arange(40), stream=stream, room=125, short_share=0.0)
    whole = found.a_length + np.where(found.label, 0, found.b_length)
    covered = np.bincount(found.document, weights=whole)
    trimmed = found.a_length + found.b_length == 125
    assert np.all(covered <= 500)
    assert np.all(covered >= 500 - 5 * np.bincount(found.document, trimmed))
    # what follows B is the next chunk's A; what follows a random B is what was put back
    same = found.document[1:] == found.document[:-1]
    assert np.all(found.a_start[1:][same] >= (found.a_start + found.a_length)[:-1][same])


def test_empty_documents_give_nothing_and_tiny_ones_one_instance_each():
    assert len(BertObjective().corrupt(shard_of([[], [], []]), MARKS, seed=0, pass_number=0)) == 0
    assert len(BertObjective().corrupt(shard_of([]), MARKS, seed=0, pass_number=0)) == 0
    shard = shard_of([[], [1], [], [1]])
    pair = BertObjective(whole_word=True).corrupt(shard, MARKS, seed=0, pass_number=0)
    single = BertObjective(next_sentence=False).corrupt(shard, MARKS, seed=0, pass_number=0)
    assert np.diff(pair.offsets).tolist() == [5, 5]
    assert np.diff(single.offsets).tolist() == [3, 3]
    assert pair.pair_label.tolist() == [1, 1]
    assert np.diff(pair.target_offsets).tolist() == np.diff(single.target_offsets).tolist() == [1, 1]


def test_a_lone_document_lends_to_itself_and_is_still_called_random():
    shard = shard_of([[5, 6]])
    made = [BertObjective().corrupt(shard, MARKS, seed=s, pass_number=0) for s in range(20)]
    assert any(one.pair_label.any() for one in made)
    alone = BertObjective().corrupt(shard_of([[9]]), MARKS, seed=0, pass_number=0)
    assert alone.pair_label.tolist() == [1]
    assert np.diff(alone.offsets).tolist() == [9 + 9 + 3]


def test_a_word_cut_by_truncation_is_not_glued_to_the_other_segment():
    """Every piece of the shard continues a word, so only the guard separates A from B."""
    shard = shard_of([[4, 4]] * 30)
    shard.word_start_T[:] = False
    objective = BertObjective(
        whole_word=True, masked_share=0.4, max_predictions=4, short_share=0.0, max_seq_len=12
    )
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    a_length = made.segment_b - 2
    b_length = np.diff(made.offsets) - a_length - 3
    for row in range(len(made)):
        where = made.target_positions[made.target_offsets[row] : made.target_offsets[row + 1]].tolist()
        a, b = (
            list(range(1, 1 + a_length[row])),
            list(range(made.segment_b[row], made.segment_b[row] + b_length[row])),
        )
        assert where in (a, b, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_seq_len": 4}, "max_seq_len is 4"),
        ({"masked_share": 0.0}, "masked_share is 0.0"),
        ({"masked_share": 15}, "masked_share is 15"),
        ({"short_share": 1.5}, "short_share is 1.5"),
        ({"max_predictions": 0}, "max_predictions is 0"),
    ],
)
def test_bad_values_are_refused_with_the_rule(fields, message):
    with pytest.raises(ValueError, match=message):
        BertObjective(**fields)
