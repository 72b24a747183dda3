"""RoBERTa, ALBERT and SpanBERT have the published statistics, and those of the plain loops on another
generator.
"""

from dataclasses import replace
from fractions import Fraction
from itertools import groupby, pairwise

import numpy as np
import pytest

from corpus.corruption.albert import AlbertObjective, albert_published
from corpus.corruption.bert import BertObjective, bert_published, bert_whole_word_published
from corpus.corruption.ngrams import choose_ngrams, ngram_shares, room_for
from corpus.corruption.packing import DocSentences
from corpus.corruption.replacement import AnyToken, OrdinaryToken, Replacement, TokenOfTheText
from corpus.corruption.roberta import RobertaObjective, hide_evenly, roberta_published
from corpus.corruption.shares import LinearShare, SharePerPass, share_at
from corpus.corruption.spanbert import SpanBertObjective, spanbert_published
from corpus.corruption.spans import choose_spans, span_shares
from tests.corpus import reference_noise as plain
from tests.corpus.chance import plausible_counts, plausible_share, same_distribution
from tests.corpus.in_memory import MARKS, documents, shard_of
from tests.corpus.rows_kit import keys, rows_of_lengths

SHARD = shard_of(documents(1200, seed=1), seed=1)


def corrupt(objective, shard=SHARD, marks=MARKS, pass_number=0):
    return objective.corrupt(shard, marks, seed=2024, pass_number=pass_number)


def read_at_targets(made):
    return made.tokens[made.target_positions + np.repeat(made.offsets[:-1], np.diff(made.target_offsets))]


def runs_of(made):
    """(first, length, row) of runs of neighbouring targets."""
    row = np.repeat(np.arange(len(made)), np.diff(made.target_offsets))
    begins = np.flatnonzero(
        (np.diff(made.target_positions, prepend=-9) != 1) | (np.diff(row, prepend=-1) > 0)
    )
    return begins, np.diff(begins, append=len(row)), row[begins]


def runs(flags):
    return [len(list(group)) for hidden, group in groupby(flags) if hidden]


# --- how much ---


def test_roberta_hides_exactly_its_share_in_the_mean_and_never_more_than_one_off():
    for objective in (RobertaObjective(max_seq_len=64), replace(roberta_published(), max_seq_len=64)):
        made = corrupt(objective)
        n = made.lengths()
        if not objective.mask_special:
            special = np.isin(made.tokens, [MARKS.cls_id, MARKS.sep_id])
            n = n - np.add.reduceat(special.astype(int), made.offsets[:-1])
        hidden = np.diff(made.target_offsets)
        assert ((hidden == np.floor(0.15 * n)) | (hidden == np.floor(0.15 * n) + 1)).all()
        part = 0.15 * n % 1
        assert abs((hidden - 0.15 * n).sum()) < 4 * np.sqrt((part * (1 - part)).sum())


def test_roberta_hides_special_tokens_as_often_as_others_only_where_asked_to():
    made = corrupt(replace(roberta_published(), max_seq_len=32))
    special = (made.target_tokens == MARKS.cls_id) | (made.target_tokens == MARKS.sep_id)
    hits = np.isin(made.target_positions, [0]).sum()
    assert plausible_share(int(hits), len(made), len(made.target_tokens) / len(made.tokens))
    assert special.sum() > 1.5 * hits
    assert not np.isin(corrupt(RobertaObjective(max_seq_len=32)).target_tokens, [2, 3]).any()


def test_roberta_takes_words_of_any_length_equally_often_and_whole():
    rows = rows_of_lengths([40], 4000)
    bounds = [*np.flatnonzero(rows.word_start_C()[:40]).tolist(), 40]
    targets = hide_evenly(rows, share=0.15, whole_word=True, mask_special=False, replacement=Replacement())
    counts = np.bincount(targets.positions_M - 1, minlength=40)
    words = len(bounds) - 1
    assert max(np.diff(bounds)) > 1
    for a, b in pairwise(bounds):
        assert len(set(counts[a:b])) == 1
        assert plausible_share(int(counts[a]), 4000, 0.15)
    assert plausible_share(int(sum(counts[a] for a in bounds[:-1])), 4000 * words, 0.15)


def test_spanbert_hides_its_share_rounded_up_and_completes_words_only_where_asked_to():
    cut, whole = (corrupt(replace(spanbert_published(), max_seq_len=64, cut_words=c)) for c in (True, False))
    content = cut.lengths() - 2
    budget = np.ceil(0.15 * content)
    assert np.array_equal(np.diff(cut.target_offsets), budget)
    assert (np.diff(whole.target_offsets) >= budget).all()
    assert cut_words_of(whole) == 0
    share = cut_words_of(cut) / len(
        cut
    )  # with 30 % of pieces continuing a word, as often is the last span cut
    assert 0.15 < share < 0.35


