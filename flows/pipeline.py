"""Everything: corpus, pretraining, fine-tuning, evaluation, promotion, serving. One recipe, one screen at the end."""

from flows import report, screen
from flows import run as runs
from flows.deploy import SmokeConfig, smoke_step
from flows.evaluate import Evaluated, evaluate
from flows.pretrain import Pretrained, pretrain
from flows.promote import in_production, promote
from flows.recipe import Recipe
from flows.step import chain
from infra.artifacts import Artifact
from infra.collect import point
from serving.rollout import Gate, GateRefused
from training.models.albert import AlbertConfig
from training.models.bert import BertConfig
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig


def served(recipe: Recipe) -> bool:
    """Whether the server answers for the recipe's language model: fill-mask with an encoder."""
    return isinstance(recipe.pretrain.model, BertConfig | RobertaConfig | AlbertConfig | SpanBertConfig)


@chain
def pipeline(recipe: Recipe) -> Artifact:
    """Raw text to a served model. Returns the answers of the served models."""
    evaluated: Evaluated | None = None
    if recipe.task is None:
        trained: Pretrained = pretrain(recipe)
    else:
        evaluated = evaluate(recipe)
        trained = evaluated.finetuned.pretrained
    models: dict[str, Artifact] = {}
    if trained.exported is not None and served(recipe):
        models[recipe.language_model] = trained.exported
    if evaluated is not None:
        models[recipe.classifier] = evaluated.exported
    run = runs.current()
    assert run is not None
    if not run.dry:
        for name, model in models.items():
            metric = "masked_lm_accuracy" if name == recipe.language_model else "test_accuracy"
            try:
                promote(name, model, gate=Gate(metric=metric, floor=recipe.floor), why=f"run {run.id}")
            except GateRefused as refusal:  # the run's other results stand, and what serves goes on serving
                report.console(f"gate   {refusal}")
            point(run.store, f"{name}@latest", model)
        if trained.exported is not None:
            point(run.store, f"{recipe.language_model}@latest", trained.exported)
    config = SmokeConfig(names=tuple(models))
    classifier = None if evaluated is None else evaluated.exported
    if not models:
        report.console(
            "kept   nothing here serves this family yet; `cloze preview` and `cloze replay` show what it learned from"
        )
        answers = trained.exported or trained.weights
    elif run.dry or all(in_production(run.store, name, model) for name, model in models.items()):
        answers = smoke_step(config, language_model=models.get(recipe.language_model), classifier=classifier)
    else:
        report.console("kept   other versions are in production (`cloze models`); they are served, not these")
        answers = trained.exported or trained.weights
    if not run.dry:
        text = screen.final(recipe, run, trained, evaluated, answers)
        report.markdown("summary", f"```\n{text}\n```", "What this run made, and what to do next")
        print(text)
    return answers
