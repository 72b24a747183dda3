"""The one screen at the end of a run: counts, losses, speed, scores, where everything is, what to do next."""

import time
from typing import Any

import pyarrow as pa

from flows import run as runs
from flows.deploy import ANSWERS
from flows.evaluate import Evaluated
from flows.pretrain import Pretrained
from flows.recipe import Recipe
from flows.report import duration, human
from flows.server import health, running
from infra.artifacts import Artifact
from infra.output import total
from serving import rollout
from training.compare import COMPARISON
from training.finetune import SCORES
from training.saved import MODEL_CONFIG, read_config

FEW = 20  # steps averaged for the first and the last loss: single batches are noisy


def final(
    recipe: Recipe, run: runs.Run, trained: Pretrained, evaluated: Evaluated | None, answers: Artifact
) -> str:
    """The screen as plain text, about thirty lines of at most 100 columns."""
    lines = [*_head(run), *_corpus(trained), *_training(trained)]
    if evaluated is not None:
        lines += _task(evaluated)
    if answers.step == "smoke_test":
        lines += [*_production(recipe, run, evaluated is not None), *_answers(answers)]
    return "\n".join([*lines, *_next(recipe, run, trained, served=answers.step == "smoke_test")])


def _row(title: str, *texts: str) -> list[str]:
    return [f"{title if i == 0 else '':<12}{text}" for i, text in enumerate(texts)]


def _head(run: runs.Run) -> list[str]:
    ran = sum(o.action == "ran" for o in run.outcomes)
    took = duration(time.monotonic() - run.began)
    return [
        "",
        f"{run.name}: {len(run.outcomes)} steps, {ran} ran, {len(run.outcomes) - ran} reused, in {took}",
        "",
    ]


def _corpus(trained: Pretrained) -> list[str]:
    corpus = trained.corpus
    read = total({a.digest: a.counts for a in corpus.documents})
    kept = total({a.digest: a.counts for a in corpus.kept})
    shards = total({a.digest: a.counts for a in corpus.shards})
    words, whole = corpus.vocabulary.counts, corpus.generation.counts
    number = f" in {whole['generation']} generations" if whole["generation"] > 1 else ""
    return _row(
        "corpus",
        f"{whole['files']:,} files -> {whole['documents']:,} documents{number}; removed {read['exact_duplicate']:,} exact and "
        f"{kept['read'] - kept['kept']:,} near duplicates",
        f"{words['vocab_size']:,} {_entries(trained)} from {human(words.get('words', 0))} words; {human(shards['tokens'])} tokens to train on",
    )


def _training(trained: Pretrained) -> list[str]:
    weights = trained.weights
    with pa.memory_map(str(weights.path("losses.arrow"))) as source:
        losses = pa.ipc.open_file(source).read_all().column("loss").to_numpy()
    first, last = losses[:FEW].mean(), losses[-FEW:].mean()
    model = read_config(weights, MODEL_CONFIG)
    rate = weights.manifest.made["measured"].get("tokens_per_second", 0.0)
    scores = trained.scores.read_json(SCORES)
    parts = [name.removesuffix("_accuracy") for name in scores if name.endswith("_accuracy")]
    held_out = [
        f"{part.replace('_', ' ')} {scores[f'{part}_accuracy']:.1%} right (loss {scores[f'{part}_loss']:.2f})"
        for part in parts
    ]
    family = type(model).__name__.removesuffix("Config")
    shape = f"{model.num_layers} x {model.hidden_size}, {human(weights.counts['parameters'])} parameters"
    return _row(
        "pretraining",
        f"{family} {shape}, {weights.counts['steps']:,} steps, {human(weights.counts['tokens'])} tokens at {human(rate)} tokens/s",
        f"loss {first:.2f} -> {last:.2f} (means of {FEW} steps)",
        f"on held-out files: {', '.join(held_out)}",
    )


def _task(evaluated: Evaluated) -> list[str]:
    counts = evaluated.finetuned.examples.counts
    body: dict[str, Any] = evaluated.comparison.read_json(COMPARISON)
    ours, theirs = body["with_pretraining"], body["from_scratch"]
    verdict = "pretraining wins clearly" if body["clear"] else "no clear winner"
    return _row(
        "task",
        f"which of {counts['classes']} packages? {counts['train']:,} texts to train on, {counts['test']:,} to test, split by file",
        f"{body['metric'].replace('_', ' ')} with pretraining {ours['mean']:.3f} ± {ours['spread']:.3f}, "
        f"without {theirs['mean']:.3f} ± {theirs['spread']:.3f} ({len(ours['values'])} seeds each): {verdict}",
    )


def _production(recipe: Recipe, run: runs.Run, with_task: bool) -> list[str]:
    names = [recipe.language_model, *([recipe.classifier] if with_task else [])]
    versions = []
    for name in names:
        moves = rollout.history(run.store, name)
        versions.append(f"{name}@v{moves[-1].version}" if moves else f"{name}: none")
    return _row("production", ", ".join(versions))


def _answers(answers: Artifact) -> list[str]:
    return _row(
        "answers", *(f"{a['text']!r} -> {a['best']!r} ({a['score']:.2f})" for a in answers.read_json(ANSWERS))
    )


def _entries(trained: Pretrained) -> str:
    return "WordPieces" if trained.corpus.vocabulary.step == "train_wordpiece" else "vocabulary entries"


def _next(recipe: Recipe, run: runs.Run, trained: Pretrained, *, served: bool) -> list[str]:
    then = [
        "cloze up                       every run, its logs and pictures in the Prefect UI",
        f"cloze run {recipe.name} --set pretrain.train.steps=5000   a longer run; only what changed is done",
        "cloze recipes, cloze runs, cloze models, cloze doctor",
    ]
    if not served:
        look = (
            f"cloze replay {trained.weights.short} 0 --samples 2   what it read, and its loss at every target"
        )
        return [*_row("store", run.store.url), "", *_row("next", look, *then)]
    state = running(run.settings)
    alive = state is not None and health(state["url"]) is not None
    url = state["url"] if state and alive else "http://127.0.0.1:8000"
    mask = "<mask>" if trained.corpus.vocabulary.step == "train_byte_bpe" else "[MASK]"
    ask = f'curl -s {url}/models/{recipe.language_model} -d \'{{"inputs": "Return a {mask} of all names."}}\''
    serving = (
        f"{url}  (a page to play with; `cloze serve --stop` ends it)"
        if alive
        else "not running; `cloze serve --detach`"
    )
    return [*_row("store", run.store.url), *_row("serving", serving), "", *_row("next", ask, *then)]
