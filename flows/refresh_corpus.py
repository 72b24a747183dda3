"""Raw text -> clean unique documents -> vocabulary -> token shards, a generation at a time.

Run it again after any failure: finished work is kept. Run it again when there is new text: only that is read.
"""

from dataclasses import replace
from typing import NamedTuple

from corpus import annotate as annotation
from corpus import collect as collection
from corpus import decontaminate as decontamination
from corpus import deduplicate as deduplication
from corpus import generations
from corpus import ingest as ingestion
from corpus import select as selection
from corpus import shards as sharding
from corpus import split as splitting
from corpus.vocabulary import byte_train, characters, imported, sequences, unigram_train
from corpus.vocabulary import drift as drifting
from corpus.wordpiece import train as wordpiece
from flows import page
from flows import run as runs
from flows.corpus_report import corpus_report
from flows.recipe import CorpusRecipe
from flows.report import console
from flows.step import chain, step
from infra.artifacts import Artifact
from infra.config import digest_of, plain

list_sources = step(ingestion.list_sources)
ingest = step(ingestion.ingest, version=2)
collect = step(collection.collect)
annotate = step(annotation.annotate)
evaluation_ngrams = step(decontamination.evaluation_ngrams)
select = step(selection.select)
deduplicate = step(deduplication.deduplicate, version=2)
add_generation = step(generations.add_generation)
pretraining_rows = step(splitting.pretraining_rows)
held_out_rows = step(splitting.held_out_rows)
make_sequence_vocabulary = step(sequences.make_sequence_vocabulary)
import_vocabulary = step(imported.import_vocabulary)
vocabulary_steps = {
    wordpiece.WordPieceConfig: step(wordpiece.train_wordpiece, version=2),
    byte_train.ByteBPEConfig: step(byte_train.train_byte_bpe, version=2),
    unigram_train.UnigramConfig: step(unigram_train.train_unigram),
    characters.CharactersConfig: step(characters.train_characters),
}
measure_training = step(drifting.measure_training)
measure_drift = step(drifting.measure_drift)
shard = step(sharding.shard, version=2)


class Corpus(NamedTuple):
    """What a refresh leaves. Tuples have one artifact per generation that brought new text, oldest first."""

    generation: Artifact
    documents: tuple[Artifact, ...]
    attributes: tuple[Artifact, ...]
    kept: tuple[Artifact, ...]
    vocabulary: Artifact
    shards: tuple[Artifact, ...]
    held_out: tuple[Artifact, ...]


class Text(NamedTuple):
    """The documents that one generation brought, what is known of each, and which of them are kept."""

    documents: Artifact
    attributes: Artifact
    kept: Artifact


@chain
def refresh_corpus(recipe: CorpusRecipe) -> Corpus:
    """Sources to token shards; what has not changed is not done again."""
    run = runs.current()
    assert run is not None
    name = corpus_name(recipe)
    newest, tag = generations.newest(run.store, name)
    if newest is not None and not generations.intact(newest):
        console(
            f"corpus  the records of {name} are damaged: it is made anew, and what is whole is used again"
        )
        newest = None
    files = ingestion.find_files(recipe.ingest)
    changes = generations.difference(files, newest)
    texts = [] if newest is None else _texts(recipe, newest)
    page.changes(changes, newest)
    if newest is None or changes.new or changes.vanished:
        newest, text = _add(recipe, files, changes, newest)
        texts += [text] if text else []
        _require_text(texts)
        if not run.dry:
            generations.advance(run.store, name, newest, tag)
            page.refreshed(name, newest)
    corpus, drift = _with_shards(recipe, newest, texts)
    page.corpus_statistics(corpus)
    corpus_report(corpus, drift)
    return corpus


def corpus_name(recipe: CorpusRecipe) -> str:
    """One name for all that must stay the same while a corpus grows: how text is cleaned, chosen and compared.

    Sources may be added; vocabulary, split and shards are made from the text and do not belong to it.
    """
    fixed = (recipe.ingest.clean, recipe.annotate, recipe.select, recipe.evaluations, recipe.deduplicate)
    identity = [plain(config) for config in fixed] + [recipe.ingest.share, recipe.retire_vanished]
    return f"corpus-{digest_of(identity)[:12]}"


def _texts(recipe: CorpusRecipe, newest: Artifact) -> list[Text]:
    """What each generation brought; results that `cloze verify --repair` has dropped are made again."""
    found: list[Text] = []
    documents: Artifact | None = None
    for generation in collection.generations(newest):
        inputs = generation.inputs
        had = [inputs[role] for role in ("documents", "attributes", "kept") if role in inputs]
        if not all(artifact.finished for artifact in had):
            again, text = _read(recipe, inputs["read"], documents, found[-1].kept if found else None)
            made = [again, *((text.attributes, text.kept) if text else ())]
            if [a.address for a in made[: len(had)]] != [a.address for a in had]:
                raise ValueError(
                    f"generation {generation.counts['generation']} lacks results that its recipe made with other settings; "
                    "restore those settings, or rename the corpus's file in names/ to begin a new one"
                )
        if had:
            documents = inputs["documents"]
        if "kept" in inputs:
            found.append(Text(inputs["documents"], inputs["attributes"], inputs["kept"]))
    return found


