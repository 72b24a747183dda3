"""XLNet's rows, targets, orders and masks: equal to plain loops given the same draws, with the published statistics, and
the same bits whatever is asked for together.
"""

from itertools import pairwise

import numpy as np
import pytest

from corpus.corruption import permutation_rows
from corpus.corruption.partial_prediction import PieceSpans, TokenSpans, WordSpans, factorise, walk
from corpus.corruption.permutation import Documents, PermutationObjective, Streams, xlnet_published
from corpus.corruption.two_stream import masks, ranks, seen
from corpus.instance_kinds import NO_PAIR
from corpus.stream import Stream
from tests.corpus import reference_bert as keyed
from tests.corpus import reference_xlnet as plain
from tests.corpus.chance import plausible_counts, plausible_share
from tests.corpus.in_memory import MARKS, documents, shard_of

ODD = [[], [1], [7], [3, 4], [], [500], [1, 1, 1], [60] * 5, [1] * 40, [2, 1], []]
KINDS = {WordSpans: "words", PieceSpans: "pieces", TokenSpans: "tokens"}
OBJECTIVES = [
    PermutationObjective(),
    xlnet_published(document_end_id=6),
    PermutationObjective(
        max_seq_len=64, num_predict=11, perm_size=8, layout=Streams(reuse_len=20), spans=TokenSpans()
    ),
    PermutationObjective(max_seq_len=40, num_predict=17, layout=Streams(reuse_len=30, both_directions=False)),
    PermutationObjective(max_seq_len=48, num_predict=8, layout=Documents(short_share=0.3)),
]


def rows_of(made):
    """Each row as lists: tokens, segments, order, target positions, target tokens."""
    out = []
    for row in range(len(made)):
        here = slice(*made.offsets[row : row + 2])
        there = slice(*made.target_offsets[row : row + 2])
        columns = (
            made.tokens[here],
            made.segments[here],
            made.order[here],
            made.target_positions[there],
            made.target_tokens[there],
        )
        out.append([column.tolist() for column in columns])
    return out


# --- given the same draws: exactly the plain loops ---


def plain_stream(shard, end_id):
    """(token, begins a word, begins a sentence, document, place in it) of the whole stream."""
    tokens = []
    begins = set(shard.sentence_offsets.tolist())
    for document, (first, last) in enumerate(pairwise(shard.document_offsets.tolist())):
        run = [(int(shard.tokens_T[t]), bool(shard.word_start_T[t]), t in begins) for t in range(first, last)]
        if run and end_id is not None:
            run.append((end_id, True, False))
        tokens += [(*facts, document, place) for place, facts in enumerate(run)]
    return tokens


