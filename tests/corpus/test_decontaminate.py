"""Documents that share an n-gram with an evaluation set are found, and only those."""

import json
import random
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import corpus.decontaminate as decontaminate
from corpus.decontaminate import (
    Contamination,
    EvaluationSets,
    evaluation_ngrams,
    find_contamination,
    read_contamination,
)
from corpus.evaluation_sets import EvaluationSet
from corpus.normalize import normalize
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.naive_quality import alone


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def written(path: Path, texts: list[str | list[str]]) -> str:
    path.write_text("".join(json.dumps({"text": t, "other": 1}) + "\n" for t in texts))
    return str(path)


def ngrams(store: Folder, **files: str) -> Artifact:
    sets = tuple(EvaluationSet.of(name, [file], ["text"]) for name, file in files.items())
    return run_step(evaluation_ngrams, EvaluationSets(sets=sets), store=store)


def found(contamination: Contamination, texts: list[str]) -> dict[str, list[int]]:
    return {
        name: counts.tolist() for name, counts in find_contamination(contamination, column(texts))[0].items()
    }


def naive_words(text: str) -> list[str]:
    words = []
    for c in text.lower():
        if unicodedata.category(c)[0] not in "LNM":
            words.append(" ")
        else:
            words.append(f" {c} " if alone(c) else c)
    return "".join(words).split()


def naive_grams(texts: list[str]) -> set[tuple[str, ...]]:
    grams = set()
    for text in texts:
        words = naive_words(text)
        worth = 2 if 2 * sum(len(w) == 1 and alone(w) for w in words) > len(words) else 1
        size = max((n * worth for n in (8, 10, 13) if n * worth <= len(words)), default=0)
        grams |= {tuple(words[i : i + size]) for i in range(len(words) - size + 1) if size}
    return grams


def naive_count(grams: set[tuple[str, ...]], text: str) -> int:
    words = naive_words(text)
    sizes = {len(g) for g in grams}
    return sum(tuple(words[i : i + n]) in grams for n in sizes for i in range(len(words) - n + 1))


def test_counts_are_those_of_the_definition_on_real_text(
    store: Folder, shared_data: Path, tmp_path: Path
) -> None:
    evaluation, texts = [], []
    for name in ("qa/squad_v1_dev_partA", "qa/cmrc2018_dev", "qa/xquad_ar_partA", "qa/xquad_hi_partA"):
        table = pq.read_table(shared_data / f"{name}.parquet", columns=["context", "question"]).slice(0, 40)
        evaluation += table.column("question").to_pylist() + table.column("context").to_pylist()[::9]
    rng = random.Random(2)
    for name in (
        "pretrain_en/wikipedia-00",
        "pretrain_zh/wikipedia-00",
        "pretrain_multi/ar",
        "pretrain_multi/hi",
    ):
        for text in (
            pq.read_table(shared_data / f"{name}.parquet", columns=["text"]).column("text").to_pylist()[:12]
        ):
            leak = rng.choice(evaluation) if rng.random() < 0.5 else ""
            texts.append(normalize(f"{text[:700]}\n{leak.upper()[: rng.randrange(400)]}\n{text[700:900]}"))
    contamination = read_contamination(ngrams(store, real=written(tmp_path / "e.jsonl", evaluation)))
    grams = naive_grams([normalize(t) for t in evaluation])
    expected = [naive_count(grams, t) for t in texts]
    assert found(contamination, texts) == {"real": expected}
    assert 10 < sum(n > 0 for n in expected) < 40
    assert len(contamination.hashes["real"]) == len(grams)


LONG = "the quick brown fox jumps over the lazy dog and then it sleeps under a tall tree"


def test_case_punctuation_and_line_breaks_do_not_hide_a_leak(store: Folder, tmp_path: Path) -> None:
    contamination = read_contamination(ngrams(store, fox=written(tmp_path / "f.jsonl", [LONG])))
    shown = "The quick, brown “fox” jumps -- over THE lazy dog;\nand then it sleeps (under a tree)"
    counts, shared = find_contamination(contamination, column(["no such words here", shown]))
    assert counts["fox"].tolist() == [0, 3]
    assert shared == {1: "the quick brown fox jumps over the lazy dog and then it sleeps"}


def test_twelve_shared_words_of_a_long_text_are_not_enough(store: Folder, tmp_path: Path) -> None:
    contamination = read_contamination(ngrams(store, fox=written(tmp_path / "f.jsonl", [LONG])))
    words = LONG.split()
    assert found(contamination, [" ".join(words[:12]), " ".join(words[:13])]) == {"fox": [0, 1]}


