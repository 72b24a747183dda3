"""Every drop has a reason, and the first reason that applies names it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.columns import byte_set, mark, per_document, utf8
from corpus.filters import REASONS, FilterConfig, judge


def verdicts(texts: list[str], **bounds: float) -> list[str]:
    return [REASONS[v] for v in judge(FilterConfig(**bounds), pa.array(texts, pa.large_string()))]  # type: ignore[arg-type]


def test_each_rule_names_its_drop() -> None:
    texts = [
        "A sentence of words.",
        "",
        "tiny",
        "1+2=3; {4}[5] != 6 ...",
        "word " * 9,
        "汉字也是字。汉字也是字。",
    ]
    expected = ["kept", "too_short", "too_short", "mostly_symbols", "too_long", "kept"]
    assert verdicts(texts, min_bytes=10, max_bytes=40) == expected


def test_the_verdict_on_a_text_does_not_depend_on_its_neighbours() -> None:
    texts = ["", "One text of words.", "", "", "1 2 3 4 5 6 7 8 9 0 1 2 3", "Another text here.", ""]
    alone = [verdicts([t], min_bytes=10)[0] for t in texts]
    assert verdicts(texts, min_bytes=10) == alone
    column = pa.array(texts, pa.large_string())
    sliced = judge(FilterConfig(min_bytes=10), column.slice(2, 4))
    assert [REASONS[v] for v in sliced] == alone[2:6]


def test_no_documents_is_no_verdict() -> None:
    assert verdicts([]) == []


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), max_size=8))
def test_counting_marked_bytes_equals_counting_one_by_one(texts: list[str]) -> None:
    offsets, data = utf8(pa.array(texts, pa.large_string()))
    counts = per_document(mark(data, byte_set(b"aeiou\xc3")), offsets)
    assert counts.tolist() == [sum(b in b"aeiou\xc3" for b in t.encode()) for t in texts]


def test_nulls_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="1 of 2 texts are null; drop them first"):
        judge(FilterConfig(), pa.array(["a", None], pa.large_string()))


@pytest.mark.parametrize(
    "bounds", [{"min_bytes": 0}, {"min_bytes": 9, "max_bytes": 8}, {"min_letter_share": 1.5}]
)
def test_bounds_that_cannot_be_kept_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"min_|max_"):
        FilterConfig(**bounds)  # type: ignore[arg-type]


def test_verdicts_are_small() -> None:
    assert judge(FilterConfig(), pa.array(["x"], pa.large_string())).dtype == np.uint8