@pytest.mark.parametrize("objective", OBJECTIVES[:4])
def test_rows_equal_the_plain_loops_given_the_same_draws(objective):
    layout, length, kind = objective.layout, objective.max_seq_len, KINDS[type(objective.spans)]
    shard = shard_of(ODD + documents(40 if length > 100 else 6, seed=2))
    ours = rows_of(made := objective.corrupt(shard, MARKS, seed=11, pass_number=2))
    number = 0
    text = plain_stream(shard, layout.document_end_id)
    for backward in (False, True)[: 1 + layout.both_directions]:
        if backward:
            boundaries = {len(text) - i for i, token in enumerate(text) if token[2]}
            text = text[::-1]
        else:
            boundaries = {i for i, token in enumerate(text) if token[2] and i}
        for begin in range(0, len(text) - length + 1, layout.reuse_len):
            document, place = text[begin][3:]
            words = [int(w) for w in shard.document_ids[document].view("<u8")]
            part = 2 * place + backward
            pair = keyed.fold(keyed.key_of(11, "segments", 2, *words), part)
            (_, a_end), (b_begin, b_end), label = plain.split(
                boundaries,
                len(text),
                begin + layout.reuse_len,
                length - layout.reuse_len - 3,
                plain.KeyedPair(pair),
            )
            a, b = text[begin:a_end], text[b_begin:b_end]
            sep, cls = (MARKS.sep_id, True), (MARKS.cls_id, True)
            row = [t[:2] for t in a] + [sep] + [t[:2] for t in b] + [sep, cls]
            special = [len(a), length - 2, length - 1]
            identity = keyed.fold(keyed.key_of(0, "instance", 2, *words), part)
            second = objective.num_predict * (length - layout.reuse_len) // length
            targets, order = [], []
            for side, (first, last) in enumerate([(0, layout.reuse_len), (layout.reuse_len, length)]):
                draws = plain.KeyedPart(keyed.fold(keyed.key_of(11, "permutation", 2, identity), side))
                turn = slice(None, None, -1) if backward else slice(None)
                is_special = [position in special for position in range(first, last)]
                begins_word = [starts for _, starts in row[first:last]]
                goal = second if side else objective.num_predict - second
                taken = plain.sample(kind, begins_word[turn], is_special[turn], goal, draws)[turn]
                taken = [t and not s for t, s in zip(taken, is_special, strict=True)]
                order += plain.ranks(
                    [t or s for t, s in zip(taken, is_special, strict=True)], objective.perm_size, draws
                )
                targets += [first + i for i, is_taken in enumerate(taken) if is_taken]
            tokens = [token for token, _ in row]
            segments = [0] * (len(a) + 1) + [1] * (len(b) + 1) + [2]
            assert ours[number] == [tokens, segments, order, targets, [tokens[t] for t in targets]]
            assert made.instance_id[number] == identity
            assert made.document[number] == document
            facts = [made.backward, made.continues, made.pair_label, made.reuse_len]
            assert [column[number] for column in facts] == [backward, begin > 0, label, layout.reuse_len]
            number += 1
    assert number == len(made) > 1


def test_masks_equal_the_rule_written_out():
    objective = PermutationObjective(
        max_seq_len=40, num_predict=12, perm_size=9, layout=Streams(reuse_len=17)
    )
    made = objective.corrupt(shard_of(documents(12, seed=3)), MARKS, seed=1, pass_number=0)
    everything = ranks(made)
    for row in (0, 1, len(made) - 1):
        tokens, _, order, targets, _ = rows_of(made)[row]
        special = {i for i, token in enumerate(tokens) if token in (MARKS.sep_id, MARKS.cls_id)}
        expected = np.array(plain.perm_mask(order, set(targets), special, 17)) == 0
        content, query = masks(made, row)
        assert np.array_equal(query, expected)
        assert np.array_equal(content, expected | np.eye(40, dtype=bool))
        key, asking = (column[made.offsets[row] : made.offsets[row + 1]] for column in everything)
        assert np.array_equal(seen(asking, key), expected)  # one row's ranks do not depend on other rows
        assert not query[targets, targets].any()


# --- what is published ---


@pytest.fixture(scope="module")
def words():
    """A stream in which every token begins a word."""
    shard = shard_of(documents(900, seed=5), seed=5)
    shard.word_start_T[:] = True
    return shard


def test_num_predict_is_exact_and_special_tokens_are_never_predicted(words):
    for objective in (PermutationObjective(), PermutationObjective(spans=TokenSpans())):
        made = objective.corrupt(words, MARKS, seed=0, pass_number=0)
        assert (np.diff(made.target_offsets) == 85).all()
        assert len(made) > 500
        first = np.array([sum(p < 256 for p in row[3]) for row in rows_of(made)[:50]])
        assert (first == 43).all()
        assert not np.isin(made.target_tokens, [MARKS.sep_id, MARKS.cls_id]).any()


