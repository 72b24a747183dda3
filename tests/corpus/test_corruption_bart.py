"""BART's noises: equal to the plain loops given the same draws, the same bits whatever is asked for together, and a text
that can be had back.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption import seq2seq
from corpus.corruption.bart import BartObjective, bart_command_published, bart_published, mbart_published
from corpus.corruption.infilling import TextInfilling
from corpus.corruption.masking import Marks
from corpus.corruption.packing import DocSentences
from corpus.corruption.permuting import FullStops, SentencePermutation
from corpus.corruption.replacement import AnyToken, OrdinaryToken
from corpus.corruption.rotating import DocumentRotation
from corpus.corruption.seq2seq import EachSentence
from corpus.corruption.token_noises import TokenDeletion, TokenInsertion, TokenMasking
from corpus.instances import open_instances
from tests.corpus import reference_bart as plain
from tests.corpus.in_memory import MARKS, documents, shard_of
from tests.corpus.reference_bert import fold, key_of
from tests.corpus.rows_kit import token_documents

ODD = [
    [],
    [1],
    [7],
    [3, 4],
    [],
    [90],
    [1, 1, 1],
    [40, 60, 2],
    [12] * 30,
    [1] * 70,
    [31, 1],
    [30],
    [29],
    [28, 1],
]
STOPS = tuple(range(5, 1600))  # a fifth of the made tokens: runs of them are common


def alone(**noise) -> BartObjective:
    return BartObjective(**{"max_seq_len": 32, "permute": None, "infill": None, **noise})


EVERY_NOISE = BartObjective(
    max_seq_len=40,
    permute=SentencePermutation(share=0.6),
    mask=TokenMasking(random_share=0.3),
    delete=TokenDeletion(share=0.2),
    infill=TextInfilling(mean_span=1.5, random_share=0.2, other=AnyToken()),
    insert=TokenInsertion(share=0.3, random_share=0.5),
    rotate=DocumentRotation(share=0.5),
)
OBJECTIVES = {
    "published": bart_published(),
    "short rows": replace(bart_command_published(), max_seq_len=24),
    "mbart": replace(mbart_published(), max_seq_len=64),
    "nothing": alone(),
    "permute": alone(permute=SentencePermutation()),
    "permute some": alone(permute=SentencePermutation(share=0.4)),
    "permute at stops": alone(permute=SentencePermutation(ends=FullStops(token_ids=STOPS))),
    "mask": alone(mask=TokenMasking(share=0.5, random_share=0.25, other=AnyToken())),
    "delete": alone(delete=TokenDeletion(share=0.3)),
    "infill": alone(infill=TextInfilling(share=0.6, random_share=0.3)),
    "infill short": alone(infill=TextInfilling(share=0.9, mean_span=0.3)),
    "infill exact": alone(infill=TextInfilling(share=0.7, mean_span=2.0, random_share=0.4, exact=True)),
    "insert": alone(insert=TokenInsertion(random_share=0.1)),
    "rotate": alone(rotate=DocumentRotation()),
    "all": EVERY_NOISE,
    "all, exact": replace(EVERY_NOISE, infill=TextInfilling(exact=True), insert=None),
}
EACH = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def rows(tokens, offsets):
    return [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def sources(made):
    return rows(made.source_tokens, made.source_offsets)


def targets(made):
    return rows(made.target_tokens, made.decoder_offsets)


def plain_instances(objective, shard, *, seed, pass_number):
    """(id, source, target) of all instances, by the plain loops with the same draws."""
    for own, sentences in enumerate(token_documents(shard)):
        words = [int(w) for w in shard.document_ids[own].view("<u8")]
        texts = [[(at, int(shard.tokens_T[at])) for at in sentence] for sentence in sentences]
        for chunk, row in enumerate(plain.rows_of(texts, objective.room)):
            identity = fold(key_of(0, "instance", pass_number, *words), chunk)
            draws = plain.KeyedDraws(key_of(seed, "noise", pass_number, identity))
            read = plain.corrupt(row, shard.word_start_T, objective, MARKS.vocab_size, draws)
            ids = [MARKS.mask_id if t == plain.MASK else t[1] if isinstance(t, tuple) else t for t in read]
            target = [token for sentence in row for _, token in sentence]
            yield (
                identity,
                [MARKS.cls_id, *ids, MARKS.sep_id],
                [MARKS.cls_id, *target, MARKS.sep_id],
            )


def assert_equals_the_plain_loops(objective, shard):
    made = objective.corrupt(shard, MARKS, seed=11, pass_number=2)
    theirs = list(plain_instances(objective, shard, seed=11, pass_number=2))
    assert made.instance_id.tolist() == [identity for identity, _, _ in theirs]
    for ours, want in zip(targets(made), [target for _, _, target in theirs], strict=True):
        assert ours == want
    for ours, want in zip(sources(made), [source for _, source, _ in theirs], strict=True):
        assert ours == want


# --- given the same draws: exactly the plain loops ---


@EACH
def test_instances_equal_the_plain_loops_given_the_same_draws(objective):
    shard = shard_of([*ODD, *documents(25, seed=3)])
    assert len(list(plain_instances(objective, shard, seed=0, pass_number=0))) > 30
    assert_equals_the_plain_loops(objective, shard)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), max_size=8), max_size=4),
    st.sampled_from(list(OBJECTIVES.values())),
    st.integers(0, 1000),
)
def test_any_text_equals_the_plain_loops(lengths, objective, seed):
    assert_equals_the_plain_loops(objective, shard_of(lengths, seed=seed))


def test_full_stops_end_sentences_at_the_first_of_a_run_and_a_run_at_the_end_stays_there():
    shard = shard_of([[12]])
    shard.tokens_T[:] = [9, 1, 8, 1, 1, 7, 7, 1, 6, 6, 1, 1]
    objective = alone(permute=SentencePermutation(ends=FullStops(token_ids=(1,))))
    parts = [[9, 1], [8, 1], [1, 7, 7, 1], [6, 6, 1]]
    orders = {tuple(itertools.chain(*order)) for order in itertools.permutations(parts)}
    seen = {
        tuple(sources(objective.corrupt(shard, MARKS, seed=s, pass_number=0))[0][1:-1]) for s in range(400)
    }
    assert seen == {(*order, 1) for order in orders}


# --- what the decoder reads and says ---


@EACH
def test_the_decoder_reads_the_text_shifted_right_and_says_it(objective):
    shard = shard_of([*ODD, *documents(20, seed=7)])
    made = objective.corrupt(shard, MARKS, seed=1, pass_number=0)
    decoder, positions = (
        rows(x, made.decoder_offsets) for x in (made.decoder_tokens, made.decoder_positions)
    )
    said = []
    for read, place, target in zip(decoder, positions, targets(made), strict=True):
        assert target[0] == MARKS.cls_id
        assert target[-1] == MARKS.sep_id
        # transformers' shift_tokens_right(target, pad, decoder_start_token_id=</s>)
        assert read == [MARKS.sep_id, *target[:-1]]
        assert place == list(range(len(target)))
        said += target[1:-1]
    assert said == shard.tokens_T.tolist()  # every token of every document, in order


@EACH
def test_rows_are_full_and_never_longer_than_they_may_be(objective):
    shard = shard_of([*ODD, [1200], *documents(20, seed=8)])
    made = objective.corrupt(shard, MARKS, seed=1, pass_number=0)
    assert max(map(len, sources(made))) <= objective.max_seq_len
    assert made.source_offsets[-1] == len(made.source_tokens)
    assert max(map(len, targets(made))) == objective.room + 2 <= objective.max_seq_len
    if objective.insert is None:
        assert objective.room == objective.max_seq_len - 2


def test_masks_put_in_never_make_a_row_too_long():
    """Spans of no length without end, in rows of one word, which are full."""
    objective = BartObjective(max_seq_len=3, permute=None, infill=TextInfilling(share=0.9, mean_span=0.05))
    made = objective.corrupt(shard_of([[1]] * 50), MARKS, seed=0, pass_number=0)
    assert {tuple(row) for row in sources(made)} == {(2, 4, 3)}
    longer = replace(objective, max_seq_len=9).corrupt(shard_of([[1]] * 50), MARKS, seed=0, pass_number=0)
    assert max(len(row) for row in sources(longer)) == 9


# --- the text can be had back ---


def is_part_of(part, whole):
    rest = iter(whole)
    return all(token in rest for token in part)


@pytest.mark.parametrize("name", ["mask", "delete", "infill", "infill exact", "insert"])
def test_without_what_was_put_in_the_source_is_a_subsequence_of_the_text(name):
    objective = OBJECTIVES[name]
    shard = shard_of([*ODD, *documents(40, seed=9)], vocab_size=40_000)
    marks = replace(MARKS, vocab_size=5)  # random tokens are 1 ... 4, no token of the text is
    made = objective.corrupt(shard, marks, seed=2, pass_number=0)
    changed = 0
    for source, target in zip(sources(made), targets(made), strict=True):
        kept = [token for token in source[1:-1] if token >= 5]
        assert is_part_of(kept, target[1:-1])
        changed += source != target
    assert changed > 0.9 * len(made)
    if name == "insert":
        assert [t for t in made.source_tokens if t >= 5] == [t for t in made.target_tokens if t >= 5]


def test_permutation_moves_whole_sentences_and_no_token_is_lost():
    shard = shard_of([[3, 4, 5, 6], [2, 9]])
    made = alone(permute=SentencePermutation()).corrupt(shard, MARKS, seed=3, pass_number=0)
    for source, sentences in zip(sources(made), token_documents(shard), strict=True):
        ids = [shard.tokens_T[s].tolist() for s in sentences]
        assert source[1:-1] in [[*itertools.chain(*order)] for order in itertools.permutations(ids)]


def test_rotation_turns_the_text():
    shard = shard_of([[40], [3, 4], [1]])
    made = alone(rotate=DocumentRotation(), max_seq_len=64).corrupt(shard, MARKS, seed=0, pass_number=0)
    for source, target in zip(sources(made), targets(made), strict=True):
        text = target[1:-1]
        assert source[1:-1] in [text[k:] + text[:k] for k in range(len(text))]
    assert sources(made)[0] != targets(made)[0]


def test_spans_that_run_into_each_other_are_one_mask_and_hide_less():
    """Words are single tokens; 9 of 10 are to be hidden, by spans of three: hardly two can lie apart."""
    shard = shard_of([[30]] * 200)
    shard.word_start_T[:] = True
    hidden = {}
    for exact in (False, True):
        objective = alone(infill=TextInfilling(share=0.9, mean_span=3.0, exact=exact))
        made = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
        kept = [sum(token != MARKS.mask_id for token in source[1:-1]) for source in sources(made)]
        hidden[exact] = 30 - np.array(kept)
    assert (hidden[True] == 27).all()
    assert (hidden[False] <= 27).all()
    assert hidden[False].mean() < 24


# --- the same bits however it is cut ---

COLUMNS = ("source_tokens", "decoder_tokens", "decoder_positions", "target_tokens", "instance_id")


@EACH
def test_prepared_ahead_equals_on_the_fly_for_any_subset_of_documents(objective):
    shard = shard_of([*ODD, *documents(20, seed=4)])
    ahead = objective.corrupt(shard, MARKS, seed=5, pass_number=1)
    apart = [
        objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array([i]))
        for i in range(len(ODD) + 20)
    ]
    for name in COLUMNS:
        assert np.array_equal(np.concatenate([getattr(one, name) for one in apart]), getattr(ahead, name)), (
            name
        )
    some = np.array([30, 3, 8, 8, 20])
    backwards = objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=some)
    assert sources(backwards) == [row for i in some for row in sources(apart[i])]
    assert backwards.document.tolist() == [i for i in some for _ in range(len(apart[i]))]


@pytest.mark.parametrize("block", [1, 300, 10_000])
def test_blocks_are_not_visible(block, monkeypatch):
    shard = shard_of(documents(15, seed=5))
    objectives = [bart_published(), EVERY_NOISE]
    whole = [objective.corrupt(shard, MARKS, seed=0, pass_number=0) for objective in objectives]
    monkeypatch.setattr(seq2seq, "BLOCK_TOKENS", block)
    for objective, one in zip(objectives, whole, strict=True):
        assert objective.corrupt(shard, MARKS, seed=0, pass_number=0).same_as(one)


def test_seed_and_pass_change_everything_and_instances_are_known_by_their_text():
    shard = shard_of(documents(100), vocab_size=100_000, dtype=np.uint32)
    marks = Marks(vocab_size=100_000, cls_id=2, sep_id=3, mask_id=4)
    made = [
        bart_published().corrupt(shard, marks, seed=s, pass_number=p) for s, p in ((0, 0), (0, 1), (1, 0))
    ]
    assert made[0].source_tokens.dtype == made[0].target_tokens.dtype == np.uint32
    assert made[0].decoder_tokens.dtype == np.uint32
    assert made[0].target_tokens.max() > 65_536
    assert len({one.source_tokens.tobytes() for one in made}) == 3
    assert len({one.target_tokens.tobytes() for one in made}) == 1
    assert np.array_equal(made[0].instance_id, made[2].instance_id)
    assert not set(made[0].instance_id) & set(made[1].instance_id)


def test_noises_draw_apart_from_each_other():
    """What one noise does is not changed by another behind it."""
    shard = shard_of(documents(60, seed=2))
    masked = alone(mask=TokenMasking(random_share=0.2), max_seq_len=300)
    both = replace(masked, rotate=DocumentRotation())
    for one, two in zip(
        *(sources(o.corrupt(shard, MARKS, seed=4, pass_number=0)) for o in (masked, both)), strict=True
    ):
        assert sorted(one) == sorted(two)


def test_instances_are_written_and_read_again(tmp_path):
    made = EVERY_NOISE.corrupt(shard_of(documents(30)), MARKS, seed=0, pass_number=0)
    made.write(tmp_path / "made.arrow")
    assert open_instances(tmp_path / "made.arrow").same_as(made)


def test_the_shard_is_not_changed():
    shard = shard_of(documents(30))
    for array in vars(shard).values():
        array.flags.writeable = False
    before = shard.tokens_T.copy()
    for objective in OBJECTIVES.values():
        objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    assert np.array_equal(shard.tokens_T, before)


# --- small texts and bad values ---


@EACH
def test_empty_documents_give_nothing_and_tiny_ones_one_instance_each(objective):
    for lengths in ([], [[], [], []]):
        made = objective.corrupt(shard_of(lengths), MARKS, seed=0, pass_number=0)
        assert len(made) == len(made.source_tokens) == 0
    made = objective.corrupt(shard_of([[], [1], [], [1], [6]]), MARKS, seed=0, pass_number=0)
    assert made.document.tolist() == [1, 3, 4]
    assert [len(t) for t in targets(made)] == [3, 3, 8]


def test_every_sentence_is_a_row_and_long_ones_are_several():
    shard = shard_of([[3, 4], [], [25, 1], [10]])
    made = EachSentence().pack(shard, np.array([3, 2, 0, 1]), 10)
    assert made.length_K.tolist() == [10, 10, 10, 5, 1, 3, 4]
    assert made.start_K.tolist() == [33, 7, 17, 27, 32, 0, 3]
    assert made.document_B.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert made.chunk_B.tolist() == [0, 0, 1, 2, 3, 0, 1]
    whole = DocSentences().pack(shard, np.array([3, 2, 0, 1]), 10)
    assert whole.length_K.tolist() == [10, 10, 10, 6, 7]


def test_random_tokens_can_leave_out_the_special_ones():
    marks = Marks(vocab_size=8, cls_id=2, sep_id=3, mask_id=4, special_ids=(0, 1))
    shard = shard_of(documents(50), vocab_size=6)
    noise = TokenMasking(share=0.9, random_share=1.0, other=OrdinaryToken())
    made = alone(mask=noise).corrupt(shard, marks, seed=0, pass_number=0)
    assert set(made.source_tokens) == {2, 3, 5, 6, 7}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BartObjective(max_seq_len=2), "max_seq_len is 2; it must be 3 to 65536"),
        (lambda: BartObjective(max_seq_len=3, insert=TokenInsertion()), "max_seq_len is 3; with insert"),
        (lambda: TextInfilling(share=0.0), "share is 0.0; it must lie between"),
        (lambda: TextInfilling(mean_span=0.0), "mean_span is 0.0"),
        (lambda: TextInfilling(mean_span=17), "mean_span is 17; it must lie above 0 and up to 16"),
        (lambda: TextInfilling(random_share=1.5), "random_share is 1.5"),
        (lambda: TokenMasking(share=1.0), "TokenMasking.share is 1.0"),
        (lambda: TokenDeletion(share=15), "TokenDeletion.share is 15"),
        (lambda: TokenInsertion(share=-0.1), "TokenInsertion.share is -0.1"),
        (lambda: SentencePermutation(share=1.1), "SentencePermutation.share is 1.1; it must lie above 0"),
        (lambda: DocumentRotation(share=0.0), "DocumentRotation.share is 0.0"),
        (lambda: FullStops(token_ids=()), "token_ids is empty"),
    ],
)
def test_bad_values_are_refused_with_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
