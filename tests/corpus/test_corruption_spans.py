"""RoBERTa, ALBERT and SpanBERT: equal to the plain loops given the same draws, and the same bits however they
are cut.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption import rows as rows_module
from corpus.corruption.albert import AlbertObjective, albert_published
from corpus.corruption.masking import Marks
from corpus.corruption.packing import DocSentences, FullSentences
from corpus.corruption.replacement import AnyToken, OrdinaryToken, Replacement, TokenOfTheText
from corpus.corruption.roberta import RobertaObjective, roberta_published
from corpus.corruption.spanbert import SpanBertObjective, spanbert_published
from corpus.instance_kinds import NO_PAIR
from tests.corpus import reference_bert as bert
from tests.corpus import reference_noise as plain
from tests.corpus.in_memory import documents, shard_of
from tests.corpus.reference_rows import ordered_pairs, pack
from tests.corpus.rows_kit import instance_rows, targets_of, token_documents

MARKS = Marks(vocab_size=8000, cls_id=2, sep_id=3, mask_id=4, special_ids=(0, 1, 2, 3, 4, 7999))
ODD = [
    [],
    [1],
    [7],
    [3, 4],
    [],
    [500],
    [1, 1, 1],
    [200, 300, 2],
    [60] * 9,
    [1] * 150,
    [30, 31, 1],
    [30],
    [29],
    [61, 1],
]
WORDS = Replacement(together=True)
OBJECTIVES = [
    RobertaObjective(max_seq_len=32),
    replace(roberta_published(), max_seq_len=64),
    RobertaObjective(max_seq_len=32, whole_word=True, packing=DocSentences(), masked_share=0.5),
    RobertaObjective(max_seq_len=16, whole_word=True, mask_special=True, packing=FullSentences()),
    RobertaObjective(max_seq_len=3, masked_share=0.99, replacement=WORDS),
    AlbertObjective(max_seq_len=64, max_predictions=10),
    replace(albert_published(), max_seq_len=32, max_predictions=9, short_share=0.5, replacement=WORDS),
    AlbertObjective(
        max_seq_len=48, max_predictions=30, masked_share=0.6, favour_short=False, pair_lone=False
    ),
    AlbertObjective(max_seq_len=16, longest_ngram=5, whole_word=False, cross_segments=True),
    AlbertObjective(max_seq_len=5, masked_share=0.9, longest_ngram=1),
    replace(spanbert_published(), max_seq_len=64),
    SpanBertObjective(max_seq_len=32, cut_words=False, packing=DocSentences(), masked_share=0.4),
    SpanBertObjective(max_seq_len=32, stop_share=0.5, longest_span=3, replacement=Replacement()),
    SpanBertObjective(max_seq_len=3, masked_share=0.9, packing=DocSentences()),
]


def plain_rows(objective, shard, seed, pass_number):
    texts = token_documents(shard)
    if not isinstance(objective, AlbertObjective):
        packing = objective.packing
        cross = isinstance(packing, FullSentences)
        return pack(texts, objective.max_seq_len - 2, cross, not cross and packing.drop_long)
    rows = []
    for own, digest in enumerate(shard.document_ids):
        words = [int(w) for w in digest.view("<u8")]
        draws = bert.KeyedSegments(bert.key_of(seed, "segments", pass_number, *words))
        room = objective.max_seq_len - 3
        rows += ordered_pairs(texts, own, room, objective.short_share, objective.pair_lone, draws)
    return rows


def plain_noise(objective, row, special, begins, draws):
    together = objective.replacement.together
    share = objective.masked_share
    if isinstance(objective, RobertaObjective):
        begins = begins if objective.whole_word else None
        return plain.hide_evenly(row, special, begins, share, objective.mask_special, together, draws)
    if isinstance(objective, SpanBertObjective):
        spans = objective.stop_share, objective.longest_span, objective.cut_words
        return plain.hide_spans(row, special, begins, share, *spans, together, draws)
    grams = objective.longest_ngram, objective.favour_short, objective.cross_segments
    begins = begins if objective.whole_word else None
    return plain.hide_ngrams(row, special, begins, share, objective.max_predictions, *grams, together, draws)


def others_of(objective, shard):
    return {
        AnyToken: range(MARKS.vocab_size),
        OrdinaryToken: [t for t in range(MARKS.vocab_size) if t not in MARKS.special_ids],
        TokenOfTheText: shard.tokens_T,
    }[type(objective.replacement.other)]


def with_words(shard, share):
    """The same shard with fewer beginnings of words, so longer ones."""
    stays = np.random.default_rng(0).random(len(shard.word_start_T)) < share
    return replace(shard, word_start_T=shard.word_start_T & stays)


SHARDS = {
    "odd": shard_of(ODD),
    "text": shard_of(documents(40, seed=3, mean_sentences=5, mean_length=9)),
    "long words": with_words(shard_of(documents(30, seed=6, mean_sentences=5)), 0.3),
    "one long word in many short ones": with_words(shard_of([[30]] * 20), 0.97),
    "no word begins": with_words(shard_of([[9, 7], [40]]), 0.0),
    "one sentence": shard_of([[40]]),
    "one token": shard_of([[1]]),
}


@pytest.mark.parametrize("text", SHARDS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_instances_equal_the_plain_loops_given_the_same_draws(objective, text):
    shard = SHARDS[text]
    made = objective.corrupt(shard, MARKS, seed=11, pass_number=2)
    others, known = others_of(objective, shard), objective.replacement
    expected = plain_rows(objective, shard, 11, 2)
    assert len(expected) == len(made)
    tokens = instance_rows(made)
    for number, want in enumerate(expected):
        words = [int(w) for w in shard.document_ids[want.document].view("<u8")]
        identity = bert.fold(bert.key_of(0, "instance", 2, *words), want.chunk)
        row, special, begins = [MARKS.cls_id], [True], [True]
        for segment in want.segments:
            row += [int(shard.tokens_T[place]) for place in segment] + [MARKS.sep_id]
            special += [False] * len(segment) + [True]
            begins += [True, *(bool(shard.word_start_T[place]) for place in segment[1:]), True]
        key = bert.key_of(11, "noise", 2, identity)
        draws = plain.KeyedNoise(key, MARKS.mask_id, others, known.masked, known.kept)
        positions, read = plain_noise(objective, row, special, begins, draws)
        targets = [row[position] for position in positions]
        for position, token in zip(positions, read, strict=True):
            row[position] = token
        assert made.instance_id[number] == identity
        assert made.document[number] == want.document
        assert tokens[number] == row
        assert targets_of(made, number) == (positions, targets)
        paired = want.label is not None
        assert made.pair_label[number] == (want.label if paired else NO_PAIR)
        assert made.segment_b[number] == (len(want.segments[0]) + 2 if paired else len(row))


# --- the same bits however it is cut ---


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_prepared_ahead_equals_on_the_fly_for_any_subset_of_documents(objective):
    lengths = ODD + documents(20, seed=4, mean_sentences=4, mean_length=12)
    shard = shard_of(lengths)
    ahead = objective.corrupt(shard, MARKS, seed=5, pass_number=1)
    apart = [
        objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array([i]))
        for i in range(len(lengths))
    ]
    for name in ("tokens", "segment_b", "target_positions", "target_tokens", "pair_label", "instance_id"):
        together = np.concatenate([getattr(one, name) for one in apart])
        assert np.array_equal(together, getattr(ahead, name)), name
    assert [int(d) for one in apart for d in one.document] == ahead.document.tolist()
    some = np.array([30, 3, 8, 8, 20])
    backwards = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=some)
    assert instance_rows(backwards) == [row for i in some for row in instance_rows(apart[i])]


@pytest.mark.parametrize("block", [1, 300])
@pytest.mark.parametrize("objective", [OBJECTIVES[3], OBJECTIVES[5], OBJECTIVES[10]])
def test_blocks_are_not_visible(objective, block, monkeypatch):
    shard = shard_of(documents(30, seed=5))
    whole = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", block)
    assert objective.corrupt(shard, MARKS, seed=0, pass_number=0).same_as(whole)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_shard_is_not_changed_its_type_is_kept_and_every_pass_draws_anew(objective):
    shard = shard_of(documents(60, seed=2), vocab_size=100_000, dtype=np.uint32)
    before = shard.tokens_T.copy()
    for array in vars(shard).values():
        array.flags.writeable = False
    marks = replace(MARKS, vocab_size=100_000)
    made = [objective.corrupt(shard, marks, seed=s, pass_number=p) for s, p in ((0, 0), (0, 1), (1, 0))]
    assert np.array_equal(shard.tokens_T, before)
    assert made[0].tokens.dtype == made[0].target_tokens.dtype == np.uint32
    assert made[0].target_tokens.max() > 65_536
    assert len({one.tokens.tobytes() for one in made}) == 3
    assert len(set(made[0].instance_id)) == len(made[0]) > 0
    assert not set(made[0].instance_id) & set(made[1].instance_id)


# --- what an instance looks like ---


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), max_size=6), max_size=8),
    st.sampled_from(OBJECTIVES),
    st.integers(0, 1000),
)
def test_rows_fit_are_well_formed_and_targets_restore_the_text(lengths, objective, seed):
    shard = shard_of(lengths, seed=seed)
    made = objective.corrupt(shard, MARKS, seed=seed, pass_number=0)
    hidden = np.diff(made.target_offsets)
    restored = made.tokens.copy()
    restored[made.target_positions + np.repeat(made.offsets[:-1], hidden)] = made.target_tokens
    assert made.lengths().max(initial=0) <= objective.max_seq_len
    assert (hidden <= made.lengths()).all()
    text = [t for row in token_documents(shard) for s in row for t in s]
    seen = 0
    for row, (begin, end) in enumerate(pairwise(made.offsets)):
        tokens = restored[begin:end]
        assert tokens[0] == MARKS.cls_id
        assert tokens[-1] == MARKS.sep_id
        positions, _ = targets_of(made, row)
        assert positions == sorted(set(positions))
        special = np.flatnonzero(tokens < 5)
        seen += len(tokens) - len(special)
        if not getattr(objective, "mask_special", False):
            assert not set(positions) & set(special.tolist())
    if isinstance(objective, RobertaObjective):
        assert seen == len(text)  # nothing is lost, nothing read twice
        assert restored[restored >= 5].tolist() == shard.tokens_T.tolist()


def test_empty_documents_give_nothing_and_a_token_gives_a_row():
    for objective in OBJECTIVES:
        assert len(objective.corrupt(shard_of([[], []]), MARKS, seed=0, pass_number=0)) == 0
        assert len(objective.corrupt(shard_of([]), MARKS, seed=0, pass_number=0)) == 0
        one = objective.corrupt(shard_of([[], [1], []]), MARKS, seed=0, pass_number=0)
        paired = isinstance(objective, AlbertObjective)
        assert len(one) == (objective.pair_lone if paired else 1)
        if len(one):
            assert len(one.tokens) == (5 if paired else 3)


def test_a_full_row_crosses_borders_with_one_separator_and_belongs_to_where_it_begins():
    shard = shard_of([[4, 2], [], [3], [1, 6], [2]])
    made = RobertaObjective(max_seq_len=14).corrupt(shard, MARKS, seed=0, pass_number=0)
    # 4 2 | 3 | 1 are 10 tokens and two separators, 12; then 6 | 2
    assert np.diff(made.offsets).tolist() == [14, 11]
    assert made.document.tolist() == [0, 3]
    ends = [np.flatnonzero(np.array(row) == MARKS.sep_id).tolist() for row in instance_rows(made)]
    assert ends == [[7, 11, 13], [7, 10]]
    alone = RobertaObjective(max_seq_len=14, packing=DocSentences())
    assert np.diff(alone.corrupt(shard, MARKS, seed=0, pass_number=0).offsets).tolist() == [8, 5, 9, 4]


def test_long_sentences_are_cut_by_roberta_and_left_out_by_spanbert_without_joining_what_is_around():
    shard = shard_of([[2, 9, 3, 20, 1]])
    roberta = RobertaObjective(max_seq_len=10, packing=DocSentences())
    lengths = np.diff(roberta.corrupt(shard, MARKS, seed=0, pass_number=0).offsets) - 2
    assert lengths.tolist() == [2, 8, 1 + 3, 8, 8, 4 + 1]
    spanbert = replace(spanbert_published(), max_seq_len=10)
    assert np.diff(spanbert.corrupt(shard, MARKS, seed=0, pass_number=0).offsets).tolist() == [4, 5, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RobertaObjective(max_seq_len=2), "RobertaObjective.max_seq_len is 2"),
        (lambda: RobertaObjective(masked_share=1.0), "RobertaObjective.masked_share is 1.0"),
        (lambda: AlbertObjective(max_seq_len=4), "AlbertObjective.max_seq_len is 4"),
        (lambda: AlbertObjective(masked_share=0.0), "AlbertObjective.masked_share is 0.0"),
        (lambda: AlbertObjective(short_share=2.0), "short_share is 2.0"),
        (lambda: AlbertObjective(max_predictions=0), "max_predictions is 0"),
        (lambda: AlbertObjective(longest_ngram=0), "longest_ngram is 0"),
        (lambda: SpanBertObjective(max_seq_len=70_000), "SpanBertObjective.max_seq_len is 70000"),
        (lambda: SpanBertObjective(masked_share=-1), "SpanBertObjective.masked_share is -1"),
        (lambda: SpanBertObjective(stop_share=1.0), "stop_share is 1.0"),
        (lambda: SpanBertObjective(longest_span=0), "longest_span is 0"),
        (lambda: Replacement(masked=0.8, kept=0.3), "masked is 0.8 and kept 0.3"),
        (lambda: Replacement(masked=-0.1), "masked is -0.1"),
    ],
)
def test_bad_values_are_refused_with_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