def test_the_original_loses_what_falls_on_special_tokens(words):
    made = xlnet_published().corrupt(words, MARKS, seed=0, pass_number=0)
    assert not np.isin(made.target_tokens, [MARKS.sep_id, MARKS.cls_id]).any()
    lost = 85 - np.diff(made.target_offsets)
    assert 0 <= lost.min() <= lost.max() <= 3
    # three special tokens of 256 in the second part, where 42 are sampled; the last two are seldom in a span
    assert 0.1 < lost.mean() < 3 * 42 / 256


def sampled(spans, parts, *, rate=1.0, size=256, quota=43):
    """Spans of many parts without special tokens: what they take, (parts, size), and what they leave."""
    noise = np.random.default_rng(0)
    taken, left = walk(
        spans,
        np.full(parts, size),
        np.full(parts, quota),
        noise.random(parts * size) < rate,
        np.zeros(parts * size, bool),
        Stream.of(0, "test", 0, np.arange(parts, dtype=np.uint64)),
    )
    return taken.reshape(parts, size), left


def test_spans_give_thirty_five_and_a_half_of_forty_three():
    """The figure of objectives.md, for text of which three tokens in four begin words."""
    taken, left = sampled(PieceSpans(), 8000, rate=0.75)
    assert taken.sum(1).mean() == pytest.approx(35.5, abs=0.2)
    assert np.array_equal(taken.sum(1), 43 - left)


def test_span_lengths_follow_one_over_n():
    spans = PieceSpans(beta=1, alpha=50)  # far apart, so that no two touch
    taken, _ = sampled(spans, 4000, size=2000, quota=1000)
    edges = np.flatnonzero(np.diff(np.pad(taken, ((0, 0), (1, 1))).astype(np.int8), axis=1).ravel())
    lengths = edges[1::2] - edges[::2]
    counts = np.bincount(lengths, minlength=6)[1:]
    # long spans reach the end of a part more often; contexts that end within it are fair, so take first spans only
    first = taken.argmax(1)
    whole = np.array([row[at:].argmin() for row, at in zip(taken, first, strict=True)])
    assert len(counts) == 5
    assert plausible_counts(np.bincount(whole, minlength=6)[1:], 1 / np.arange(1, 6))
    assert (np.diff(counts) < 0).all()


def test_begins_are_uniform_in_their_context():
    taken, _ = sampled(PieceSpans(longest=1), 30_000, quota=1)
    assert plausible_counts(np.bincount(taken.argmax(1), minlength=6), np.ones(6))


@pytest.mark.parametrize(("spans", "cuts_words"), [(WordSpans(), False), (PieceSpans(), True)])
def test_only_the_original_cuts_words(spans, cuts_words):
    noise = np.random.default_rng(1)
    starts = noise.random(300 * 256) < 0.6
    parts = np.full(300, 256)
    taken, _ = walk(
        spans,
        parts,
        parts // 6,
        starts,
        np.zeros_like(starts),
        Stream.of(1, "t", 0, np.arange(300, dtype=np.uint64)),
    )
    starts[::256] = True
    behind = np.flatnonzero(taken[:-1] & ~taken[1:]) + 1
    begin = np.flatnonzero(taken[1:] & ~taken[:-1]) + 1
    assert starts[begin].all()
    assert starts[behind].all() != cuts_words
    if cuts_words:
        assert plausible_share(int(starts[behind].sum()), len(behind), 0.6)


def test_targets_come_from_the_walk_and_from_filling_as_in_the_plain_loop():
    """Statistics of a part of our text beside the plain loop on Python's generator."""
    noise, draws = np.random.default_rng(2), plain.RandomDraws(3)
    starts = noise.random(256) < 0.7
    for kind in (WordSpans, PieceSpans):
        flat = np.tile(starts, 3000)
        taken, _ = walk(
            kind(),
            np.full(3000, 256),
            np.full(3000, 43),
            flat,
            np.zeros_like(flat),
            Stream.of(2, "t", 0, np.arange(3000, dtype=np.uint64)),
        )
        ours = taken.reshape(3000, 256).sum(0)
        draws.fill = lambda ways, wanted: []
        theirs = np.sum(
            [plain.sample(KINDS[kind], starts.tolist(), [False] * 256, 43, draws) for _ in range(1500)],
            0,
        )
        p, q = ours / 3000, theirs / 1500
        sigma = np.sqrt((p * (1 - p) + 1e-4) * (1 / 3000 + 1 / 1500))
        assert (np.abs(p - q) < 5 * sigma).all()


