"""The pretrained network, and the same network without pretraining, on the same task with the same budget."""

from typing import NamedTuple

from corpus import examples as task_examples
from flows import run as runs
from flows.pretrain import Pretrained, train_language_model
from flows.recipe import Recipe
from flows.refresh_corpus import refresh_corpus
from flows.step import chain, one_by_one, side_by_side, step
from infra import hardware
from infra.artifacts import Artifact
from training import finetune as finetuning
from training.models.family import useful_threads

package_examples = step(task_examples.package_examples)
finetune_step = step(finetuning.finetune, version=2)


class Finetuned(NamedTuple):
    """Both sides of the comparison, and what they were trained on."""

    pretrained: Pretrained
    examples: Artifact
    with_pretraining: Artifact
    from_scratch: Artifact


@chain
def finetune(recipe: Recipe) -> Finetuned:
    """Everything up to the fine-tuned models, several seeds each. Raises ValueError for a recipe without a task."""
    if recipe.task is None:
        raise ValueError(
            f"recipe {recipe.name!r} has no task to fine-tune for; use `cloze pretrain {recipe.name}`"
        )
    task, corpus = recipe.task, refresh_corpus(recipe.corpus)
    examples = package_examples(task.examples, documents=corpus.documents, kept=corpus.kept)
    shared = {"examples": examples, "vocabulary": corpus.vocabulary}

    def with_pretraining() -> tuple[Pretrained, Artifact]:
        pretrained = train_language_model(recipe, corpus)
        return pretrained, finetune_step(task.finetune, pretrained=pretrained.weights, **shared)

    def from_scratch() -> Artifact:
        return finetune_step(task.finetune, pretrained=None, **shared)

    both = side_by_side if _fit_side_by_side(recipe) else one_by_one
    (pretrained, tuned), scratch = both(with_pretraining, from_scratch)
    return Finetuned(pretrained=pretrained, examples=examples, with_pretraining=tuned, from_scratch=scratch)


def _fit_side_by_side(recipe: Recipe) -> bool:
    """Networks so small that each trains on fewer threads than there are cores share this machine."""
    run = runs.current()
    assert run is not None
    assert recipe.task is not None
    here = run.settings.workers == 1 and run.settings.ray_address is None and hardware.device() == "cpu"
    threads = [useful_threads(model) for model in (recipe.pretrain.model, recipe.task.finetune.model)]
    return not run.dry and here and sum(t or hardware.cores() for t in threads) <= hardware.cores()
