"""Causal rows: equal to a plain loop over documents, every token predicted exactly once, pure in the shard."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption.causal import AcrossDocuments, Blocks, CausalObjective, WholeSentences
from corpus.corruption.masking import Marks
from tests.corpus.in_memory import MARKS, documents, shard_of

END_OF_TEXT = Marks(vocab_size=8000, cls_id=3, sep_id=3, mask_id=None)  # as in GPT-2
ODD = [[], [1], [7], [3, 4], [], [500], [1, 1, 1], [200, 300, 2], [60] * 30, [1] * 300, [6, 1], [5, 9], []]
WAYS = [
    CausalObjective(max_seq_len=size, rows=rows, begin_mark=mark)
    for size in (2, 7, 128)
    for rows in (Blocks(), WholeSentences(), AcrossDocuments())
    for mark in (True, False)
]
NAMES = [f"{type(o.rows).__name__}-{o.max_seq_len}-{'mark' if o.begin_mark else 'bare'}" for o in WAYS]


def sentences_of(shard) -> list[list[list[int]]]:
    cut = [shard.tokens_T[a:b].tolist() for a, b in pairwise(shard.sentence_offsets)]
    return [cut[a:b] for a, b in pairwise(shard.document_sentences)]


def plain_rows(shard, objective: CausalObjective, marks: Marks) -> list[tuple[int, list[int]]]:
    """(document, row) by hand: a text is a list of predictions, each with the token before it."""
    step = objective.max_seq_len - 1
    rows, text = [], []  # text: of one document, or of all: (document, token)
    for number, sentences in enumerate(sentences_of(shard)):
        flat = [token for sentence in sentences for token in sentence]
        if not flat:
            continue
        begin = [marks.cls_id] if objective.begin_mark else []
        if isinstance(objective.rows, AcrossDocuments):
            text += [(number, token) for token in [*(begin if not text else []), *flat, marks.sep_id]]
            continue
        framed = [*begin, *flat, marks.sep_id]
        if isinstance(objective.rows, Blocks):
            rows += [(number, framed[k : k + step + 1]) for k in range(0, len(framed) - 1, step)]
            continue
        units = [list(sentence) for sentence in sentences]
        units[-1].append(marks.sep_id)
        before = begin[0] if begin else units[0].pop(0)
        pieces = [u[k : k + step] for u in units for k in range(0, max(1, len(u)), step)]
        row = []
        for piece in pieces:
            if row and len(row) + len(piece) > step:
                rows.append((number, [before, *row]))
                before, row = row[-1], []
            row = row + piece
        rows.append((number, [before, *row]))
    for k in range(0, len(text) - 1, step):
        rows.append((text[k][0], [token for _, token in text[k : k + step + 1]]))
    return rows


def rows_of(made) -> list[tuple[int, list[int]]]:
    cut = [made.tokens[a:b].tolist() for a, b in pairwise(made.offsets)]
    return list(zip(made.document.tolist(), cut, strict=True))


@pytest.mark.parametrize("objective", WAYS, ids=NAMES)
@pytest.mark.parametrize("lengths", [ODD, documents(60, seed=4)], ids=["odd", "text"])
def test_rows_equal_the_plain_loop(objective, lengths):
    shard = shard_of(lengths)
    for marks in (MARKS, END_OF_TEXT):
        made = objective.corrupt(shard, marks, seed=0, pass_number=0)
        assert rows_of(made) == plain_rows(shard, objective, marks)
        assert made.lengths().min() >= 2
        assert made.lengths().max() <= objective.max_seq_len
        assert made.tokens.dtype == shard.tokens_T.dtype


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), max_size=8), max_size=8),
    st.integers(2, 12),
    st.sampled_from([Blocks(), WholeSentences(), AcrossDocuments()]),
    st.booleans(),
)
def test_every_token_and_every_end_is_predicted_exactly_once(lengths, size, rows, mark):
    shard = shard_of(lengths)
    made = CausalObjective(max_seq_len=size, rows=rows, begin_mark=mark).corrupt(
        shard, MARKS, seed=0, pass_number=0
    )
    predicted = [token for _, row in rows_of(made) for token in row[1:]]
    expected = []
    for number, sentences in enumerate(d for d in sentences_of(shard) if d):
        flat = [token for sentence in sentences for token in sentence]
        bare = not mark and (number == 0 or not isinstance(rows, AcrossDocuments))
        expected += [*flat[bare:], MARKS.sep_id]
    assert predicted == expected


def test_whole_sentences_stay_together_where_they_fit():
    shard = shard_of([[3, 4, 5, 4, 3]])
    rows = rows_of(
        CausalObjective(max_seq_len=10, rows=WholeSentences()).corrupt(shard, MARKS, seed=0, pass_number=0)
    )
    assert [len(row) for _, row in rows] == [1 + 3 + 4, 1 + 5 + 4, 1 + 3 + 1]
    across = CausalObjective(max_seq_len=10, rows=AcrossDocuments())
    full = across.corrupt(shard_of(documents(50, seed=2)), MARKS, seed=0, pass_number=0)
    assert (full.lengths()[:-1] == 10).all()  # nothing but the last row of a shard is short
    assert len(full) > 100


@pytest.mark.parametrize("objective", WAYS, ids=NAMES)
def test_a_document_alone_gives_the_rows_it_gives_in_company(objective):
    shard = shard_of(ODD)
    together = objective.corrupt(shard, MARKS, seed=0, pass_number=3)
    asked = np.array([1, 3, 4, 8, 9])
    some = objective.corrupt(shard, MARKS, seed=0, pass_number=3, documents=asked)
    assert some.same_as(_rows_in(together, asked))
    for document in range(len(ODD)):
        alone = objective.corrupt(shard, MARKS, seed=0, pass_number=3, documents=np.array([document]))
        assert alone.same_as(_rows_in(together, np.array([document])))


def _rows_in(made, asked):
    kept = np.flatnonzero(np.isin(made.document, asked))
    lengths = made.lengths()[kept]
    return type(made)(
        tokens=np.concatenate(
            [made.tokens[:0], *(made.tokens[made.offsets[k] : made.offsets[k + 1]] for k in kept)]
        ),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        instance_id=made.instance_id[kept],
        document=made.document[kept],
    )


def test_seeds_change_nothing_passes_only_the_ids_and_every_id_is_its_own():
    shard, objective = shard_of(documents(200, seed=7)), CausalObjective(max_seq_len=32)
    first = objective.corrupt(shard, MARKS, seed=0, pass_number=0)
    assert first.same_as(objective.corrupt(shard, MARKS, seed=9, pass_number=0))
    second = objective.corrupt(shard, MARKS, seed=0, pass_number=1)
    assert np.array_equal(first.tokens, second.tokens)
    assert len(np.unique(np.concatenate([first.instance_id, second.instance_id]))) == 2 * len(first)
    assert len(first) > 500


def test_files_of_equal_rows_are_equal_bytes(tmp_path):
    shard, objective = shard_of(documents(20, seed=7)), CausalObjective(max_seq_len=32)
    for name in ("a", "b"):
        objective.corrupt(shard, MARKS, seed=0, pass_number=0).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("size", [1, 65537])
def test_bad_lengths_get_one_sentence(size):
    with pytest.raises(ValueError, match=f"max_seq_len is {size}; it must be 2 to 65536"):
        CausalObjective(max_seq_len=size)
