"""Token shards -> corrupted shards -> a pretrained language model, measured on text it has never seen."""

from dataclasses import replace
from typing import NamedTuple

from corpus import corrupt as corruption
from flows.recipe import Recipe
from flows.refresh_corpus import Corpus, refresh_corpus
from flows.step import chain, step
from infra.artifacts import Artifact
from training import export, measure
from training import pretrain as pretraining
from training.exchange import exportable

corrupt = step(corruption.corrupt)
pretrain_step = step(pretraining.pretrain, version=2)
measure_language_model = step(measure.measure_language_model)
export_language_model = step(export.export_language_model)


def retires(generation: Artifact) -> bool:
    """Whether some documents of the corpus are not to be trained on any more; unknown before the step has run: no."""
    return generation.finished and generation.counts["retired"] > 0


class Pretrained(NamedTuple):
    """The corpus it came from, the trained weights, their held-out scores, and the exported folder."""

    corpus: Corpus
    weights: Artifact
    scores: Artifact
    exported: Artifact | None  # None: transformers has no class for the family


@chain
def pretrain(recipe: Recipe) -> Pretrained:
    """Everything up to a language model; `transformers` loads it, where it has a class for the family."""
    return train_language_model(recipe, refresh_corpus(recipe.corpus))


def train_language_model(recipe: Recipe, corpus: Corpus) -> Pretrained:
    """The stations behind the corpus."""
    retiring = corpus.generation if retires(corpus.generation) else None
    instances = tuple(
        corrupt(recipe.corrupt, shards=shards, vocabulary=corpus.vocabulary, generation=retiring)
        for shards in corpus.shards
    )
    once = replace(recipe.corrupt, passes=1)
    unseen = tuple(corrupt(once, shards=shards, vocabulary=corpus.vocabulary) for shards in corpus.held_out)
    weights = pretrain_step(
        recipe.pretrain,
        instances=instances,
        unseen=unseen if recipe.pretrain.measure is not None else None,
        vocabulary=corpus.vocabulary,
    )
    scores = measure_language_model(measure.HeldOutConfig(), model=weights, instances=unseen)
    exported = None
    if exportable(recipe.pretrain.model):
        exported = export_language_model(
            export.ExportConfig(name=recipe.language_model),
            model=weights,
            vocabulary=corpus.vocabulary,
            scores=scores,
        )
    return Pretrained(corpus=corpus, weights=weights, scores=scores, exported=exported)
