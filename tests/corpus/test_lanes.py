"""A lane reads on in its text; only whole streams are shuffled; any sample can be asked for at any time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corruption.bilm import BidirectionalLMObjective
from corpus.corruption.permutation import PermutationObjective, Streams
from corpus.instances import Instances
from corpus.lanes import Lanes
from tests.corpus.in_memory import MARKS, documents, shard_of


class Prepared:
    """Instances that were not written."""

    def __init__(self, *shards):
        self.shards = shards
        self.whole = Instances.__new__(Instances)
        self.whole.shards = list(shards)
        self.whole._first = np.cumsum([0, *map(len, shards)])


def lanes_of(streams, lanes, seed=0):
    return Lanes(np.array(streams, np.int64), lanes, seed)


STREAMS = st.lists(st.integers(1, 12), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(STREAMS, st.integers(1, 8), st.integers(0, 3))
def test_each_epoch_has_every_instance_and_repeats_fewer_than_lanes(streams, lanes, seed):
    order = lanes_of(streams, lanes, seed)
    for epoch in range(3):
        index = order.index(range(epoch * order.steps * lanes, (epoch + 1) * order.steps * lanes))
        counts = np.bincount(index, minlength=order.count)
        assert len(counts) == order.count
        assert counts.min() >= 1
        assert counts.sum() - order.count < lanes


@settings(max_examples=40, deadline=None)
@given(STREAMS, st.integers(1, 8))
def test_a_lane_goes_on_in_its_stream_to_the_end_of_it(streams, lanes):
    order = lanes_of(streams, lanes)
    epoch = range(order.steps * lanes)
    index = order.index(epoch).reshape(order.steps, lanes)
    goes_on = order.goes_on(epoch).reshape(order.steps, lanes)
    first = set(np.cumsum([0, *streams]).tolist())
    assert not goes_on[0].any()
    for lane in range(lanes):
        for (before, here), flag in zip(pairwise(index[:, lane].tolist()), goes_on[1:, lane], strict=True):
            assert flag == (here not in first)
            assert not flag or here == before + 1


def test_samples_are_pure_in_their_number_and_seekable():
    order = lanes_of([5, 30, 1, 17, 8], 4, seed=3)
    far = np.random.default_rng(0).integers(0, 10**9, 60)
    together = order.index(far), order.goes_on(far)
    alone = [(int(order.index([n])[0]), bool(order.goes_on([n])[0])) for n in far]
    assert alone == list(zip(*(x.tolist() for x in together), strict=True))
    again = lanes_of([5, 30, 1, 17, 8], 4, seed=3)
    assert np.array_equal(again.index(far), together[0])
    assert len(order.index(range(0))) == 0


def test_streams_are_shuffled_from_epoch_to_epoch_and_stay_whole():
    order = lanes_of([10] * 12, 1)
    epochs = order.index(range(120 * 40)).reshape(40, 12, 10)
    assert (np.diff(epochs, axis=2) == 1).all()
    firsts = epochs[:, :, 0] // 10
    assert all(sorted(row) == list(range(12)) for row in firsts.tolist())
    assert len({tuple(row) for row in firsts.tolist()}) == 40
    assert not np.array_equal(lanes_of([10] * 12, 1, seed=1).index(range(120)), order.index(range(120)))


def test_consecutive_steps_of_a_lane_continue_the_text():
    """The whole of it: rows prepared from shards, in lanes; where `continues` says so, the text goes on."""
    reuse = 25
    objective = PermutationObjective(max_seq_len=60, num_predict=10, layout=Streams(reuse_len=reuse))
    texts = [shard_of(documents(12, seed=seed), seed=seed) for seed in range(4)]
    rows = Prepared(*(objective.corrupt(text, MARKS, seed=0, pass_number=0) for text in texts))
    lanes = Lanes.of(rows.whole, lanes=6, seed=1)
    assert len(lanes.streams) == 8  # four shards, two directions
    both = {tuple(run) for text in texts for run in (text.tokens_T.tolist(), text.tokens_T[::-1].tolist())}
    joined = {"".join(f"{token} " for token in run) for run in both}
    went_on = 0
    for step in range(1, 2 * lanes.steps):
        before, here = (lanes.gather(rows.whole, range(6 * n, 6 * n + 6)) for n in (step - 1, step))
        for lane in range(6):
            remembered, read = (
                shard.tokens[shard.offsets[lane] :][:reuse].tolist() for shard in (before, here)
            )
            text = "".join(f"{token} " for token in remembered + read)
            assert here.continues[lane] == any(text in run for run in joined)
            went_on += int(here.continues[lane])
    assert went_on > 4 * lanes.steps


def test_instances_that_do_not_say_where_they_go_on_are_one_stream_a_shard():
    objective = BidirectionalLMObjective(max_seq_len=20)
    made = [
        objective.corrupt(shard_of(documents(5, seed=seed)), MARKS, seed=0, pass_number=0) for seed in (0, 1)
    ]
    empty = made[0].take(np.zeros(0, np.int64))
    rows = Prepared(made[0], empty, made[1])
    lanes = Lanes.of(rows.whole, lanes=2, seed=0)
    assert lanes.streams.tolist() == [len(made[0]), len(made[1])]
    assert lanes.gather(rows.whole, range(4)).same_as(rows.whole.gather(lanes.index(range(4))))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: lanes_of([], 2), "is the artifact empty"),
        (lambda: lanes_of([3, 0], 2), "each 1 or more"),
        (lambda: lanes_of([3], 0), "number of rows in a batch"),
        (lambda: lanes_of([3], 2).index([4, -1]), "sample number -1 is negative"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(bad, words):
    with pytest.raises(ValueError, match=words):
        bad()
