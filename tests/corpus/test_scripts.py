"""Letters are counted by the script that Unicode names them for."""

import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from corpus.columns import utf8
from corpus.scripts import (
    BLOCKS,
    SCRIPTS,
    UNSPACED,
    code_points,
    columns_of,
    is_unspaced,
    script_counts,
    script_of,
)

NAMES = {"Kana": ("HIRAGANA", "KATAKANA"), "Han": ("CJK UNIFIED", "CJK COMPATIBILITY")}


def counts_of(texts: list[str]) -> np.ndarray:
    offsets, data = utf8(pa.array(texts, pa.large_string()))
    return script_counts(data, offsets)


def test_letters_are_of_the_script_in_their_name() -> None:
    """Of the letters that Unicode names after one of our scripts, all in its main blocks are counted for it."""
    for script, blocks in BLOCKS.items():
        names = NAMES.get(script, (script.upper(),))
        letters = [
            chr(c)
            for first, last in blocks
            for c in range(first, min(last, first + 2000) + 1)
            if unicodedata.category(chr(c))[0] == "L" and unicodedata.name(chr(c), "").startswith(names)
        ]
        assert len(letters) > 25
        counts = counts_of(["".join(letters)])
        assert columns_of(counts, script).tolist() == [len(letters)]
        assert counts.sum() == len(letters)


def test_each_document_has_its_own_counts() -> None:
    counts = counts_of(["", "abc Я", "漢字かな", "", "x"])
    assert columns_of(counts, "Latin").tolist() == [0, 3, 0, 0, 1]
    assert columns_of(counts, "Cyrillic", "Han").tolist() == [0, 1, 2, 0, 0]
    assert columns_of(counts, "Kana").tolist() == [0, 0, 2, 0, 0]


@given(st.text(max_size=20))
def test_characters_beyond_ascii_are_found_and_decoded(text: str) -> None:
    _, data = utf8(pa.array([text], pa.large_string()))
    at, script = script_of(data)
    assert code_points(data, at).tolist() == [ord(c) for c in text if ord(c) > 127]
    assert len(at) == len(script)


def test_which_scripts_have_no_spaces() -> None:
    numbers = np.arange(len(SCRIPTS) + 1)
    assert [SCRIPTS[n - 1] for n in numbers[is_unspaced(numbers)]] == [s for s in SCRIPTS if s in UNSPACED]
