"""The commands that run a recipe, whole or up to a station."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import api
from flows import run as runs
from flows.overrides import change, merge, nested, parse_settings, read_yaml
from flows.plan import plan_lines, plan_of
from flows.recipe import Recipe
from flows.recipes import recipe as recipe_by_name
from flows.report import console
from flows.settings import Settings
from flows.step import chain
from infra.artifacts import Artifact


def load(name: str, sets: list[str]) -> Recipe:
    """The recipe that a name or a YAML file gives, with `--set` applied last."""
    if name.endswith((".yaml", ".yml")):
        base, changes = read_yaml(Path(name))
    else:
        base, changes = name, {}
    return change(recipe_by_name(base), merge(nested(changes), nested(parse_settings(sets))))


def settings_of(args: Namespace) -> Settings:
    """Settings from the environment, overridden by options."""
    given = {"ray_address": getattr(args, "ray", None), "workers": getattr(args, "workers", None)}
    return replace(Settings(store=args.store), **{k: v for k, v in given.items() if v is not None})


def adoptions(texts: list[str]) -> dict[str, str]:
    """`["shard/3f2a"]` -> {"shard": "shard/3f2a"}."""
    out = {}
    for text in texts:
        step, slash, digest = text.partition("/")
        if not slash or not digest:
            raise ValueError(f"--adopt {text!r} is not STEP/DIGEST; copy one from `cloze runs`")
        out[step] = text
    return out


def execute(station: chain[Any, Any], recipe: Recipe, args: Namespace, part: Any = None) -> Any:
    """Run `station` on `part` of the recipe (the whole by default) under Prefect, or only plan it."""
    from infra.ray_cluster import disconnect

    settings = settings_of(args)
    part = recipe if part is None else part
    if args.dry_run:
        print("\n".join(plan_lines(plan_of(lambda: station(part), settings, recipe.name))))
        return None
    runs.open_store(settings)  # an unreachable store is said now, not after the server has started
    with api.prefect_api(settings.home) as url:
        run = runs.new_run(settings, recipe.name, adopt=adoptions(args.adopt))
        run.api = url
        console(f"run {run.id}  store {run.store.url}  watch {url.removesuffix('/api')}")
        try:
            with runs.using(run):
                return station.flow(part, run.store.url)
        finally:
            disconnect()


def run(args: Namespace) -> int:
    """`cloze run`: everything, then the screen."""
    from flows.pipeline import pipeline

    recipe = load(args.recipe, args.set)
    execute(pipeline, recipe, args)
    return 0


def refresh(args: Namespace) -> int:
    """`cloze refresh`: sources to token shards."""
    from flows.refresh_corpus import refresh_corpus

    recipe = load(args.recipe, args.set)
    return _station(refresh_corpus, recipe, args, recipe.corpus)


def pretrain(args: Namespace) -> int:
    """`cloze pretrain`: up to the pretrained model."""
    from flows.pretrain import pretrain

    return _station(pretrain, load(args.recipe, args.set), args)


def finetune(args: Namespace) -> int:
    """`cloze finetune`: up to the fine-tuned models."""
    from flows.finetune import finetune

    return _station(finetune, load(args.recipe, args.set), args)


def evaluate(args: Namespace) -> int:
    """`cloze evaluate`: up to the scores and the comparison."""
    from flows.evaluate import evaluate

    return _station(evaluate, load(args.recipe, args.set), args)


def _station(station: chain[Any, Any], recipe: Recipe, args: Namespace, part: Any = None) -> int:
    result = execute(station, recipe, args, part)
    named: Mapping[str, Any] = result._asdict() if hasattr(result, "_asdict") else {}
    for name, made in named.items():
        for artifact in made if isinstance(made, tuple) else (made,):
            if isinstance(artifact, Artifact):
                console(f"{name.replace('_', ' '):<16} {artifact.short}   (cloze show {artifact.short})")
    return 0