def cut_words_of(made):
    """Rows in which a word is hidden in part."""
    starts = np.ones(len(made.tokens), bool)
    source = {}
    hidden = np.zeros(len(made.tokens), bool)
    hidden[made.target_positions + np.repeat(made.offsets[:-1], np.diff(made.target_offsets))] = True
    restored = made.tokens.copy()
    restored[hidden] = made.target_tokens
    rows = DocSentences(drop_long=True).pack(SHARD, np.arange(len(SHARD.document_ids)), 62)
    for row in range(len(made)):
        begin, length, at = rows.start_K[row], rows.length_K[row], made.offsets[row] + 1
        assert restored[at : at + length].tolist() == SHARD.tokens_T[begin : begin + length].tolist()
        starts[at + 1 : at + length] = SHARD.word_start_T[begin + 1 : begin + length]
        partly = ~starts[at : at + length] & (hidden[at : at + length] != hidden[at - 1 : at + length - 1])
        source[row] = bool(partly.any())
    return sum(source.values())


def test_albert_fills_its_budget_like_the_plain_loop_and_never_cuts_a_word():
    made = corrupt(replace(albert_published(), max_seq_len=128, max_predictions=20))
    hidden, length = np.diff(made.target_offsets), made.lengths()
    budget = np.clip(np.rint(0.15 * length), 1, 20)
    assert (hidden <= budget).all()
    assert 0.995 < hidden.sum() / budget.sum() <= 1
    rows = rows_of_lengths([60], 1500)
    begins = [True, *rows.word_start_C()[:60].tolist(), True]
    special = [True, *[False] * 60, True]
    draws = plain.RandomNoise(0, 4, range(8000))
    args = (0.15, 20, 3, True, True, False, draws)
    loop = [plain.hide_ngrams([9] * 62, special, begins, *args)[0] for _ in range(1500)]
    targets = AlbertObjective(max_predictions=20).noise(rows, share=0.15)
    ours = np.split(targets.positions_M, targets.offsets[1:-1])
    assert {len(p) for p in ours} == {len(p) for p in loop} == {9}
    places = np.bincount(targets.positions_M, minlength=61)[1:61]
    theirs = np.bincount(np.concatenate(loop), minlength=61)[1:61]
    first = [i for i in range(60) if begins[1 + i]]
    assert same_distribution(np.repeat(np.arange(60), places)[::7], np.repeat(np.arange(60), theirs)[::7])
    assert all(places[i] == places[i - 1] for i in range(1, 60) if i not in first)


# --- how long ---


def test_ngrams_have_the_published_shares():
    assert ngram_shares(3, True).tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert ngram_shares(3, False).tolist() == pytest.approx([2 / 11, 3 / 11, 6 / 11])
    # 400 words of one token and a budget of 3: the first n-gram is never shortened and two hardly ever touch
    rows, words = 4000, 400
    units = np.full(rows, words)
    taken, heads = choose_ngrams(
        np.arange(rows * words + 1),
        units,
        np.full(rows, 3),
        room_for(3, units),
        ngram_shares(3, True),
        keys(rows),
    )
    assert taken.sum() == 3 * rows
    kinds = np.bincount(heads.reshape(rows, words).sum(1), minlength=4)
    one, two, three = Fraction(6, 11), Fraction(3, 11), Fraction(2, 11)
    expected = [three, two + one * (1 - one), one * one]  # 3; 2 + 1 and 1 + 2, shortened; 1 + 1 + 1
    assert plausible_counts(kinds[1:], [float(e) for e in expected])


def test_no_ngram_crosses_into_the_next_segment_unless_asked_to():
    segments, rows = np.full(4000, 3), np.full(2000, 6)
    for room, crossing in ((room_for(3, segments), False), (room_for(3, rows), True)):
        taken, heads = choose_ngrams(
            np.arange(12001), rows, np.full(2000, 3), room, ngram_shares(3, True), keys(2000)
        )
        begins_b = np.arange(3, 12000, 6)
        assert taken[begins_b].sum() > 500
        assert (taken & ~heads)[begins_b].any() == crossing
        assert not (taken & ~heads)[::6].any()  # nor into the next row, ever
    rows = rows_of_lengths([3, 3], 300)  # and that is what the objective's field does
    crossed = [
        AlbertObjective(whole_word=False, cross_segments=c).noise(rows, share=0.3).positions_M.tolist()
        for c in (False, True)
    ]
    assert crossed[0] != crossed[1]


