"""The pretrained network, and the same network without pretraining, on the same task with the same budget."""

from typing import NamedTuple

from corpus import examples as task_examples
from flows.pretrain import Pretrained, pretrain
from flows.recipe import Recipe
from flows.step import chain, step
from infra.artifacts import Artifact
from training import finetune as finetuning

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
    pretrained = pretrain(recipe)
    examples = package_examples(recipe.task.examples, documents=pretrained.corpus.documents)
    shared = {"examples": examples, "vocabulary": pretrained.corpus.vocabulary}
    config = recipe.task.finetune
    return Finetuned(
        pretrained=pretrained,
        examples=examples,
        with_pretraining=finetune_step(config, pretrained=pretrained.weights, **shared),
        from_scratch=finetune_step(config, pretrained=None, **shared),
    )