def test_every_order_of_a_part_is_equally_likely():
    parts = 24_000
    selected = np.tile([True, False, True, True, False, True], parts)
    order = factorise(
        selected,
        np.full(parts, 6),
        100,
        Stream.of(0, "order", 0, np.arange(parts, dtype=np.uint64)),
    ).reshape(parts, 6)
    assert (order[:, [1, 4]] == -1).all()
    kinds, counts = np.unique(order[:, [0, 2, 3, 5]], axis=0, return_counts=True)
    assert len(kinds) == 24
    assert np.array_equal(np.sort(kinds, axis=1), np.tile(np.arange(4), (24, 1)))
    assert plausible_counts(counts, np.ones(24))


def test_half_the_pairs_are_random_and_the_others_go_on(words):
    made = PermutationObjective().corrupt(words, MARKS, seed=3, pass_number=0)
    assert plausible_share(int(made.pair_label.sum()), len(made), 0.5)
    both = PermutationObjective(layout=Streams(both_directions=False)).corrupt(
        words, MARKS, seed=3, pass_number=0
    )
    assert 2 * len(both) == len(made)
    text, boundaries = words.tokens_T.tolist(), words.sentence_offsets
    for row, (tokens, segments, *_) in enumerate(rows_of(both)):
        a = tokens[: segments.index(1) - 1]
        b = tokens[len(a) + 1 : -2]
        begin = 256 * row
        assert text[begin : begin + len(a)] == a
        end = begin + len(a)
        if both.pair_label[row]:  # only an A that is no shorter than B has lost tokens before B
            starts = [end] if len(a) - 256 < len(b) else boundaries[boundaries >= end].tolist()
            assert any(text[start : start + len(b)] == b for start in starts)


