"""Equal spans have equal hashes wherever they lie, and different spans different ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpus.rolling import byte_values, mix, prefix, span


@given(st.binary(max_size=60))
def test_two_spans_have_one_hash_if_and_only_if_they_are_equal(data: bytes) -> None:
    hashes = prefix(byte_values()[np.frombuffer(data, np.uint8)])
    begin, end = np.triu_indices(len(data) + 1)
    found: dict[int, bytes] = {}
    for b, e, h in zip(begin.tolist(), end.tolist(), span(hashes, begin, end).tolist(), strict=True):
        assert found.setdefault(h, data[b:e]) == data[b:e]
    assert len(found) == len({data[b:e] for b, e in zip(begin.tolist(), end.tolist(), strict=True)})


def test_bytes_that_do_not_count_leave_the_hash_alone() -> None:
    data = np.frombuffer(b"one two one  two", np.uint8)
    hashes = prefix(byte_values(b" ")[data])
    at, end = np.array([0, 4, 8, 13]), np.array([4, 8, 13, 16])
    found = span(hashes, at, end).tolist()
    assert found == [found[0], found[1], found[0], found[1]]
    assert found[0] != found[1]


def test_mixing_is_a_bijection_that_spreads_single_bits() -> None:
    values = np.arange(1 << 16, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)
    flipped = mix(values) ^ mix(values ^ np.uint64(1))
    assert 28 < np.bitwise_count(flipped).mean() < 36
