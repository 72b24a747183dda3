"""A real small corpus, refreshed as flows.refresh_corpus does it, but without Prefect: step after step on a store."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from corpus import generations
from corpus.annotate import AnnotateConfig, annotate
from corpus.collect import CollectConfig, collect
from corpus.deduplicate import DeduplicateConfig, deduplicate
from corpus.document import Document, partition_files
from corpus.ingest import IngestConfig, find_files, ingest, list_sources, listing_of
from corpus.rows import part_of, read_kept
from corpus.select import SelectConfig, select
from corpus.shards import ShardConfig, shard
from corpus.sources.text_files import TextFiles
from corpus.split import SplitConfig, held_out_rows, pretraining_rows
from corpus.summary.measure import SummaryConfig, measure_generation
from corpus.summary.summarize import summarize
from corpus.vocabulary.drift import DriftConfig, FitConfig, measure_drift, measure_training
from corpus.wordpiece.train import WordPieceConfig, train_wordpiece
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.storage import Folder

SPLIT = SplitConfig(dev_share=0.1, test_share=0.1, whole_files=())


@dataclass
class SmallCorpus:
    """`refresh` adds a generation when files changed; the attributes are those of flows.refresh_corpus.Corpus."""

    store: Folder
    sources: tuple[Any, ...]
    name: str = "corpus-test"
    retire_vanished: bool = False
    vocab_size: int = 300
    select: SelectConfig = field(default_factory=SelectConfig)
    generation: Artifact | None = None
    documents: list[Artifact] = field(default_factory=list)
    attributes: list[Artifact] = field(default_factory=list)
    kept: list[Artifact] = field(default_factory=list)
    shards: list[Artifact] = field(default_factory=list)
    held_out: list[Artifact] = field(default_factory=list)
    vocabulary: Artifact | None = None
    drift: Artifact | None = None

    def step(self, function: Callable[..., Any], config: Any, **inputs: Any) -> Artifact:
        return run_step(function, config, store=self.store, **inputs)

    def refresh(self) -> "SmallCorpus":
        config = IngestConfig(sources=self.sources)
        files = find_files(config)
        newest, tag = generations.newest(self.store, self.name)
        changes = generations.difference(files, newest)
        given: dict[str, Artifact | None] = dict.fromkeys(("read", "documents", "attributes", "kept"))
        if changes.new:
            given = self._add(config, list_sources_of(self, changes.new))
        number = 1 if newest is None else newest.counts["generation"] + 1
        self.generation = self.step(
            generations.add_generation,
            generations.GenerationConfig(number=number, retire_vanished=self.retire_vanished),
            present=list_sources_of(self, files),
            previous=newest,
            **given,
        )
        generations.advance(self.store, self.name, self.generation, tag)
        return self

    def _add(self, config: IngestConfig, read: Artifact) -> dict[str, Artifact | None]:
        last = {n: (getattr(self, n) or [None])[-1] for n in ("documents", "kept")}
        found = self.step(ingest, config, listing=read)
        documents = self.step(collect, CollectConfig(), documents=found, previous=last["documents"])
        attributes = self.step(annotate, AnnotateConfig(), documents=documents)
        chosen = self.step(select, self.select, documents=documents, attributes=attributes)
        text = {"documents": documents, "attributes": attributes}
        kept = self.step(
            deduplicate, DeduplicateConfig(), documents=documents, kept=chosen, previous=last["kept"]
        )
        training = self.step(pretraining_rows, SPLIT, documents=documents, kept=kept)
        aside = self.step(held_out_rows, SPLIT, documents=documents, kept=kept)
        if self.vocabulary is None:
            vocabulary = WordPieceConfig(vocab_size=self.vocab_size)
            self.vocabulary = self.step(train_wordpiece, vocabulary, **text, kept=training)
        else:
            self.drift = self.step(
                measure_drift,
                DriftConfig(),
                **text,
                kept=training,
                vocabulary=self.vocabulary,
                training=run_step(
                    measure_training, FitConfig(), store=self.store, vocabulary=self.vocabulary
                ),
            )
        for name, rows in (("shards", training), ("held_out", aside)):
            encoded = self.step(shard, ShardConfig(), **text, kept=rows, vocabulary=self.vocabulary)
            getattr(self, name).append(encoded)
        self.documents.append(documents)
        self.attributes.append(attributes)
        self.kept.append(kept)
        return {"read": read, **text, "kept": kept}

    def measured(self, config: SummaryConfig | None = None) -> tuple[Artifact, ...]:
        names = ("documents", "attributes", "kept", "shards", "held_out")
        return tuple(
            self.step(measure_generation, config or SummaryConfig(), **dict(zip(names, one, strict=True)))
            for one in zip(*(getattr(self, name) for name in names), strict=True)
        )

    def summary(self, config: SummaryConfig | None = None) -> Artifact:
        return self.step(
            summarize,
            config or SummaryConfig(),
            generation=self.generation,
            measured=self.measured(config),
            vocabulary=self.vocabulary,
            drift=self.drift,
        )


def list_sources_of(made: SmallCorpus, files: Any) -> Artifact:
    return made.step(list_sources, listing_of(files))


def text_files(folder: Path, name: str = "notes", **settings: Any) -> TextFiles:
    return TextFiles(folder=str(folder), name=name, **settings)


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
]


def note(number: int, words: int = 60) -> str:
    """A text that resembles no other."""
    random = Random(number)
    return f"Note {number}: " + " ".join(
        f"{random.choice(WORDS)}{random.randrange(99)}" for _ in range(words)
    )


def edited(text: str, seed: int) -> str:
    """The same text with one word changed."""
    words = text.split(" ")
    words[Random(seed).randrange(5, len(words))] = "Änderung"
    return " ".join(words)


def write_lines(folder: Path, name: str, texts: Iterable[str], **fields: str) -> None:
    """A JSON Lines file of documents, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": t, "title": t[:12], **fields}, ensure_ascii=False) + "\n" for t in texts)
    (folder / name).write_text("".join(lines), encoding="utf-8")