def test_rows_go_on_where_the_remembered_part_of_the_row_before_ends():
    objective = PermutationObjective(max_seq_len=60, num_predict=10, layout=Streams(reuse_len=25))
    shard = shard_of(documents(30, seed=7))
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    text = shard.tokens_T.tolist()
    for backward in (0, 1):
        rows = [
            row[0][:25]
            for row, turned in zip(rows_of(made), made.backward, strict=True)
            if turned == backward
        ]
        read = [token for row in rows for token in row]
        assert read == (text[::-1] if backward else text)[: len(read)]
        assert len(read) > len(text) - 60
    assert made.continues.tolist() == [int(i not in (0, len(made) // 2)) for i in range(len(made))]


def test_documents_are_rows_of_their_own():
    objective = OBJECTIVES[4]
    shard = shard_of(ODD)
    made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    lengths = np.diff(shard.document_offsets)
    assert set(made.document.tolist()) == set(np.flatnonzero(lengths > 1).tolist())
    for row, (tokens, segments, order, targets, _) in enumerate(rows_of(made)):
        assert tokens[-2:] == [MARKS.sep_id, MARKS.cls_id]
        assert segments == [0] * (len(tokens) - 1) + [2]
        assert 1 <= len(targets) == min(max(1, len(tokens) // 6), len(tokens) - 3)
        assert sorted(r for r in order if r >= 0) == list(range(len(targets) + 2))
        document = shard.tokens_T[slice(*shard.document_offsets[made.document[row] :][:2])].tolist()
        assert any(document[i : i + len(tokens) - 2] == tokens[:-2] for i in range(len(document)))
    assert (made.pair_label == NO_PAIR).all()
    assert not made.continues.any()
    assert not made.reuse_len.any()


# --- the same bits however it is cut ---


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_prepared_ahead_equals_on_the_fly_for_any_subset_of_documents(objective):
    count = 60 if objective.max_seq_len > 100 else 12
    shard = shard_of(ODD + documents(count, seed=4))
    ahead = objective.corrupt(shard, MARKS, seed=5, pass_number=1)
    rows = rows_of(ahead)
    for some in ([i] for i in range(len(ODD) + count)):
        apart = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array(some))
        here = [row for row, document in zip(rows, ahead.document, strict=True) if document == some[0]]
        assert rows_of(apart) == here
    some = np.array([9, 3, 8, 8, 12])
    apart = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=some)
    by_id = dict(zip(ahead.instance_id.tolist(), rows, strict=True))
    assert rows_of(apart) == [by_id[i] for i in apart.instance_id.tolist()]
    assert apart.document[apart.backward == 0].tolist() == [
        d for s in some for d in ahead.document[ahead.backward == 0].tolist() if d == s
    ]


@pytest.mark.parametrize("block", [1, 300, 10_000])
@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_blocks_are_not_visible(objective, block, monkeypatch):
    shard = shard_of(documents(40, seed=5))
    whole = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    monkeypatch.setattr(permutation_rows, "BLOCK_TOKENS", block)
    again = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    assert again.same_as(whole)
    assert len(set(whole.instance_id.tolist())) == len(whole) > 3


def test_seed_and_pass_change_the_draws_and_only_the_pass_the_names():
    shard = shard_of(documents(40, seed=6))
    objective = PermutationObjective()
    one, other, later = (
        objective.corrupt(shard, MARKS, seed=seed, pass_number=number)
        for seed, number in ((0, 0), (1, 0), (0, 1))
    )
    assert np.array_equal(one.instance_id, other.instance_id)
    assert not np.isin(later.instance_id, one.instance_id).any()
    for changed in (other, later):
        assert (one.target_positions[:500] == changed.target_positions[:500]).mean() < 0.3


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("lengths", [[], [[]], [[1]], [[3]], [[39]], [[], [2], []]])
def test_little_text_gives_few_rows_or_none(objective, lengths):
    made = objective.corrupt(shard_of(lengths), MARKS, seed=0, pass_number=0)
    enough = isinstance(objective.layout, Documents) and any(sum(d) > 1 for d in lengths)
    assert (len(made) > 0) == enough
    assert made.counts()["targets"] == len(made.target_tokens)


def test_instances_are_written_and_opened(tmp_path):
    from corpus.instances import open_instances

    made = OBJECTIVES[2].corrupt(shard_of(documents(9, seed=8)), MARKS, seed=0, pass_number=0)
    made.write(tmp_path / "rows.arrow")
    assert open_instances(tmp_path / "rows.arrow").same_as(made)


@pytest.mark.parametrize(
    ("bad", "words_of"),
    [
        (lambda: PermutationObjective(max_seq_len=9), "max_seq_len is 9"),
        (lambda: PermutationObjective(num_predict=254), "most can be seen"),
        (lambda: PermutationObjective(perm_size=0), "perm_size is 0"),
        (lambda: PermutationObjective(layout=Streams(reuse_len=508)), "at most 507"),
        (lambda: Streams(reuse_len=0), "layout Documents"),
        (lambda: Documents(short_share=1.5), "short_share is 1.5"),
        (lambda: WordSpans(longest=0), "WordSpans.longest is 0"),
        (lambda: PieceSpans(alpha=1, beta=2), "beta <= alpha"),
        (
            lambda: xlnet_published(document_end_id=8000).corrupt(
                shard_of([[5]]), MARKS, seed=0, pass_number=0
            ),
            "document_end_id is 8000",
        ),
    ],
)
def test_bad_values_are_refused_in_a_sentence(bad, words_of):
    with pytest.raises(ValueError, match=words_of):
        bad()
