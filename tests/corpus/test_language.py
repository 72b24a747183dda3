"""Languages are found as the library finds them, faster; what is no language is undetermined."""

import random
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

import corpus.language as language_file
from corpus.language import READ_BYTES, _by_model, identify, primary_tag
from corpus.normalize import normalize

# Tatoeba's three-letter tags (shared/data) -> BCP 47
TWO_LETTERS = {
    "afr": "af", "aze": "az", "bel": "be", "bul": "bg", "cat": "ca", "ces": "cs", "dan": "da", "epo": "eo", "est": "et",
    "eus": "eu", "gle": "ga", "isl": "is", "lit": "lt", "lvs": "lv", "pes": "fa", "ron": "ro", "sqi": "sq", "swe": "sv",
    "tgl": "tl", "uig": "ug", "urd": "ur", "kat": "ka", "khm": "km", "mal": "ml", "cym": "cy", "kaz": "kk", "tam": "ta",
    "tel": "te", "amh": "am",
}  # fmt: skip
COMMON = [
    "ar",
    "bn",
    "de",
    "el",
    "es",
    "fi",
    "fr",
    "he",
    "hi",
    "hu",
    "hy",
    "it",
    "ja",
    "ko",
    "mr",
    "nl",
    "pl",
    "pt",
    "ru",
    "sw",
    "th",
    "tr",
    "uk",
    "vi",
    "zh",
]


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def languages(texts: list[str]) -> list[str]:
    return identify(column(texts))[0].to_pylist()


def sentences(shared_data: Path, each: int) -> dict[str, list[str]]:
    table = pq.read_table(shared_data / "parallel/tatoeba_112langs.parquet")
    found: dict[str, list[str]] = {}
    for tag, text in zip(table.column("tgt_lang").to_pylist(), table.column("tgt").to_pylist(), strict=True):
        found.setdefault(TWO_LETTERS.get(tag, tag), []).append(normalize(text))
    return {tag: texts[:each] for tag, texts in found.items()}


def test_short_sentences_in_fifty_languages(shared_data: Path) -> None:
    right, every = {}, sentences(shared_data, 150)
    for tag in (*COMMON, *TWO_LETTERS.values()):
        right[tag] = np.mean([found == tag for found in languages(every[tag])])
    assert len(right) == 54
    assert np.mean(list(right.values())) >= 0.93
    assert np.mean([right[tag] for tag in COMMON]) >= 0.95
    assert min(right.values()) >= 0.7


def test_long_texts_in_fourteen_languages(shared_data: Path) -> None:
    wrong, count = [], 0
    for file in sorted(shared_data.glob("pretrain_*/*.parquet")):
        table = pq.read_table(file, columns=["text", "lang"]).slice(0, 25)
        for text, tag in zip(table.column("text").to_pylist(), table.column("lang").to_pylist(), strict=True):
            count += 1
            found, score = identify(column([normalize(text)]))
            if found[0].as_py() != tag.split("-")[0].replace("lzh", "zh") or score[0] < 0.5:
                wrong.append((file.stem, text[:40]))
    assert count > 500
    assert len(wrong) <= 0.01 * count, wrong


def test_answers_and_scores_are_those_of_the_library(shared_data: Path) -> None:
    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    texts = [t for ts in sentences(shared_data, 6).values() for t in ts]
    texts += ["SHOUTING IN CAPITALS ALL DAY", "ok", "1 2 3", "?!", "Cafe\u0301"]
    tags, scores = _by_model(texts)
    for text, tag, score in zip(texts, tags, scores, strict=True):
        theirs: dict[str, float] = {}  # dialects and orthographies count for their language
        for label, probability in library.rank(text):
            label = language_file._TAGS.get(label, label)
            theirs[label] = theirs.get(label, 0) + probability
        known = (
            score > 0
        )  # else the text has no feature of the model, which gives all languages one probability
        assert score == pytest.approx(max(theirs.values()) if known else 0, abs=1e-3)
        assert not known or score == pytest.approx(theirs[tag], abs=1e-3)
    assert len(texts) > 600
    assert (scores > 0).mean() > 0.99


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(max_size=40).map(normalize), max_size=6), st.randoms())
def test_an_answer_depends_on_nothing_but_its_text(texts: list[str], rng: random.Random) -> None:
    texts = [
        *texts,
        "This sentence is English.",
        "",
        "Ceci est une phrase en français.",
        "これは日本語です。",
    ]
    found, scores = identify(column(texts))
    order = list(range(len(texts)))
    rng.shuffle(order)
    again, others = identify(column([texts[i] for i in order]))
    assert again.to_pylist() == [found[i].as_py() for i in order]
    assert others.tolist() == [scores[i] for i in order]
    assert found.to_pylist()[-4:] == ["en", "und", "fr", "ja"]


def test_only_the_beginning_is_read() -> None:
    begin = "All of this is written in English, and so is what comes next. " * (READ_BYTES // 60 + 1)
    assert languages([begin + "Aber das Ende ist auf Deutsch geschrieben. " * 200]) == ["en"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("我们今天去公园散步。", "zh"), ("學而時習之，不亦說乎？", "zh"), ("昨日は友達と映画を見ました。", "ja"),
        ("カタカナダケノテキスト", "ja"), ("오늘은 날씨가 좋습니다.", "ko"), ("วันนี้อากาศดีมาก", "th"), ("ປະເທດລາວ", "lo"),
        ("საქართველო ლამაზია", "ka"), ("我喜欢用 Python 和 TensorFlow 写程序，很方便。", "zh"), ("தமிழ் மொழி", "ta"),
    ],
)  # fmt: skip
def test_a_script_of_one_language_decides(text: str, tag: str) -> None:
    found, scores = identify(column([text]))
    assert found.to_pylist() == [tag]
    assert scores[0] >= 0.5


@pytest.mark.parametrize(
    "text", ["", "12 34 56.78", "!!! ??? ...", "😀😀😀", "→ ← ↑ ↓", "ACGT" * 40, "x = f(y[0]); {a: b}" * 9]
)
def test_what_is_no_language_is_undetermined(text: str) -> None:
    found, scores = identify(column([text]))
    assert found.to_pylist() == ["und"]
    assert scores.dtype == np.float32


def test_sequences_are_undetermined(shared_data: Path) -> None:
    for name in ("dna/splice_dev", "dna/gene_family_chimp", "protein/flip_ss3_valid"):
        table = pq.read_table(shared_data / f"{name}.parquet", columns=["sequence"]).slice(0, 100)
        assert set(languages(table.column("sequence").to_pylist())) == {"und"}


def test_dense_code_is_undetermined() -> None:
    header = Path(sysconfig.get_path("include"), "object.h").read_text()
    code = "\n".join(line for line in header.split("\n") if line.startswith(("#", "    ", "Py")))
    assert languages([normalize(code)]) == ["und"]


def test_no_texts_have_no_languages() -> None:
    found, scores = identify(column([]))
    assert (len(found), len(scores)) == (0, 0)


def test_primary_tags() -> None:
    assert [primary_tag(t) for t in ("zh-Hans", "EN", "", "und")] == ["zh", "en", "und", "und"]