def two_generations(root: Path, store: Folder) -> SmallCorpus:
    """Two sources; near and exact duplicates, dropped documents, Chinese, markup; then a new file and a vanished one."""
    notes, copies = root / "notes", root / "copies"
    write_lines(notes, "a.jsonl", [note(n) for n in range(40)])
    write_lines(notes, "b.jsonl", [note(n, 200) for n in range(40, 60)] + [HOSTILE])
    write_lines(copies, "near.jsonl", [edited(note(n, 200), n) for n in range(40, 52)] + [note(1), note(2)])
    write_lines(
        copies, "poor.jsonl", ["tiny", "*** ---- ==== !!! " * 9, *("??? " * (20 + n) for n in range(8))]
    )
    write_lines(copies, "zh.jsonl", [CHINESE * 3])
    made = SmallCorpus(
        store, (text_files(notes, "notes"), text_files(copies, "copies")), retire_vanished=True
    )
    made.refresh()
    write_lines(notes, "c.jsonl", [*(note(n) for n in range(100, 115)), note(3), edited(note(53, 200), 53)])
    (copies / "zh.jsonl").unlink()
    return made.refresh()


CHINESE = "今天天气很好，我们去公园散步，看见了许多美丽的花和树。图书馆里有很多人在安静地读书学习。"
HOSTILE = (
    "Look </style></div><script>alert('boo')</script> & <img src=http://bad.example/x onerror=alert(1)> done, "
    + note(999)
)


def kept_documents(made: SmallCorpus) -> list[Document]:
    """Every kept document of every generation, one by one."""
    return [
        Document(**row)
        for documents, kept in zip(made.documents, made.kept, strict=True)
        for name in partition_files(documents)
        for row in read_kept(documents, kept, part_of(name)).to_pylist()
    ]
