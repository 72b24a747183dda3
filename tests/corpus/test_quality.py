"""The figures are the published definitions, and the presets judge what they were made for."""

import random
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus.quality.figures as figures_file
from corpus.normalize import normalize
from corpus.quality.c4 import C4
from corpus.quality.figures import basic_figures, measure
from corpus.quality.fineweb import FineWeb
from corpus.quality.forms import Form
from corpus.quality.gopher import Gopher
from corpus.quality.words import beginnings
from tests.corpus.naive_quality import naive

ENGLISH = (
    "It was the best of times, it was the worst of times. We have walked with them to the river and back again.\n"
    "Nobody who saw the town that year would ever have believed how quiet it could be on an autumn morning.\n"
    "The old man said nothing; he looked at the sky, and then he went into the house to find his coat and hat."
)


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def figures_of(texts: list[str], declared: bool = False) -> dict[str, Any]:
    return measure(column(texts), np.full(len(texts), declared))


def assert_as_defined(texts: list[str]) -> None:
    found = figures_of(texts, declared=True)
    for row, text in enumerate(texts):
        expected = naive(text, found["form"][row] == Form.UNSPACED)
        got = {name: found[name][row] for name in expected}
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-7), text[:80]


def fired(rules: Any, text: str, language: str = "en", declared: bool = True) -> set[str]:
    verdicts = rules.verdicts(figures_of([text], declared), np.array([language], object))
    return {v.rule for v in verdicts if v.fires[0]}


@pytest.mark.parametrize(
    "name",
    [
        "pretrain_en/docs-00", "pretrain_en/wikipedia-00", "pretrain_zh/wikipedia-00", "pretrain_zh/poetry-00",
        "pretrain_multi/ja", "pretrain_multi/ar", "pretrain_multi/hi", "pretrain_multi/ru", "pretrain_multi/vi",
    ],
)  # fmt: skip
def test_figures_of_real_text_are_the_published_definitions(shared_data: Path, name: str) -> None:
    texts = pq.read_table(shared_data / f"{name}.parquet", columns=["text"]).column("text").to_pylist()
    chosen = [normalize(t)[:6000] for t in random.Random(1).sample(texts, 10)]
    assert_as_defined(
        [t for c in chosen for t in (c, c[:300].strip(), (c[:150] + "\n" + c[:400] + "\n" + c[:150]).strip())]
    )


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                [
                    "the",
                    "The",
                    "a b",
                    "...",
                    "…",
                    "#",
                    "•",
                    "- ",
                    "漢字",
                    "かな。",
                    "ไทย",
                    "\n",
                    "{",
                    "9",
                    "é",
                    "😀",
                ]
            ),
            max_size=40,
        ).map(lambda parts: normalize(" ".join(parts))),
        max_size=4,
    )
)
def test_figures_of_made_up_text_are_the_published_definitions(texts: list[str]) -> None:
    assert_as_defined(texts)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=30).map(normalize), max_size=4))
def test_figures_of_any_text_are_the_published_definitions(texts: list[str]) -> None:
    assert_as_defined(texts)


def test_figures_of_a_document_do_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", ENGLISH, "漢字かな。" * 20, "a b a b a b", "", ENGLISH + "\n" + ENGLISH, "...", "."]
    together = figures_of(texts)
    for block in (1, 100, 1000):
        monkeypatch.setattr(figures_file, "BLOCK_BYTES", block)
        cut = figures_of(texts)
        assert all((cut[k] == together[k]).all() for k in together)
    sliced = measure(column(["x", *texts, "y"]).slice(1, len(texts)), np.zeros(len(texts), np.bool_))
    assert all((sliced[k] == together[k]).all() for k in together)


def test_a_text_beyond_the_measured_size_is_measured_on_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["é" * 50, "short", "漢字" * 30 + " end"]
    assert beginnings(column(texts), 33).to_pylist() == ["é" * 16, "short", "漢字" * 5 + "漢"]
    monkeypatch.setattr(figures_file, "MEASURED_BYTES", 33)
    found = figures_of(texts)
    assert found["size_bytes"].tolist() == [100, 5, 184]
    assert found["words"].tolist() == [1, 1, 11]


def test_basic_figures_are_those_of_the_whole_set() -> None:
    texts = [ENGLISH, "", "1 2 3", "漢字 9"]
    whole = figures_of(texts)
    assert all((basic_figures(column(texts))[k] == whole[k]).all() for k in ("size_bytes", "letter_share"))