def test_span_lengths_are_geometric_scaled_and_have_the_published_mean():
    shares = span_shares(0.2, 10)
    assert shares.sum() == pytest.approx(1)
    assert (shares[1:] / shares[:-1]).tolist() == pytest.approx([0.8] * 9)
    assert round(float(shares @ np.arange(1, 11)), 1) == 3.8


def test_spans_are_those_of_the_plain_loop():
    rows, count = rows_of_lengths([120], 1500), 1500
    start_C = rows.word_start_C()
    begins = [True, *start_C[:120].tolist(), True]
    special = [True, *[False] * 120, True]
    for cut_words in (True, False):
        draws = plain.RandomNoise(1, 4, range(8000))
        args = (0.15, 0.2, 10, cut_words, True, draws)
        loop = [plain.hide_spans([9] * 122, special, begins, *args)[0] for _ in range(count)]
        flags = choose_spans(
            start_C,
            np.full(count, 120),
            np.full(count, 18),
            span_shares(0.2, 10),
            keys(count),
            cut_words=cut_words,
        ).reshape(count, 120)
        theirs = np.zeros((count, 120), bool)
        for row, positions in enumerate(loop):
            theirs[row, np.array(positions) - 1] = True
        ours_runs, their_runs = ([n for row in x for n in runs(row)] for x in (flags, theirs))
        assert same_distribution(ours_runs, their_runs)
        assert same_distribution([len(runs(r)) for r in flags], [len(runs(r)) for r in theirs])
        assert set(flags.sum(1)) == set(theirs.sum(1))
        assert same_distribution(np.nonzero(flags)[1][::9], np.nonzero(theirs)[1][::9])


# --- what is read instead ---


def test_spans_and_words_are_replaced_as_one_and_pieces_one_by_one():
    whole = SpanBertObjective(max_seq_len=128, replacement=Replacement(other=AnyToken(), together=True))
    made = corrupt(whole)
    begins, lengths, _ = runs_of(made)
    read = read_at_targets(made)
    masked, kept = read == MARKS.mask_id, read == made.target_tokens
    for flags, share in ((masked, 0.8), (kept, 0.1)):
        in_span = np.add.reduceat(flags.astype(int), begins)
        assert ((in_span == lengths) | (in_span <= 1)).all()  # a random token may be the same one by chance
        assert plausible_share(int((in_span == lengths)[lengths > 1].sum()), int((lengths > 1).sum()), share)
    pieces = corrupt(replace(whole, replacement=Replacement()))
    read = read_at_targets(pieces)
    total = len(read)
    assert plausible_share(int((read == MARKS.mask_id).sum()), total, 0.8)
    assert plausible_share(int((read == pieces.target_tokens).sum()), total, 0.1)
    begins, lengths, _ = runs_of(pieces)
    in_span = np.add.reduceat((read == MARKS.mask_id).astype(int), begins)
    assert plausible_share(int((in_span == 4)[lengths == 4].sum()), int((lengths == 4).sum()), 0.8**4)


def test_bert_can_throw_once_a_word():
    together = Replacement(together=True)
    made = corrupt(replace(bert_whole_word_published(), next_sentence=False, replacement=together))
    same = corrupt(replace(bert_whole_word_published(), next_sentence=False))
    assert np.array_equal(
        made.target_positions, same.target_positions
    )  # the same words, only the throw differs
    shard = shard_of([[2] * 40] * 400)
    shard.word_start_T[1::2] = False
    pairs = corrupt(BertObjective(whole_word=True, next_sentence=False, replacement=together), shard)
    masked = (read_at_targets(pairs) == MARKS.mask_id).reshape(-1, 2)
    assert (masked[:, 0] == masked[:, 1]).all()
    assert plausible_share(int(masked[:, 0].sum()), len(masked), 0.8)


def test_random_tokens_come_from_where_they_should():
    marks = replace(MARKS, vocab_size=40, special_ids=(0, 1, 2, 3, 4, 39))
    shard = shard_of(documents(900, seed=2), vocab_size=12)  # tokens 5 ... 11, and to be skewed
    shard.tokens_T[shard.tokens_T > 8] = 5
    counts = {}
    for other in (AnyToken(), OrdinaryToken(), TokenOfTheText()):
        everything = Replacement(masked=0, kept=0, other=other)
        made = corrupt(SpanBertObjective(max_seq_len=64, replacement=everything), shard, marks)
        counts[type(other)] = np.bincount(read_at_targets(made), minlength=40)
    assert plausible_counts(counts[AnyToken], np.ones(40))
    assert plausible_counts(counts[OrdinaryToken][5:39], np.ones(34))
    assert counts[OrdinaryToken][[0, 1, 2, 3, 4, 39]].sum() == 0
    text = np.bincount(shard.tokens_T, minlength=40)
    assert plausible_counts(counts[TokenOfTheText][5:9], text[5:9])
    assert counts[TokenOfTheText][9:].sum() == 0