def _require_text(texts: list[Text]) -> None:
    """Raise ValueError with the reasons if a corpus has no document at all."""
    if any(not t.kept.finished or t.kept.counts["kept"] for t in texts):
        return
    reasons: dict[str, int] = {}
    todo = [texts[-1].kept] if texts else []
    while todo:
        artifact = todo.pop()
        todo += artifact.inputs.values()
        found = artifact.counts.items() if artifact.step in ("ingest", "select") else ()
        reasons |= {k: v for k, v in found if v and k not in ("files", "read", "kept", "text_bytes")}
    why = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(reasons.items()))
    raise ValueError(
        f"the sources give no document to keep ({why or 'there is no text in them'}); use text with sentences in it, or "
        "loosen select"
    )


def _add(
    recipe: CorpusRecipe,
    files: list[ingestion.SourceFile],
    changes: generations.Difference,
    newest: Artifact | None,
) -> tuple[Artifact, Text | None]:
    """One more generation, and the text it brought, if any."""
    present = list_sources(ingestion.listing_of(files))
    read = documents = None
    text: Text | None = None
    if changes.new:
        read = list_sources(ingestion.listing_of(changes.new))
        documents, text = _read(recipe, read, _latest(newest, "documents"), _latest(newest, "kept"))
    number = 1 if newest is None else newest.counts["generation"] + 1
    generation = add_generation(
        generations.GenerationConfig(number=number, retire_vanished=recipe.retire_vanished),
        present=present,
        read=read,
        documents=documents,
        attributes=text.attributes if text else None,
        kept=text.kept if text else None,
        previous=newest,
    )
    return generation, text


def _read(
    recipe: CorpusRecipe, files: Artifact, documents: Artifact | None, kept: Artifact | None
) -> tuple[Artifact, Text | None]:
    """The documents of listed files that the history (its last `documents` and `kept`) does not have."""
    names = {f.source for f in ingestion.listed_files(files)} if files.finished else None
    sources = tuple(s for s in recipe.ingest.sources if names is None or s.name in names)
    # only the sources that are read, so that one more source changes no older result
    found = ingest(replace(recipe.ingest, sources=sources), listing=files)
    collected = collect(collection.CollectConfig(), documents=found, previous=documents)
    if collected.finished and not collected.counts["kept"] and kept is not None:
        return collected, None
    return collected, _clean(recipe, collected, kept)


def _latest(newest: Artifact | None, role: str) -> Artifact | None:
    """The last generation's artifact in a role; a generation that only retired documents has none."""
    chain = [] if newest is None else collection.generations(newest)
    return next((g.inputs[role] for g in reversed(chain) if role in g.inputs), None)


def _clean(recipe: CorpusRecipe, documents: Artifact, previous: Artifact | None) -> Text:
    attributes = annotate(recipe.annotate, documents=documents)
    contamination = None if recipe.evaluations is None else evaluation_ngrams(recipe.evaluations)
    chosen = select(recipe.select, documents=documents, attributes=attributes, contamination=contamination)
    kept = deduplicate(recipe.deduplicate, documents=documents, kept=chosen, previous=previous)
    return Text(documents=documents, attributes=attributes, kept=kept)


def _vocabulary(recipe: CorpusRecipe, text: Text, kept: Artifact) -> Artifact:
    """The type of its config says which; letters and k-mers need no text."""
    config = recipe.vocabulary
    if isinstance(config, sequences.KmersConfig | sequences.LettersConfig):
        return make_sequence_vocabulary(config)
    if isinstance(config, imported.ImportedVocabulary):
        return import_vocabulary(config)
    train = vocabulary_steps[type(config)]
    return train(config, documents=text.documents, kept=kept, attributes=text.attributes)


def _with_shards(recipe: CorpusRecipe, newest: Artifact, texts: list[Text]) -> tuple[Corpus, Artifact | None]:
    """The vocabulary is learned from the first generation and never changes by itself; every generation is encoded."""
    training = [pretraining_rows(recipe.hold_out, documents=t.documents, kept=t.kept) for t in texts]
    aside = [held_out_rows(recipe.hold_out, documents=t.documents, kept=t.kept) for t in texts]
    vocabulary = _vocabulary(recipe, texts[0], training[0])

    def encoded(rows: list[Artifact]) -> tuple[Artifact, ...]:
        return tuple(
            shard(
                recipe.shards,
                documents=t.documents,
                kept=kept,
                attributes=t.attributes,
                vocabulary=vocabulary,
            )
            for t, kept in zip(texts, rows, strict=True)
        )

    shards, held_out = encoded(training), encoded(aside)
    drift = None
    training_fit = measure_training(drifting.FitConfig(), vocabulary=vocabulary)
    if len(texts) > 1:
        drift = measure_drift(
            recipe.drift,
            documents=texts[-1].documents,
            kept=training[-1],
            attributes=texts[-1].attributes,
            vocabulary=vocabulary,
            training=training_fit,
        )
        page.drift(drift)
    corpus = Corpus(
        generation=newest,
        documents=tuple(t.documents for t in texts),
        attributes=tuple(t.attributes for t in texts),
        kept=tuple(t.kept for t in texts),
        vocabulary=vocabulary,
        shards=shards,
        held_out=held_out,
    )
    return corpus, drift