def test_short_texts_are_looked_for_down_to_eight_words(store: Folder, tmp_path: Path) -> None:
    words = LONG.split()
    artifact = ngrams(
        store, short=written(tmp_path / "s.jsonl", [" ".join(words[:8]), " ".join(words[9:16])])
    )
    assert artifact.counts == {"texts": 2, "too_short": 1, "ngrams": 1}
    contamination = read_contamination(artifact)
    assert found(contamination, [f"so {LONG}", " ".join(words[9:])]) == {"short": [1, 0]}


def test_chinese_is_compared_by_characters_also_inside_english(store: Folder, tmp_path: Path) -> None:
    question = "《三国演义》的作者是谁？他还写过哪些著名的小说作品，请分别说明。"
    contamination = read_contamination(ngrams(store, zh=written(tmp_path / "z.jsonl", [question])))
    inside = f"{LONG} {LONG} {question.replace('，', ' ')} {LONG}"
    assert found(contamination, [inside, question[:20], LONG]) == {"zh": [2, 0, 0]}


def test_no_n_gram_spans_two_documents(store: Folder, tmp_path: Path) -> None:
    contamination = read_contamination(ngrams(store, fox=written(tmp_path / "f.jsonl", [LONG])))
    words = LONG.split()
    assert found(contamination, [" ".join(words[:8]), " ".join(words[8:]), ""]) == {"fox": [0, 0, 0]}


def test_each_set_has_its_own_count(store: Folder, tmp_path: Path) -> None:
    other = LONG.replace("fox", "cat")
    files = {
        "fox": written(tmp_path / "f.jsonl", [LONG]),
        "cat": written(tmp_path / "c.jsonl", [[other, "x"]]),
    }
    artifact = ngrams(store, **files)
    counts = found(read_contamination(artifact), [other, LONG, f"{LONG} {other}"])
    assert [counts["cat"][0], counts["fox"][0], counts["cat"][1]] == [5, 1, 1]
    assert counts["fox"][2] == counts["cat"][2] == 6


def test_where_texts_are_cut_does_not_hide_a_leak(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contamination = read_contamination(ngrams(store, fox=written(tmp_path / "f.jsonl", [LONG])))
    monkeypatch.setattr(decontaminate, "PIECE_BYTES", 700)
    monkeypatch.setattr(decontaminate, "OVERLAP_BYTES", 200)
    monkeypatch.setattr(decontaminate, "BLOCK_BYTES", 500)
    texts = ["é" * k + " " + LONG + " ü" * 900 for k in range(0, 1600, 37)] + ["plain " * 400, "", LONG]
    hits = found(contamination, texts)["fox"]
    assert all(n >= 1 for n in hits[:-3])
    assert hits[-3:] == [0, 0, 5]


def test_a_set_is_named_by_its_content(store: Folder, tmp_path: Path) -> None:
    one, two = written(tmp_path / "one.jsonl", [LONG]), written(tmp_path / "two.jsonl", [LONG])
    assert ngrams(store, a=one).digest == ngrams(store, a=two).digest
    written(tmp_path / "two.jsonl", [LONG + "!"])
    assert ngrams(store, a=one).digest != ngrams(store, a=two).digest
    stale = EvaluationSet.of("not-yet-read", [one], ["text"])
    written(tmp_path / "one.jsonl", ["another text"])
    with pytest.raises(Exception, match=re.escape("changed since it was named")):
        run_step(evaluation_ngrams, EvaluationSets(sets=(stale,)), store=store)


def test_what_cannot_be_read_is_refused_in_one_sentence(store: Folder, tmp_path: Path) -> None:
    file = written(tmp_path / "f.jsonl", [LONG])
    with pytest.raises(ValueError, match="cannot be read"):
        EvaluationSet.of("a", [str(tmp_path / "none.jsonl")], ["text"])
    with pytest.raises(ValueError, match="is no file name"):
        EvaluationSet.of("a/b", [file], ["text"])
    with pytest.raises(ValueError, match="names no column"):
        EvaluationSet.of("a", [file], [])
    missing = EvaluationSets(sets=(EvaluationSet.of("a", [file], ["question"]),))
    with pytest.raises(Exception, match=re.escape("has no column 'question'; it has text, other")):
        run_step(evaluation_ngrams, missing, store=store)
    with pytest.raises(ValueError, match="each its own name"):
        EvaluationSets(sets=())
