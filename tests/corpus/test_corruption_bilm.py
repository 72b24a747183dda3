"""Sentences as rows for a bidirectional language model: equal to a plain loop, each token predicted once."""

import numpy as np
import pytest

from corpus.corruption.bilm import BidirectionalLMObjective
from tests.corpus.in_memory import MARKS, documents, shard_of

ODD = [[], [1], [7], [3, 4], [], [50], [1, 1, 1], [20, 30, 2], [6] * 30, [13], [14], [15], []]


def rows_of(found) -> list[list[int]]:
    return [found.tokens[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def plain(shard, max_seq_len: int) -> list[list[int]]:
    rows = []
    for first, last in zip(shard.sentence_offsets[:-1], shard.sentence_offsets[1:], strict=True):
        sentence = [MARKS.cls_id, *shard.tokens_T[first:last].tolist(), MARKS.sep_id]
        while len(sentence) > max_seq_len:
            rows.append(sentence[:max_seq_len])
            sentence = sentence[max_seq_len - 1 :]
        rows.append(sentence)
    return rows


@pytest.mark.parametrize("lengths", [ODD, documents(60, seed=3), [[9]], [[1]]])
@pytest.mark.parametrize("max_seq_len", [3, 15, 16, 256])
def test_rows_equal_the_plain_loop(lengths, max_seq_len):
    shard = shard_of(lengths)
    found = BidirectionalLMObjective(max_seq_len=max_seq_len).corrupt(shard, MARKS, seed=0, pass_number=0)
    assert rows_of(found) == plain(shard, max_seq_len)
    assert found.lengths().min() >= 2
    assert found.tokens.dtype == shard.tokens_T.dtype
    tokens, sentences = sum(map(sum, lengths)), sum(map(len, lengths))
    assert found.lengths().sum() - len(found) == tokens + sentences  # predictions: every word and every end
    assert len(set(found.instance_id.tolist())) == len(found)
    rows = [sum(-(-(words + 1) // (max_seq_len - 1)) for words in document) for document in lengths]
    assert found.document.tolist() == np.repeat(np.arange(len(lengths)), rows).tolist()


def test_nothing_gives_nothing():
    for lengths in ([], [[], []]):
        found = BidirectionalLMObjective().corrupt(shard_of(lengths), MARKS, seed=0, pass_number=0)
        assert len(found) == len(found.tokens) == 0
        assert found.offsets.tolist() == [0]


def test_a_document_alone_is_the_same_as_in_company():
    shard, objective = shard_of(ODD), BidirectionalLMObjective(max_seq_len=8)
    together = objective.corrupt(shard, MARKS, seed=0, pass_number=1)
    for document in range(len(ODD)):
        alone = objective.corrupt(shard, MARKS, seed=0, pass_number=1, documents=np.array([document]))
        assert alone.same_as(
            objective.corrupt(shard, MARKS, seed=5, pass_number=1, documents=np.array([document]))
        )
        chosen = together.document == document
        assert alone.instance_id.tolist() == together.instance_id[chosen].tolist()
        assert rows_of(alone) == [row for row, own in zip(rows_of(together), chosen, strict=True) if own]
    other = objective.corrupt(shard, MARKS, seed=0, pass_number=2)
    assert rows_of(other) == rows_of(together)
    assert not set(other.instance_id.tolist()) & set(together.instance_id.tolist())


def test_a_row_must_hold_a_word():
    with pytest.raises(ValueError, match="max_seq_len is 2; it must be 3 to 65536"):
        BidirectionalLMObjective(max_seq_len=2)
