"""Drift is measured on new text beside the text a vocabulary was trained on, and changes nothing."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corpus.document import Document, document_id, to_table, write_table
from corpus.rows import write_rows
from corpus.vocabulary.byte_train import ByteBPEConfig, train_byte_bpe
from corpus.vocabulary.drift import DRIFT_FILE, DriftConfig, FitConfig, measure_drift, measure_training
from corpus.wordpiece.train import WordPieceConfig, train_wordpiece
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

OLD = ["the cat sat on the mat and the dog sat on the log"] * 20
NEW = {
    "p000": [("the cat zyzzyva zyzzyva 中", "en"), ("der hund", "de")],
    "p001": [("zyzzyva the", "en"), ("left out entirely", "en")],
}


def write_old(config: int, *, out: Output) -> Counts:
    rows = [Document(document_id(t), t, "", "s", "f", i, "en") for i, t in enumerate(OLD)]
    with out.writer("p000.parquet") as path:
        write_table(path, to_table(rows))
    return {}


def write_new(config: int, *, out: Output) -> Counts:
    for part, rows in NEW.items():
        table = to_table(
            [Document(document_id(t), t, "", "s", "f", i, "und") for i, (t, _) in enumerate(rows)]
        )
        with out.writer(f"{part}.parquet") as path:
            write_table(path, table)
    return {}


def write_attributes(config: int, *, out: Output) -> Counts:
    for part, rows in NEW.items():
        with out.writer(f"{part}.parquet") as path:
            write_table(path, pa.table({"language": [language for _, language in rows]}))
    return {}


def write_kept(config: int, *, out: Output) -> Counts:
    for part, rows in {"p000": [0, 1], "p001": [0]}.items():
        with out.writer(f"{part}.rows") as path:
            write_rows(path, np.array(rows, np.int64))
    return {}


def measured(store: Folder, vocabulary: Artifact, config: DriftConfig) -> tuple[Artifact, dict[str, Any]]:
    makers = {"documents": write_new, "attributes": write_attributes, "kept": write_kept}
    inputs = {name: run_step(maker, 0, store=store) for name, maker in makers.items()}
    training = run_step(measure_training, FitConfig(), store=store, vocabulary=vocabulary)
    drift = run_step(measure_drift, config, store=store, vocabulary=vocabulary, training=training, **inputs)
    return drift, json.loads(drift.read(DRIFT_FILE))


def test_drift_of_wordpiece(store: Folder) -> None:
    old = run_step(write_old, 0, store=store)
    vocabulary = run_step(train_wordpiece, WordPieceConfig(vocab_size=37), store=store, documents=old)
    drift, report = measured(store, vocabulary, DriftConfig(pieces=4, shown=2, examined=10))
    assert (
        report["overall"]["words"] == 9
    )  # the cat zyzzyva zyzzyva 中 | der hund | zyzzyva the, and not what was left out
    assert report["overall"]["documents"] == 3
    assert report["languages"]["de"]["words"] == 2
    assert report["overall"]["tokens"] == sum(figures["tokens"] for figures in report["languages"].values())
    assert report["overall"]["unknown"] >= 4  # 中 and zyzzyva
    assert report["overall"]["fertility"] == report["overall"]["tokens"] / 9
    assert report["training"]["fertility"] == 1.0
    assert report["training"]["words"] == 13 * len(OLD)
    assert report["new_words"][0] == {
        "word": "zyzzyva", "count": 3, "count_in_training": 0, "pieces": ["[UNK]"],
    }  # fmt: skip
    assert len(report["new_words"]) == 2  # shown
    assert drift.counts["new_words"] == 4  # zyzzyva, 中, der, hund
    assert drift.counts["words"] == 9


def test_drift_of_byte_level_bpe(store: Folder) -> None:
    old = run_step(write_old, 0, store=store)
    vocabulary = run_step(train_byte_bpe, ByteBPEConfig(vocab_size=280), store=store, documents=old)
    drift, report = measured(store, vocabulary, DriftConfig(pieces=4))
    assert report["overall"]["unknown_rate"] == 0
    split = report["split_words"][0]
    assert (split["word"], split["count"], split["count_in_training"]) == (" zyzzyva", 2, 0)
    assert len(split["pieces"]) >= 4
    assert "".join(split["pieces"]) == "Ġzyzzyva"
    assert " the" not in [word["word"] for word in report["new_words"]]
    assert drift.counts["split_words"] == len(report["split_words"])


def test_text_like_the_training_text_has_not_drifted(store: Folder) -> None:
    old = run_step(write_old, 0, store=store)
    vocabulary = run_step(train_wordpiece, WordPieceConfig(vocab_size=37), store=store, documents=old)
    training = run_step(measure_training, FitConfig(), store=store, vocabulary=vocabulary)
    inputs = {"documents": old, "vocabulary": vocabulary, "training": training}
    drift = run_step(measure_drift, DriftConfig(), store=store, **inputs)
    report = json.loads(drift.read(DRIFT_FILE))
    same = ("words", "tokens", "unknown", "fertility")
    assert [report["overall"][name] for name in same] == [report["training"][name] for name in same]
    assert report["new_words"] == report["split_words"] == []


@pytest.mark.parametrize(("field", "value"), [("pieces", 1), ("shown", 0), ("examined", 10)])
def test_a_bad_config_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field}={value} must be at least"):
        DriftConfig(**{field: value})