def test_no_documents_have_no_figures() -> None:
    assert {len(v) for v in figures_of([]).values()} == {0}


def test_bad_words_are_whole_and_in_any_case() -> None:
    found = measure(column(["Darn it, DARN!", "darned", "oh heck"]), np.zeros(3, np.bool_), ["darn", "heck"])
    assert found["bad_words"].tolist() == [2, 0, 1]
    verdicts = {
        v.rule: v.fires.tolist() for v in C4(max_bad_words=0).verdicts(found, np.array(["en"] * 3, object))
    }
    assert verdicts["c4.bad_words"] == [True, False, True]


PADDING = " ".join(f"word{i}x" for i in range(60))
GOPHER_CASES = {
    "gopher.words": "Too few words to say that.",
    "gopher.mean_word_length": "a of to I x " * 30,
    "gopher.hash_ratio": ENGLISH + " #" * 12,
    "gopher.ellipsis_ratio": ENGLISH + " ..." * 12,
    "gopher.bullet_lines": "\n".join(f"- {w} and that" for w in PADDING.split()),
    "gopher.ellipsis_lines": "\n".join(f"{w} and that..." for w in PADDING.split()),
    "gopher.alphabetic_words": ENGLISH + " " + " ".join(map(str, range(60))),
    "gopher.stop_words": PADDING,
    "gopher.duplicate_lines": ENGLISH + "\n" + "\n".join(["Once more."] * 3),
    "gopher.duplicate_line_characters": ENGLISH + "\n" + ENGLISH.split("\n")[1],
    "gopher.top_2_grams": ENGLISH + " " + " ".join(f"yes maybe {i}" for i in range(20)),
    "gopher.top_3_grams": ENGLISH + " " + " ".join(f"yes we can {i}" for i in range(20)),
    "gopher.top_4_grams": ENGLISH + " " + " ".join(f"yes we can go {i}" for i in range(20)),
    **{f"gopher.duplicate_{n}_grams": ENGLISH + "\n" + ENGLISH[:150] for n in range(5, 11)},
}


@pytest.mark.parametrize(("rule", "text"), GOPHER_CASES.items(), ids=list(GOPHER_CASES))
def test_each_rule_of_gopher_fires_on_its_case_and_not_on_prose(rule: str, text: str) -> None:
    assert rule in fired(Gopher(), text)
    assert fired(Gopher(), ENGLISH) == set()


def test_each_rule_of_c4_fires_on_its_case_and_not_on_prose() -> None:
    assert fired(C4(), ENGLISH) == set()
    assert fired(C4(), ENGLISH + " Lorem ipsum dolor sit amet.") == {"c4.lorem_ipsum"}
    assert fired(C4(), ENGLISH + " { }") == {"c4.curly_brackets"}
    assert fired(C4(), "One of them is here now. Two of them are here.") == {"c4.sentences"}
    assert fired(C4(), ENGLISH.replace(".", ",")) == {"c4.sentences"}
    assert fired(C4(), ENGLISH.replace("the ", "the JavaScript ")) == {"c4.sentences"}
    assert fired(C4(), ENGLISH.replace("the ", "the cookie policy ")) == {"c4.sentences"}


def test_each_rule_of_fineweb_fires_on_its_case_and_not_on_prose() -> None:
    assert fired(FineWeb(), ENGLISH) == set()
    assert fired(FineWeb(), ENGLISH.replace(".\n", "\n")[:-1]) == {"fineweb.terminal_lines"}
    assert fired(FineWeb(), ENGLISH + "\nYes, he did. And what then." * 9) >= {"fineweb.short_lines"}
    assert fired(FineWeb(), "Home.\nNews.\nOur shop.\nAbout us here.") >= {"fineweb.list_ratio"}
    assert fired(FineWeb(), ENGLISH + "\n" + ENGLISH.split("\n")[0]) == {"fineweb.duplicate_line_characters"}


def test_n_gram_limits_are_higher_outside_english() -> None:
    text = ENGLISH + "\n" + ENGLISH[:150]
    assert "gopher.duplicate_5_grams" in fired(Gopher(), text, "en")
    assert "gopher.duplicate_5_grams" not in fired(Gopher(), text, "de")
    assert "gopher.duplicate_5_grams" in fired(Gopher(), (ENGLISH + "\n") * 3, "de")
    assert "gopher.duplicate_5_grams" in fired(Gopher(outside_english=1), text, "de")


