"""A refresh reads what is new and adds a generation; nothing older is touched, and order of arrival means nothing."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from corpus.document import partition_files
from corpus.generations import newest as newest_generation
from corpus.generations import retired_ids
from corpus.ingest import IngestConfig
from corpus.rows import part_of, read_kept
from corpus.select import SelectConfig
from corpus.sources.text_files import TextFiles
from corpus.vocabulary.byte_train import ByteBPEConfig
from corpus.vocabulary.characters import CharactersConfig
from corpus.vocabulary.sequences import KmersConfig
from corpus.vocabulary.unigram_train import UnigramConfig
from corpus.wordpiece.train import WordPieceConfig
from flows import run as runs
from flows.recipe import CorpusRecipe, Vocabulary
from flows.refresh_corpus import Corpus, corpus_name, refresh_corpus
from flows.settings import Settings
from infra.artifacts import Artifact, _verified
from infra.collect import repair, verify
from infra.output import serial_map
from infra.storage import open_folder

WORDS = [
    "river",
    "stone",
    "light",
    "morning",
    "garden",
    "letter",
    "window",
    "silver",
    "answer",
    "winter",
    "music",
    "paper",
    "story",
    "mountain",
    "harbor",
]


def line(number: int) -> str:
    """A text of some forty words that resembles no other."""
    random = Random(number)
    return (
        f"Note {number}: "
        + " ".join(f"{random.choice(WORDS)}{random.randrange(50)}" for _ in range(40))
        + "."
    )


def write(folder: Path, name: str, *numbers: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(line(n) + "\n\n" for n in numbers))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    write(tmp_path / "text", "a.txt", *range(40))
    write(tmp_path / "text", "b.txt", *range(40, 80))
    return tmp_path / "text"


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Prefect shows is tested elsewhere; fifty refreshes under it would take minutes."""
    monkeypatch.setattr("flows.step._as_task", lambda name, title, work: work())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", store=str(tmp_path / "store"))


def recipe_of(text: Path) -> CorpusRecipe:
    source = TextFiles(folder=str(text), separator="\n\n")
    return CorpusRecipe(
        ingest=IngestConfig(sources=(source,)),
        select=SelectConfig(min_bytes=20),
        vocabulary=WordPieceConfig(vocab_size=200, min_frequency=1),
    )


def refresh(recipe: CorpusRecipe, settings: Settings) -> tuple[Corpus, list[str]]:
    """The corpus, and the steps that ran."""
    run = replace(runs.new_run(settings, "test"), mapper=serial_map)
    with runs.using(run):
        corpus = refresh_corpus(recipe)
    return corpus, [o.artifact.step for o in run.outcomes if o.action == "ran"]


def kept_texts(corpus: Corpus) -> list[str]:
    tables = [
        read_kept(documents, kept, part_of(name), ["text"])
        for documents, kept in zip(corpus.documents, corpus.kept, strict=True)
        for name in partition_files(documents)
    ]
    return sorted(pa.concat_tables(tables)["text"].to_pylist())


def contents(artifacts: tuple[Artifact, ...]) -> list[str]:
    return [a.manifest.content for a in artifacts]


def test_a_second_refresh_without_new_text_does_nothing(text: Path, settings: Settings) -> None:
    recipe = recipe_of(text)
    first, ran = refresh(recipe, settings)
    assert {"ingest", "collect", "deduplicate", "train_wordpiece", "shard"} <= set(ran)
    assert kept_texts(first) == sorted(line(n) for n in range(80))
    again, ran = refresh(recipe, settings)
    assert ran == []
    assert again.shards[0].digest == first.shards[0].digest


def test_new_text_is_a_generation_and_older_shards_stay(text: Path, settings: Settings) -> None:
    recipe = recipe_of(text)
    first, _ = refresh(recipe, settings)
    before = contents(first.shards)
    write(text, "c.txt", *range(70, 100))
    second, ran = refresh(recipe, settings)
    assert "train_wordpiece" not in ran
    assert second.documents[1].inputs["documents"].counts["files"] == 1  # only c.txt was read
    assert second.documents[1].counts["in_history"] == 10
    assert contents(second.shards[:1]) == before
    assert kept_texts(second) == sorted(line(n) for n in range(100))
    assert second.generation.counts == {
        "generation": 2, "documents": 100, "new": 20, "files": 3, "vanished": 0, "retired": 0,
    }  # fmt: skip


def test_renamed_copied_and_split_files_bring_nothing_new(text: Path, settings: Settings) -> None:
    recipe = recipe_of(text)
    first, _ = refresh(recipe, settings)
    (text / "a.txt").rename(text / "z.txt")
    (text / "copy.txt").write_bytes((text / "b.txt").read_bytes())
    renamed, ran = refresh(recipe, settings)
    assert "ingest" not in ran
    assert contents(renamed.shards) == contents(first.shards)
    write(text, "b1.txt", *range(40, 60))
    write(text, "b2.txt", *range(60, 80))
    (text / "b.txt").unlink()
    (text / "copy.txt").unlink()
    split, ran = refresh(recipe, settings)
    assert "shard" not in ran
    assert contents(split.shards) == contents(first.shards)
    assert split.generation.counts["documents"] == 80