# --- sentence order ---


def test_half_of_the_pairs_are_swapped_and_both_segments_follow_each_other():
    shard = shard_of([[10, 10, 10, 10]] * 3000)
    made = corrupt(AlbertObjective(max_seq_len=64, short_share=0.0, pair_lone=False), shard)
    assert len(made) == 3000
    assert plausible_share(int(made.pair_label.sum()), 3000, 0.5)
    restored = made.tokens.copy()
    restored[made.target_positions + np.repeat(made.offsets[:-1], np.diff(made.target_offsets))] = (
        made.target_tokens
    )
    cuts = []
    for row in range(3000):
        tokens = restored[made.offsets[row] : made.offsets[row + 1]].tolist()
        a, b = tokens[1 : made.segment_b[row] - 1], tokens[made.segment_b[row] : -1]
        first, second = (b, a) if made.pair_label[row] else (a, b)
        assert first + second == shard.tokens_T[40 * row : 40 * row + 40].tolist()
        cuts.append(len(first) // 10)
    assert plausible_counts(np.bincount(cuts)[1:4], np.ones(3))


def test_a_one_sentence_chunk_is_paired_with_another_document_or_left_out():
    shard = shard_of([[30]] * 300 + [[10, 10]] * 300)
    code = corrupt(AlbertObjective(max_seq_len=64, short_share=0.0), shard)
    lone = code.document < 300
    assert lone.sum() == 300
    assert code.pair_label[lone].all()
    assert plausible_share(int(code.pair_label[~lone].sum()), 300, 0.5)
    paper = corrupt(AlbertObjective(max_seq_len=64, short_share=0.0, pair_lone=False), shard)
    assert paper.document.min() == 300
    assert np.array_equal(paper.instance_id, code.instance_id[~lone])
    assert np.array_equal(paper.pair_label, code.pair_label[~lone])


# --- rates ---


def test_a_schedule_gives_each_pass_its_share():
    line = LinearShare(first=0.3, last=0.15, passes=4)
    assert [round(line.at(p), 4) for p in range(6)] == [0.3, 0.25, 0.2, 0.15, 0.15, 0.15]
    steps = SharePerPass(shares=(0.4, 0.2))
    assert [steps.at(p) for p in range(4)] == [0.4, 0.2, 0.2, 0.2]
    assert share_at(0.15, 7) == 0.15
    for objective in (
        BertObjective(max_predictions=99, masked_share=line),
        RobertaObjective(max_seq_len=128, masked_share=line),
        AlbertObjective(max_seq_len=128, masked_share=line),
        SpanBertObjective(max_seq_len=128, masked_share=line),
    ):
        for number in (0, 1, 3, 9):
            made = corrupt(objective, pass_number=number)
            assert len(made.target_tokens) / len(made.tokens) == pytest.approx(line.at(number), rel=0.08)
            alone = corrupt(replace(objective, masked_share=line.at(number)), pass_number=number)
            assert alone.same_as(made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearShare(first=0.0), r"LinearShare.first is 0.0"),
        (lambda: LinearShare(last=1.5), r"LinearShare.last is 1.5"),
        (lambda: LinearShare(passes=1), r"LinearShare.passes is 1"),
        (lambda: SharePerPass(shares=()), r"SharePerPass.shares is empty"),
        (lambda: SharePerPass(shares=(0.2, 2.0)), r"SharePerPass.shares\[1\] is 2.0"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_presets_hold_the_published_values():
    assert bert_published() == BertObjective()
    assert bert_published(512) == BertObjective(max_seq_len=512, max_predictions=77)
    assert bert_whole_word_published(512) == replace(bert_published(512), whole_word=True)
    assert roberta_published().mask_special
    assert albert_published().max_predictions == 77
    assert spanbert_published().packing == DocSentences(drop_long=True)
    assert all(
        o.masked_share == 0.15 for o in (roberta_published(), albert_published(), spanbert_published())
    )
    assert all(o.max_seq_len == 512 for o in (roberta_published(), albert_published(), spanbert_published()))