def test_a_figure_equal_to_its_limit_is_kept() -> None:
    lines = [f"Number {i} is quite a long line that says nothing new at all to anyone" for i in range(10)]
    text = "\n".join([line + "..." if i < 3 else line + "." for i, line in enumerate(lines)])
    assert figures_of([text])["ellipsis_lines"][0] == np.float32(0.3)
    assert "gopher.ellipsis_lines" not in fired(Gopher(), text)
    assert "gopher.ellipsis_lines" in fired(Gopher(max_ellipsis_lines=0.29), text)


def test_a_rule_that_is_none_is_left_out() -> None:
    off = replace(Gopher(), **{f.name: None for f in fields(Gopher)})
    assert list(off.verdicts(figures_of([""]), np.array(["en"], object))) == []


@pytest.mark.parametrize("rules", [Gopher, C4, FineWeb])
def test_a_limit_below_zero_is_refused(rules: Any) -> None:
    name = fields(rules)[0].name
    with pytest.raises(ValueError, match=f"{name} is -1"):
        rules(**{name: -1})


ALL_RULES = (Gopher(), C4(), FineWeb())


@pytest.mark.parametrize(
    ("name", "language", "share"),
    [
        ("pretrain_zh/wikipedia-00", "zh", 0.03), ("pretrain_multi/ja", "ja", 0.03), ("pretrain_multi/ar", "ar", 0.2),
        ("pretrain_zh/laws-00", "zh", 0.1), ("pretrain_zh/classical-00", "zh", 0.05), ("pretrain_multi/sw", "sw", 0.03),
        ("pretrain_multi/hi", "hi", 0.05), ("pretrain_multi/bn", "bn", 0.05), ("pretrain_multi/ru", "ru", 0.05),
        ("pretrain_multi/de", "de", 0.05), ("pretrain_en/wikipedia-00", "en", 0.05), ("pretrain_en/books-00", "en", 0.05),
    ],
)  # fmt: skip
def test_good_text_passes_all_rules_in_every_script(
    shared_data: Path, name: str, language: str, share: float
) -> None:
    """Edited text: only a stated share may be dropped, whatever the script. Curly brackets of wiki markup aside."""
    texts = pq.read_table(shared_data / f"{name}.parquet", columns=["text"]).column("text").to_pylist()[:150]
    found = figures_of([normalize(t) for t in texts], declared=True)
    dropped = np.zeros(len(texts), np.bool_)
    for rules in (Gopher(), C4(max_curly_brackets=None), FineWeb()):
        for verdict in rules.verdicts(found, np.full(len(texts), language, object)):
            dropped |= verdict.fires
    assert dropped.mean() <= share


THAI = "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอนหรือวรรณยุกต์เช่นเดียวกับภาษาจีน และออกเสียงแยกคำต่อคำ " * 2


def test_thai_is_not_judged_by_full_stops_or_spaces() -> None:
    other = "กรุงเทพมหานครเป็นเมืองหลวงและนครที่มีประชากรมากที่สุดของประเทศไทย เป็นศูนย์กลางการปกครอง การศึกษา"
    text = normalize(f"{THAI[:90]}\n{other}\nประเทศไทยมีพื้นที่กว้างใหญ่และมีภูเขาสูงทางภาคเหนือของประเทศ")
    assert figures_of([text])["form"][0] == Form.UNSPACED
    assert set().union(*(fired(r, text, "th") for r in ALL_RULES)) == set()


def test_code_and_sequences_are_told_from_prose_and_not_judged(shared_data: Path) -> None:
    python = normalize(Path(np.__file__).parent.joinpath("matrixlib/defmatrix.py").read_text())
    dna = pq.read_table(shared_data / "dna/gene_family_chimp.parquet").column("sequence")[0].as_py()
    spaced = " ".join(dna[i : i + 6] for i in range(0, 600, 6))
    protein = pq.read_table(shared_data / "protein/flip_ss3_valid.parquet").column("sequence")[0].as_py()
    texts = [
        "for (i = 0; i < n; i++) { a[i] = f(b[i]) + c[i]; }\n" * 5 + python[:500],
        dna,
        spaced,
        protein,
        ENGLISH,
    ]
    form = figures_of(texts)["form"].tolist()
    assert form == [Form.CODE, Form.SEQUENCE, Form.SEQUENCE, Form.SEQUENCE, Form.SPACED]
    for text in texts:
        assert set().union(*(fired(r, text, "und", declared=False) for r in ALL_RULES)) == set()
    assert fired(Gopher(), dna, "en", declared=True) >= {"gopher.words", "gopher.mean_word_length"}
