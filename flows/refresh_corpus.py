"""Raw text -> clean unique documents -> vocabulary -> token shards. Run it again after any failure: finished work is kept."""

from typing import NamedTuple

from corpus import deduplicate as deduplication
from corpus import examples
from corpus import ingest as ingestion
from corpus import shards as sharding
from corpus.wordpiece import train as wordpiece
from flows import report
from flows.recipe import CorpusRecipe
from flows.step import chain, step
from infra.artifacts import Artifact

list_sources = step(ingestion.list_sources)
ingest = step(ingestion.ingest)
deduplicate = step(deduplication.deduplicate)
pretraining_documents = step(examples.pretraining_documents)
held_out_documents = step(examples.held_out_documents)
train_wordpiece = step(wordpiece.train_wordpiece)
shard = step(sharding.shard)


class Corpus(NamedTuple):
    """What a refresh leaves: all unique documents, the vocabulary, the shards to train on and those held out."""

    documents: Artifact
    vocabulary: Artifact
    shards: Artifact
    held_out: Artifact


@chain
def refresh_corpus(recipe: CorpusRecipe) -> Corpus:
    """Sources to token shards; what has not changed is not done again."""
    listing = list_sources(ingestion.listing(recipe.ingest))
    documents = deduplicate(recipe.deduplicate, documents=ingest(recipe.ingest, listing=listing))
    training = pretraining_documents(recipe.hold_out, documents=documents)
    vocabulary = train_wordpiece(recipe.vocabulary, documents=training)
    shards = shard(recipe.shards, documents=training, vocabulary=vocabulary)
    aside = held_out_documents(recipe.hold_out, documents=documents)
    held_out = shard(recipe.shards, documents=aside, vocabulary=vocabulary)
    corpus = Corpus(documents=documents, vocabulary=vocabulary, shards=shards, held_out=held_out)
    report.corpus_statistics(corpus._asdict())
    return corpus
