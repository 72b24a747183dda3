"""Counting kept rows, languages smoothed, counts that do not fit: what every vocabulary is trained from."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.document import Document, document_id, to_table, write_table
from corpus.rows import write_rows
from corpus.vocabulary.counts import BY_LANGUAGE, COUNTS_FILE, SCHEMA, exact_sum, merge_counts, read_counts
from corpus.vocabulary.smoothing import SHIFT, language_factors, smooth
from corpus.wordpiece.train import WordPieceConfig, learn_vocabulary, signed_counts, train_wordpiece
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

# part -> rows of (text, declared language, annotated language, kept)
ROWS = {
    "p000": [
        ("the cat the cat", "und", "en", True),
        ("spam spam spam spam", "und", "en", False),
        ("der hund", "und", "de", True),
    ],
    "p001": [("the cat sat", "und", "en", True), ("", "und", "und", True), ("katze hund", "und", "de", True)],
    "p002": [("spam", "und", "en", False)],
}


def make_documents(config: int, *, out: Output) -> Counts:
    for part, rows in ROWS.items():
        table = to_table(
            [Document(document_id(t), t, "", "s", "f", i, d) for i, (t, d, *_) in enumerate(rows)]
        )
        with out.writer(f"{part}.parquet") as path:
            write_table(path, table)
    return {}


def make_attributes(config: int, *, out: Output) -> Counts:
    for part, rows in ROWS.items():
        with out.writer(f"{part}.parquet") as path:
            write_table(path, pa.table({"language": [language for *_, language, _ in rows]}))
    return {}


def make_kept(config: int, *, out: Output) -> Counts:
    for part, rows in ROWS.items():
        with out.writer(f"{part}.rows") as path:
            write_rows(path, np.flatnonzero([kept for *_, kept in rows]).astype(np.int64))
    return {}


@pytest.fixture
def inputs(store: Folder) -> dict[str, Artifact]:
    makers = {"documents": make_documents, "attributes": make_attributes, "kept": make_kept}
    return {name: run_step(maker, 0, store=store) for name, maker in makers.items()}


def counts_of(artifact: Artifact) -> dict[str, int]:
    return dict(zip(*read_counts(artifact.path(COUNTS_FILE)).to_pydict().values(), strict=True))


def test_only_kept_rows_are_counted(store: Folder, inputs: dict[str, Artifact]) -> None:
    config = WordPieceConfig(vocab_size=32, min_frequency=1)
    artifact = run_step(
        train_wordpiece, config, store=store, documents=inputs["documents"], kept=inputs["kept"]
    )
    assert counts_of(artifact) == {"the": 3, "cat": 3, "der": 1, "hund": 2, "katze": 1, "sat": 1}
    assert artifact.counts["documents"] == 5
    assert artifact.counts["words"] == 11
    assert all("p" not in entry for entry in artifact.read("vocab.txt").decode().split("\n")[5:])
    everything = run_step(train_wordpiece, config, store=store, documents=inputs["documents"])
    assert counts_of(everything)["spam"] == 5


def test_the_step_smooths_by_annotated_language(store: Folder, inputs: dict[str, Artifact]) -> None:
    config = WordPieceConfig(vocab_size=32, min_frequency=1, smoothing=0.0)
    artifact = run_step(train_wordpiece, config, store=store, **inputs)
    tables = [read_counts(artifact.path(name)) for name in artifact.names("words/")]
    assert all(table.schema.equals(BY_LANGUAGE) for table in tables)
    smoothed = smooth(merge_counts(tables), 0.0)
    # 7 English and 4 German words, each language now 5.5: the 3 = 2.36, hund 2 = 2.75, der 1 = 1.375, sat 1 = 0.79
    wanted = {"cat": 2, "der": 1, "hund": 3, "katze": 1, "sat": 1, "the": 2}
    assert dict(zip(*smoothed.to_pydict().values(), strict=True)) == wanted
    assert counts_of(artifact)["the"] == 3  # what drift is measured against stays as counted
    learned = learn_vocabulary(smoothed, WordPieceConfig(vocab_size=32, min_frequency=1))
    assert artifact.read("vocab.txt").decode().split("\n")[:-1] == learned


def test_the_exponent_of_mbert() -> None:
    totals = {"en": 1_000_000, "sw": 1_000}
    factors = language_factors(totals, 0.7)
    shares = {
        language: total * factors[language] / sum(totals.values()) for language, total in totals.items()
    }
    p = 1_000 / 1_001_000
    assert shares["sw"] / sum(shares.values()) == pytest.approx(p**0.7 / (p**0.7 + (1 - p) ** 0.7), rel=1e-5)
    assert sum(shares.values()) == pytest.approx(1 << SHIFT, rel=1e-5)
    assert language_factors({"en": 7, "de": 4, "xx": 0}, 1.0) == {"en": 1 << SHIFT, "de": 1 << SHIFT}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["de", "en", "sw"])),
        st.integers(1, 2**36),
        min_size=1,
    ),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
def test_smoothed_counts_are_as_stated(counts: dict[tuple[str, str], int], exponent: float) -> None:
    words = [word for word, _ in counts]
    table = pa.table([words, list(counts.values()), [language for _, language in counts]], schema=BY_LANGUAGE)
    totals: dict[str, int] = {}
    for (_, language), count in counts.items():
        totals[language] = totals.get(language, 0) + count
    factors = language_factors(totals, exponent)
    wanted = {}
    for word in sorted(set(words)):
        exact = sum(Fraction(c * factors[lang], 1 << SHIFT) for (w, lang), c in counts.items() if w == word)
        if rounded := int(exact + Fraction(1, 2)):
            wanted[word] = rounded
    assert dict(zip(*smooth(table, exponent).to_pydict().values(), strict=True)) == wanted
    if exponent == 1.0:
        assert wanted == {w: sum(c for (v, _), c in counts.items() if v == w) for w in set(words)}


def test_factors_are_rounded_from_exact_arithmetic() -> None:
    factors = language_factors({"en": 3, "de": 1}, 0.5)
    root = Decimal(3).sqrt()
    assert factors["de"] == int((4 / (1 + root) * (1 << SHIFT)).to_integral_value())
    assert factors["en"] == int((4 * root / (1 + root) / 3 * (1 << SHIFT)).to_integral_value())


def test_an_overflow_is_refused_and_not_wrapped() -> None:
    large = pa.table([["a", "b"], [2**63, 2**62]], schema=SCHEMA)
    assert exact_sum(large["count"]) == 2**63 + 2**62
    assert merge_counts([large])["count"].to_pylist() == [2**63, 2**62]
    with pytest.raises(ValueError, match="more than 64 bits hold"):
        merge_counts([large, large])
    with pytest.raises(ValueError, match="63 bits"):
        signed_counts(large)
    fits = pa.table([["a", "ab"], [2**60, 2**60]], schema=SCHEMA)
    assert signed_counts(fits).tolist() == [2**60, 2**60]
    with pytest.raises(ValueError, match="too many to smooth"):
        smooth(large.append_column("language", pa.array(["en", "de"])), 0.7)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_a_bad_exponent_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"smoothing={smoothing} must be between 0"):
        WordPieceConfig(smoothing=smoothing)
