"""`cloze corpus ...`: what people read is what is there, in a terminal's width; mistakes are one sentence."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.corpus_commands import add_corpus_commands
from flows.corpus_terminal import CONTROLS, excerpt, line
from infra.storage import open_folder
from tests.corpus.summary_kit import (
    SmallCorpus,
    kept_documents,
    note,
    text_files,
    two_generations,
    write_lines,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallCorpus:
    root = tmp_path_factory.mktemp("corpus")
    corpus = two_generations(root, open_folder(root / "store"))
    corpus.summary()
    return corpus


def cloze(made: SmallCorpus, *arguments: str) -> int:
    """What flows.cli does with these arguments."""
    parser = argparse.ArgumentParser()
    add_corpus_commands(parser.add_subparsers())
    args = parser.parse_args(["corpus", arguments[0], "--store", made.store.url, *arguments[1:]])
    module, function = args.target.split(":")
    return int(getattr(importlib.import_module(f"flows.{module}"), function)(args))


@pytest.fixture
def json_of(made: SmallCorpus, capsys: pytest.CaptureFixture[str]):
    def read(*arguments: str) -> list:
        assert cloze(made, *arguments, "--json") == 0
        return [json.loads(one) for one in capsys.readouterr().out.splitlines()]

    return read


def test_a_sample_fits_the_terminal_and_says_where_it_is_from(
    made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert cloze(made, "sample", "-n", "4", "--seed", "7") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 50
    assert "\x1b" not in shown
    records = json_of("sample", "-n", "4", "--seed", "7")
    assert len(records) == 4
    texts = {d.id.hex(): d.text for d in kept_documents(made)}
    for r in records:
        assert r["text"] == texts[r["id"]]
        assert f"{r['id']}  {r['language']}  generation {r['generation']}" in shown
        assert f"{r['source']}: {r['file']}:{r['position']}" in shown


def test_dropped_documents_and_duplicates_are_sampled(
    made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {r["rule"] for r in json_of("sample", "--dropped", "-n", "99")} == {"mostly_symbols", "too_short"}
    assert [r["text"] for r in json_of("sample", "--dropped", "too_short")] == ["tiny"]
    assert len(json_of("sample", "--duplicates", "-n", "99")) == 13
    assert cloze(made, "sample", "--dropped", "too_short") == 0
    assert "too_short: 4, the limit is 60" in capsys.readouterr().out
    assert cloze(made, "sample", "--duplicates", "-n", "1") == 0
    assert "Jaccard 0." in capsys.readouterr().out


def test_a_search_shows_the_match_and_counts(
    made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str]
) -> None:
    number = sum(d.text.count("river4") for d in kept_documents(made))
    (counted,) = json_of("search", "river4", "--count")
    assert counted["times"] == number > 0
    assert cloze(made, "search", "note 5[0-9]:", "--regex", "-i", "--limit", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count("generation") == 2
    assert "Note 5" in shown
    assert cloze(made, "search", "no such words") == 1
    assert "no document holds 'no such words'" in capsys.readouterr().err
    assert cloze(made, "search", "no such words", "--count") == 1


def test_stats_are_the_reports_tables(made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json_of("stats")
    assert found == made.summary().read_json("summary.json")
    assert cloze(made, "stats") == 0
    shown = capsys.readouterr().out
    for expected in ("corpus-test, generation 2, 5 files", "mostly_symbols", "notes", "zh", "held out"):
        assert expected in shown
    with pytest.raises(ValueError, match="has no report of generation 1"):
        cloze(made, "stats", "--generation", "1")


def test_diff_is_from_the_generation_before_unless_said(
    made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = json_of("diff")
    assert (found["documents"]["added"], found["documents"]["gone"]) == (15, 1)
    assert found["drift"]["overall"]["words"] > 0
    for names in (("1", "2"), ("corpus-test@1", "corpus-test"), ("corpus-t@1",)):
        assert json_of("diff", *names) == [found]
    assert json_of("diff", "2", "1")[0]["documents"]["gone"] == 15
    assert cloze(made, "diff") == 0
    shown = capsys.readouterr().out
    assert "generation 1 -> 2: 15 documents added, 1 gone (1 retired)" in " ".join(shown.split())
    assert "+ notes: c.jsonl" in shown
    assert "- copies: zh.jsonl" in shown


def test_a_row_of_a_shard_leads_to_its_document(
    made: SmallCorpus, json_of, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = made.shards[1]
    (record,) = json_of("where", f"shard/{shard.digest[:10]}:3")
    assert record["file"] == "c.jsonl"
    assert record["fate"] == "kept"
    assert json_of("where", f"{shard.address}/p0.arrow:3") == [record]
    assert json_of("where", record["id"][:12]) == [record]
    assert cloze(made, "where", record["id"]) == 0
    shown = capsys.readouterr().out
    assert f"notes: c.jsonl:{record['position']}" in shown
    assert "fate      kept" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sample", "--source", "books"], "no source 'books'; it has copies, notes"),
        (["sample", "--language", "xx"], "no document fits"),
        (["sample", "-n", "0"], "--count is 0; ask for at least 1"),
        (["sample", "--duplicates", "--language", "en"], "--language does not go with --duplicates"),
        (["sample", "--dropped", "c4"], "no document was dropped by a rule 'c4'"),
        (["sample", "--corpus", "corpus-x"], "'corpus-x' names 0 corpora"),
        (["stats", "--generation", "9"], "has no generation 9; it has 1 to 2"),
        (["search", "(", "--regex"], "is no regular expression"),
        (["diff", "--generation", "1"], "generation 1 has none before it"),
        (["diff", "corpus-test@x"], "is not N, NAME or NAME@N"),
        (["where", "nothing"], "is no document id"),
        (["where", "00000000"], "no document of this corpus has an id that begins with 00000000"),
        (["where", "shard/x"], "is no document id"),
        (["where", "shard:1"], "is not SHARD:ROW"),
    ],
)
def test_a_mistake_is_one_sentence(made: SmallCorpus, arguments: list[str], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        cloze(made, *arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_not_there_is_refused(made: SmallCorpus) -> None:
    shard = made.shards[1]
    with pytest.raises(ValueError, match="rows, numbered from 0; there is no row 500"):
        cloze(made, "where", f"{shard.address}:500")
    with pytest.raises(ValueError, match=r"has no file 'q.arrow'; it has p0\.arrow"):
        cloze(made, "where", f"{shard.address}/q.arrow:0")


def test_a_store_without_a_corpus_says_what_to_do(tmp_path: Path) -> None:
    empty = SmallCorpus(open_folder(tmp_path / "store"), ())
    for command in (["sample"], ["search", "x"], ["stats"], ["diff"], ["where", "abcdef"]):
        with pytest.raises(ValueError, match=r"there is no corpus in .*; run `cloze refresh quickstart`"):
            cloze(empty, *command)


def test_of_several_corpora_the_newest_is_taken_and_the_others_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_folder(tmp_path / "store")
    for name in ("one", "two"):
        write_lines(tmp_path / name, "a.jsonl", [f"{name} {note(n)}" for n in range(20)])
        made = SmallCorpus(
            store, (text_files(tmp_path / name),), name=f"corpus-{name}", vocab_size=150
        ).refresh()
    assert cloze(made, "sample", "-n", "1", "--corpus", "corpus-one", "--json") == 0
    assert json.loads(capsys.readouterr().out)["text"].startswith("one ")
    assert cloze(made, "sample", "-n", "1", "--json") == 0
    out, err = capsys.readouterr()
    assert "of 2 corpora the newest, corpus-" in err
    assert "(corpus-one, corpus-two)" in err
    assert json.loads(out)["text"]
    with pytest.raises(ValueError, match="'corpus-' names 2 corpora"):
        cloze(made, "sample", "--corpus", "corpus-")


def test_control_characters_never_reach_the_terminal() -> None:
    hostile = "a\x1b[31mred\x07\r\u202eb\tc\nd"
    assert line(hostile).plain == "a\ufffd[31mred\ufffd\ufffd\ufffdb\ufffdc\nd"
    assert not CONTROLS.search(excerpt(hostile, 2, 9, 1).plain)


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse; from flows.corpus_commands import add_corpus_commands;"
        "add_corpus_commands(argparse.ArgumentParser().add_subparsers());"
        "print(sorted({'pyarrow', 'numpy', 'torch', 'prefect', 'rich', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
