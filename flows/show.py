"""The commands that look: recipes, plans, artifacts with their lineage, runs, verification, garbage."""

import json
from argparse import Namespace
from dataclasses import fields, is_dataclass
from typing import Any

from flows import run as runs
from flows.report import describe, duration, human
from flows.settings import Settings
from infra.artifacts import Artifact
from infra.storage import Folder


def recipes(args: Namespace) -> int:
    """List the recipes, or print one's whole config as YAML that `cloze run FILE.yaml` takes back."""
    from flows.recipes import recipe, recipes

    if args.name is None:
        for name, function in recipes().items():
            print(f"{name:<22} {(function.__doc__ or '').strip().splitlines()[0]}")
        return 0
    import yaml

    body = {"recipe": args.name, **_as_yaml(recipe(args.name))}
    del body["name"]
    print(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), end="")
    return 0


def _as_yaml(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return (
            {"type": type(value).__name__} | {f.name: _as_yaml(getattr(value, f.name)) for f in fields(value)}
            if fields(value) and type(value).__name__ != "Recipe"
            else {f.name: _as_yaml(getattr(value, f.name)) for f in fields(value)}
        )
    if isinstance(value, list | tuple):
        return [_as_yaml(v) for v in value]
    return value


def explain(args: Namespace) -> int:
    """Which steps would run, and why."""
    from flows.commands import load
    from flows.pipeline import pipeline
    from flows.plan import plan_lines, plan_of

    recipe = load(args.recipe, args.set)
    print("\n".join(plan_lines(plan_of(lambda: pipeline(recipe), Settings(store=args.store), recipe.name))))
    return 0


def show(args: Namespace) -> int:
    """One artifact: what made it, what it was made from, what it holds."""
    store = runs.open_store(Settings(store=args.store))
    artifact = locate(store, args.artifact)
    if not artifact.finished:
        print(f"{artifact.address}: not finished")
        for name in store.child(artifact.step, artifact.digest).names():
            print(f"  {name}")
        return 1
    m = artifact.manifest
    print(f"{artifact.address}\n  in       {artifact.folder.url}\n  content  {m.content}")
    for key, value in m.made.items():
        if value:
            print(f"  {key:<8} {value if isinstance(value, str) else json.dumps(value)}")
    print(f"  counts   {describe(m.counts) or 'none'}")
    print("config")
    print("\n".join("  " + line for line in json.dumps(m.config, indent=1, ensure_ascii=False).splitlines()))
    print("lineage")
    for line in lineage(artifact):
        print("  " + line)
    print("files")
    for entry in m.files:
        if not entry.name.startswith("partitions/"):
            print(f"  {entry.size:>13,}  {entry.sha256[:12]}  {entry.name}")
    return 0


def lineage(artifact: Artifact, indent: str = "", role: str = "") -> list[str]:
    """The tree of what a result was made from, itself first."""
    state = "" if artifact.finished else "  (deleted; the same recipe rebuilds it)"
    counts = f"  {describe(artifact.counts)}" if artifact.finished and artifact.counts else ""
    lines = [f"{indent}{role + ': ' if role else ''}{artifact.short}{counts}{state}"]
    if artifact.finished:
        for name, source in artifact.inputs.items():
            lines += lineage(source, indent + "  ", name)
    return lines


def locate(store: Folder, text: str) -> Artifact:
    """By human name, by NAME@alias of a registered model, or by step/digest."""
    from infra.collect import names
    from infra.materialize import find
    from serving import rollout

    named = names(store)
    if text in named:
        return named[text]
    if "@" in text or text in rollout.models(store):
        return Artifact(store, *rollout.resolve(store, text).artifact.split("/"))
    return find(store, text)


def runs_command(args: Namespace) -> int:
    """Recorded runs, newest first, with their steps."""
    store = runs.open_store(Settings(store=args.store))
    shown = runs.records(store)[: args.limit]
    if not shown:
        print(f"no runs in {store.url} yet; try `cloze run quickstart`")
    for r in shown:
        ran = sum(s["action"] == "ran" for s in r["steps"])
        print(
            f"{r['started']}  {r['state']:<9}  {r['recipe']:<18} {duration(r['seconds']):>7}  "
            f"{ran} ran, {len(r['steps']) - ran} reused  {r['id']}"
        )
        for s in r["steps"]:
            step, digest = s["artifact"].split("/")
            print(f"    {s['action']:<6} {step}/{digest[:12]:<14} {s['why']}")
        if r["error"]:
            print(f"    {r['error']}")
    return 0


def verify(args: Namespace) -> int:
    """Check files against checksums; with --repair, un-finish what is damaged."""
    from infra.collect import artifacts, repair
    from infra.collect import verify as check

    store = runs.open_store(Settings(store=args.store))
    chosen = [locate(store, args.artifact)] if args.artifact else [a for a in artifacts(store) if a.finished]
    bad = 0
    for artifact in chosen:
        damages = check(artifact)
        for damage in damages:
            print(damage.what)
        if damages and args.repair:
            repair(artifact, damages)
            print(f"{artifact.short}: dropped what is damaged; run its recipe again to rebuild it")
        bad += len(damages)
    print(f"{len(chosen)} artifacts read, {bad} damaged files")
    return 1 if bad and not args.repair else 0


def gc(args: Namespace) -> int:
    """List, or delete, what nothing needs."""
    from infra.collect import garbage, leftovers, sweep
    from serving import rollout

    store = runs.open_store(Settings(store=args.store))
    recent = runs.records(store)[: args.keep_runs]
    roots = [Artifact(store, *s["artifact"].split("/")) for r in recent for s in r["steps"]]
    roots += [
        Artifact(store, *v.artifact.split("/"))
        for name in rollout.models(store)
        for v in rollout.versions(store, name)
    ]
    items = garbage(store, roots)
    for item in items:
        print(f"{human(item.size):>8}B  {item.artifact.short}  {item.why}")
    size = sum(i.size for i in items)
    if args.dry_run:
        print(f"{len(items)} artifacts, {human(size)}B could go")
    else:
        print(f"{len(items)} artifacts deleted, {human(sweep(items) + leftovers(store))}B freed")
    return 0