@pytest.mark.parametrize("retire", [False, True])
def test_a_vanished_file_is_reported_and_retired_by_policy(
    text: Path, settings: Settings, retire: bool
) -> None:
    recipe = replace(recipe_of(text), retire_vanished=retire)
    write(text, "b.txt", *range(30, 80))  # 30..39 are in both files
    first, _ = refresh(recipe, settings)
    (text / "a.txt").unlink()
    second, ran = refresh(recipe, settings)
    assert "shard" not in ran
    assert second.generation.counts["vanished"] == 1
    assert b"a.txt" in second.generation.read("vanished.jsonl")
    assert contents(second.shards) == contents(first.shards)
    assert second.generation.counts["retired"] == len(retired_ids(second.generation)) == (30 if retire else 0)
    write(text, "a2.txt", *range(10))  # some of its text comes back
    third, _ = refresh(recipe, settings)
    assert third.generation.counts["retired"] == (20 if retire else 0)


def test_ten_refreshes_in_any_order_keep_what_one_big_one_keeps(tmp_path: Path, prefect_home: Path) -> None:
    random = Random(5)
    batches = [sorted(random.sample(range(150), 25)) for _ in range(10)]
    results = []
    for name, order in (("forward", range(10)), ("shuffled", random.sample(range(10), 10))):
        folder, settings = tmp_path / name, Settings(home=tmp_path, store=str(tmp_path / f"{name}-store"))
        for n in order:
            write(folder, f"{n}.txt", *batches[n])
            corpus, _ = refresh(recipe_of(folder), settings)
        results.append(kept_texts(corpus))
        assert len(corpus.shards) <= 10
    whole = tmp_path / "whole"
    for n in range(10):
        write(whole, f"{n}.txt", *batches[n])
    one, _ = refresh(recipe_of(whole), Settings(home=tmp_path, store=str(tmp_path / "whole-store")))
    assert results == [kept_texts(one)] * 2


def test_a_refresh_killed_before_the_name_moved_is_continued(
    text: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(text)
    with monkeypatch.context() as broken:
        broken.setattr("corpus.generations.advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            refresh(recipe, settings)
    store = open_folder(settings.store)
    assert newest_generation(store, corpus_name(recipe)) == (None, "")
    corpus, ran = refresh(recipe, settings)
    assert "ingest" not in ran
    assert corpus.generation.counts["generation"] == 1


@pytest.mark.parametrize(
    "vocabulary",
    [
        ByteBPEConfig(vocab_size=300),
        UnigramConfig(vocab_size=80),
        CharactersConfig(vocab_size=60),
        KmersConfig(k=2, letters="ABCDEF"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_any_vocabulary_makes_shards(text: Path, settings: Settings, vocabulary: Vocabulary) -> None:
    corpus, _ = refresh(replace(recipe_of(text), vocabulary=vocabulary), settings)
    assert corpus.shards[0].counts["tokens"] > 100
    write(text, "c.txt", *range(80, 90))
    second, ran = refresh(replace(recipe_of(text), vocabulary=vocabulary), settings)
    assert len(second.shards) == 2
    assert "measure_drift" in ran


def test_a_refresh_that_brings_only_junk_keeps_the_corpus(text: Path, settings: Settings) -> None:
    recipe = recipe_of(text)
    first, _ = refresh(recipe, settings)
    (text / "junk.txt").write_bytes(b"\0\1\2")
    (text / "short.txt").write_text("tiny")
    second, _ = refresh(recipe, settings)
    assert kept_texts(second) == kept_texts(first)
    assert second.generation.counts["generation"] == 2
    assert refresh(recipe, settings)[1] == []


def test_sources_without_any_document_are_one_sentence_with_the_reasons(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_bytes(b"\0binary")
    (tmp_path / "text" / "b.txt").write_text("tiny")
    with pytest.raises(
        ValueError, match=r"give no document to keep \(binary 1, too short 1\); use text with"
    ):
        refresh(recipe_of(tmp_path / "text"), settings)


def test_one_more_source_is_one_more_generation(text: Path, tmp_path: Path, settings: Settings) -> None:
    recipe = recipe_of(text)
    first, _ = refresh(recipe, settings)
    write(tmp_path / "more", "d.txt", *range(200, 210))
    more = TextFiles(folder=str(tmp_path / "more"), separator="\n\n", name="more")
    wider = replace(recipe, ingest=replace(recipe.ingest, sources=(*recipe.ingest.sources, more)))
    second, ran = refresh(wider, settings)
    assert second.generation.counts["new"] == 10
    assert contents(second.shards[:1]) == contents(first.shards)
    assert "train_wordpiece" not in ran


@pytest.mark.parametrize(
    "step", ["collect", "annotate", "deduplicate", "ingest", "list_sources", "add_generation"]
)
def test_a_damaged_result_of_an_old_generation_is_made_again(
    text: Path, settings: Settings, step: str
) -> None:
    recipe = recipe_of(text)
    refresh(recipe, settings)
    write(text, "c.txt", *range(80, 90))
    before, _ = refresh(recipe, settings)
    store = open_folder(settings.store)
    folder = store.child(step)
    expected = {name: Artifact(store, step, name).manifest.content for name in folder.folders()}
    for name in expected:
        artifact = Artifact(store, step, name)
        victim = max(artifact.manifest.files, key=lambda f: f.size).name
        Path(artifact.folder.local(victim)).write_bytes(b"damaged")
        _verified.clear()
        repair(artifact, verify(artifact))
        assert not Artifact(store, step, name).finished
    after, ran = refresh(recipe, settings)
    assert kept_texts(after) == kept_texts(before)
    if step not in ("ingest", "list_sources", "add_generation"):
        again = {name: Artifact(store, step, name).manifest.content for name in expected}
        assert again == expected
        assert step in ran
