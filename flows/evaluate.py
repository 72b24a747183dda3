"""Did pretraining help? The comparison, and the better model exported."""

from typing import NamedTuple

from flows import page
from flows.finetune import Finetuned, finetune
from flows.recipe import Recipe
from flows.step import chain, step
from infra.artifacts import Artifact
from training import compare, export

compare_runs = step(compare.compare_runs)
export_classifier = step(export.export_classifier)


class Evaluated(NamedTuple):
    """The fine-tuned models, the comparison of both sides, and the exported classifier."""

    finetuned: Finetuned
    comparison: Artifact
    exported: Artifact


@chain
def evaluate(recipe: Recipe) -> Evaluated:
    """Everything up to the comparison and the exported classifier."""
    tuned = finetune(recipe)
    comparison = compare_runs(
        compare.CompareConfig(), with_pretraining=tuned.with_pretraining, from_scratch=tuned.from_scratch
    )
    exported = export_classifier(
        export.ExportConfig(name=recipe.classifier),
        model=tuned.with_pretraining,
        vocabulary=tuned.pretrained.corpus.vocabulary,
    )
    page.comparison(comparison)
    return Evaluated(finetuned=tuned, comparison=comparison, exported=exported)
