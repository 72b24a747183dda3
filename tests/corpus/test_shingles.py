"""Shingles of columns are the sets that a Python loop over characters makes, in every script."""

import random
from itertools import combinations, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus.near.shingles import shared, shingle_blocks, shingle_sets
from corpus.near.units import SHINGLE_WEIGHT, WEIGHTS
from tests.corpus.near_text import naive_jaccard, naive_shingles, texts_of

ALPHABET = [*"aB cé,.ßİΣς 3恐慌，カなไทยກຂកខမβж\n\u0301😀-'", " the ", " of ", " and ", "x" * 41, "y" * 40]


def sets(texts: list[str]) -> list[set[int]]:
    return [set(s.tolist()) for s in shingle_sets(pa.array(texts, pa.large_string()))]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ALPHABET), max_size=40).map("".join), max_size=6))
@example([""])
@example(["", "a", "", "恐", "a b c d e", "A, B; c d e!", "a b c d e 恐慌恐"])
def test_shingles_are_those_of_the_definition(texts: list[str]) -> None:
    ours, naive = sets(texts), [naive_shingles(t) for t in texts]
    assert [len(s) for s in ours] == [len(s) for s in naive]
    for (a, x), (b, y) in combinations(zip(ours, naive, strict=True), 2):
        assert len(a & b) == len(x & y)


@pytest.mark.parametrize("name", ["pretrain_en/books-00", "pretrain_zh/laws-00", "pretrain_multi/hi"])
def test_jaccard_of_real_texts_is_that_of_python_sets(shared_data: Path, name: str) -> None:
    texts = texts_of(shared_data, name, 12, 1500)
    texts += [t[:1100] + u[:400] for t, u in pairwise(texts)]
    arrays = shingle_sets(pa.array(texts, pa.large_string()))
    similar = 0
    for (a, x), (b, y) in combinations(zip(texts, arrays, strict=True), 2):
        common = shared(x, y)
        assert common / (len(x) + len(y) - common) == naive_jaccard(a, b)
        similar += common > 50
    assert len(texts) == 23
    assert similar >= 11


def test_a_document_has_the_same_shingles_in_any_company(shared_data: Path) -> None:
    english = texts_of(shared_data, "pretrain_en/books-00", 40, 20_000)
    assert all(t.isascii() for t in english[:1]), "the first is read as bytes when it is alone"
    mixed = [english[0], "恐慌" * 500, *english[1:], ""]
    together = sets(mixed)
    assert together[:3] == [sets([t])[0] for t in mixed[:3]]
    assert len(list(shingle_blocks(pa.array(mixed, pa.large_string())))) > 2


def test_case_punctuation_and_line_breaks_do_not_count() -> None:
    a, b, c = sets(
        ["It's 5 o'clock: TEA, please.", "it s 5 O clock\ntea (please)", "It's 6 o'clock: tea, please."]
    )
    assert a == b
    assert len(a) == 3
    assert a != c


def test_a_short_text_is_one_shingle_and_a_text_without_letters_none() -> None:
    assert [len(s) for s in sets(["One two, three.", "恐慌", "", "😀", "... --- ..."])] == [1, 1, 0, 0, 0]


def test_eight_characters_are_five_words_of_chinese(shared_data: Path) -> None:
    """The length for Han is measured on a treebank with words, not guessed."""
    words = [
        w
        for row in pq.read_table(shared_data / "pos/zh_gsd_train_v1.parquet").to_pylist()
        for w, tag in zip(row["tokens"], row["upos"], strict=True)
        if tag not in ("PUNCT", "SYM", "X") and not w.isascii()
    ]
    per_word = sum(map(len, words)) / len(words)
    assert SHINGLE_WEIGHT / int(WEIGHTS[1]) == 5
    assert abs(5 * per_word - SHINGLE_WEIGHT / int(WEIGHTS[2])) < 0.5


def test_sequences_without_words_are_compared_letter_by_letter() -> None:
    rng = random.Random(3)
    one, other = ("".join(rng.choices("ACGT", k=6000)) for _ in range(2))
    changed = one[:3000] + ("A" if one[3000] != "A" else "C") + one[3001:]
    wrapped = "\n".join(one[i : i + 60] for i in range(0, 6000, 60))
    a, b, c, d = shingle_sets(pa.array([one, changed, wrapped, other], pa.large_string()))
    assert len(a) == 6000 - 15
    assert shared(a, b) == len(a) - 16
    assert shared(a, c) == len(a)
    assert shared(a, d) <= 1
