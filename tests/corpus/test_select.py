"""Every document is kept, or dropped for a reason that is counted and can be read."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus.annotate import AnnotateConfig, annotate
from corpus.decontaminate import EvaluationSets, evaluation_ngrams
from corpus.document import Document, document_id
from corpus.evaluation_sets import EvaluationSet
from corpus.normalize import normalize
from corpus.quality.c4 import C4
from corpus.quality.fineweb import FineWeb
from corpus.quality.gopher import Gopher
from corpus.rows import read_kept, read_rows
from corpus.select import DROPPED, SHOWN_CHARACTERS, SelectConfig, select
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.test_annotate import artifact
from tests.corpus.test_quality import ENGLISH

BASIC = SelectConfig(min_bytes=10, max_bytes=2000)
GERMAN = "Dieser Text handelt vom Wetter und ist auf Deutsch geschrieben worden."


def document(text: str, title: str, language: str = "und") -> Document:
    return Document(document_id(text), text, title, "made-up", f"{title}.txt", 7, language)


def selected(
    store: Folder, config: SelectConfig, parts: list[list[Document]], contamination: Artifact | None = None
) -> tuple[Artifact, Artifact]:
    documents = artifact(store, parts)
    attributes = run_step(annotate, AnnotateConfig(), store=store, documents=documents)
    inputs = {"documents": documents, "attributes": attributes, "contamination": contamination}
    return run_step(select, config, store=store, **inputs), documents


def dropped(result: Artifact) -> dict[str, dict[str, object]]:
    names = [n for n in result.names() if n.endswith(".dropped.parquet")]
    return {r["title"]: r for n in names for r in pq.read_table(result.path(n)).to_pylist()}


def test_each_basic_limit_names_its_drop(store: Folder) -> None:
    parts = [
        [document("A sentence of words.", "good"), document("tiny", "tiny"), document("", "empty")],
        [
            document("1+2=3; {4}[5] != 6 ...", "sums"),
            document("word " * 500, "long"),
            document("汉字也是字。" * 2, "汉字"),
        ],
        [],
    ]
    result, documents = selected(store, BASIC, parts)
    kept = [
        read_kept(documents, result, p, ["title"]).column("title").to_pylist()
        for p in ("p000", "p001", "p002")
    ]
    assert kept == [["good"], ["汉字"], []]
    assert result.counts == {"read": 6, "kept": 2, "too_short": 2, "too_long": 1, "mostly_symbols": 1}
    reasons = {t: (r["rule"], r["value"], r["limit"], r["also"]) for t, r in dropped(result).items()}
    assert reasons["tiny"] == ("too_short", 4, 10, [])
    assert reasons["empty"] == ("too_short", 0, 10, ["mostly_symbols"])
    assert reasons["long"] == ("too_long", 2500, 2000, [])
    assert reasons["sums"][0] == "mostly_symbols"
    assert reasons["sums"][1] == 0


def test_a_dropped_document_can_be_read_and_traced(store: Folder) -> None:
    text = "é" * 3000
    result, _ = selected(
        store, BASIC, [[document(text, "long", "fr"), document("A sentence of words.", "good")]]
    )
    row = dropped(result)["long"]
    assert row["text"] == text[:SHOWN_CHARACTERS]
    assert (row["id"], row["source"], row["file"], row["position"]) == (
        document_id(text),
        "made-up",
        "long.txt",
        7,
    )
    assert (row["language"], row["rule"], row["detail"]) == ("fr", "too_long", "")
    assert pq.read_schema(result.path("p000.dropped.parquet")).equals(DROPPED)


def test_kept_and_dropped_rows_are_all_rows_once(store: Folder) -> None:
    parts = [[document(f"{'word ' * k}end.", f"{k}") for k in range(1, 600, 7)]]
    result, documents = selected(store, BASIC, parts)
    kept = set(read_kept(documents, result, "p000", ["title"]).column("title").to_pylist())
    gone = set(dropped(result))
    assert kept
    assert gone
    assert kept | gone == {d.title for d in parts[0]}
    assert not kept & gone
    assert (np.diff(read_rows(result, "p000")) > 0).all()
    assert result.counts["read"] == result.counts["kept"] + len(gone)


def test_languages_are_chosen_by_tag_and_by_score(store: Folder) -> None:
    parts = [
        [
            document("Manchester United against Juventus", "found"),
            document(GERMAN, "german"),
            document("wir 12 sagen", "said", "en"),
        ]
    ]
    config = SelectConfig(min_bytes=1, languages=("en", "fr"), min_language_score=0.9)
    result, _ = selected(store, config, parts)
    assert {t: r["rule"] for t, r in dropped(result).items()} == {
        "german": "language",
        "found": "language_score",
    }
    assert 0.25 <= float(str(dropped(result)["found"]["value"])) < 0.9
    assert result.counts["kept"] == 1


def test_published_rules_follow_in_order_and_the_others_are_named(store: Folder) -> None:
    bad = "Lorem ipsum { dolor\n" * 5
    config = SelectConfig(min_bytes=10, rules=(C4(), Gopher(), FineWeb()))
    result, _ = selected(store, config, [[document(ENGLISH, "good"), document(normalize(bad), "bad", "en")]])
    row = dropped(result)["bad"]
    assert (row["rule"], row["value"], row["limit"]) == ("c4.lorem_ipsum", 5, 0)
    also = row["also"]
    assert isinstance(also, list)
    assert {"c4.curly_brackets", "c4.sentences", "gopher.words", "gopher.duplicate_lines"} <= set(also)
    assert "fineweb.terminal_lines" in also
    assert result.counts["c4.lorem_ipsum"] == 1
    assert result.counts["c4.curly_brackets"] == 0
    assert result.counts["kept"] == 1


def test_a_rule_may_have_a_limit_on_both_sides_and_one_count(store: Folder) -> None:
    long = " ".join(f"word{i}" for i in range(300))
    config = SelectConfig(min_bytes=1, rules=(Gopher(max_words=200),))
    result, _ = selected(
        store,
        config,
        [[document(ENGLISH, "good"), document(long, "long", "de"), document("Zu kurz.", "short", "de")]],
    )
    assert result.counts["gopher.words"] == 2
    assert {t: r["limit"] for t, r in dropped(result).items()} == {"long": 200, "short": 50}


def test_contaminated_documents_are_dropped_and_show_what_they_share(store: Folder, tmp_path: Path) -> None:
    question = "Which river flows through the old town of the city, past the mill and under the stone bridge?"
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": question}))
    sets = EvaluationSets(sets=(EvaluationSet.of("rivers", [str(file)], ["question"]),))
    contamination = run_step(evaluation_ngrams, sets, store=store)
    leaked = f"He asked: {question.upper()} Nobody knew."
    config = SelectConfig(min_bytes=10, rules=(Gopher(),))
    result, _ = selected(
        store, config, [[document(ENGLISH, "good"), document(leaked, "leaked")], []], contamination
    )
    row = dropped(result)["leaked"]
    assert (row["rule"], row["limit"]) == ("contamination.rivers", 0)
    assert row["detail"] == "which river flows through the old town of the city past the mill"
    assert row["value"] == 18 - 13 + 1
    assert row["also"] == ["gopher.words"]
    assert result.counts["contamination.rivers"] == 1
    assert result.counts["kept"] == 1


def test_nothing_kept_is_a_result_too(store: Folder) -> None:
    result, _ = selected(store, SelectConfig(), [[document("a", "a"), document("b", "b")]])
    assert (result.counts["kept"], result.counts["too_short"]) == (0, 2)


def test_rules_without_their_figures_are_refused(store: Folder) -> None:
    documents = artifact(store, [[document(ENGLISH, "good")]])
    attributes = run_step(annotate, AnnotateConfig(quality=False), store=store, documents=documents)
    config = SelectConfig(rules=(FineWeb(),))
    with pytest.raises(Exception, match="lack the figures that fineweb compares; annotate with quality=True"):
        run_step(select, config, store=store, documents=documents, attributes=attributes)


def test_attributes_of_other_documents_are_refused(store: Folder) -> None:
    one, two = (artifact(store, [[document(text, "x")]]) for text in (ENGLISH, GERMAN))
    attributes = run_step(annotate, AnnotateConfig(), store=store, documents=one)
    with pytest.raises(Exception, match="does not describe"):
        run_step(select, SelectConfig(), store=store, documents=two, attributes=attributes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_bytes": 0}, "min_bytes is 0"),
        ({"min_bytes": 9, "max_bytes": 8}, "below min_bytes"),
        ({"min_letter_share": 1.5}, "min_letter_share is 1.5"),
        ({"min_language_score": -0.1}, "min_language_score is -0.1"),
        ({"languages": ("zh-Hans",)}, "'zh-Hans'; use primary tags"),
        ({"rules": (C4(), C4(max_bad_words=0))}, "names a set twice"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectConfig(**changes)  # type: ignore[arg-type]
