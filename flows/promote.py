"""Register an exported model, promote it if its gate passes, roll it back: the pointer that servers follow."""

import getpass
from argparse import Namespace
from datetime import UTC, datetime

from flows import run as runs
from flows.report import console, human
from flows.settings import Settings
from infra.artifacts import Artifact
from infra.storage import Folder
from serving import rollout
from serving.rollout import Entry, Gate, Version


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """The user this process runs as, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def promote(name: str, model: Artifact, *, gate: Gate, why: str) -> Version:
    """Register `model` as the next version of `name` and promote it. A version that was ever promoted is left alone.

    So a run that is repeated changes nothing, and a version that somebody rolled back stays rolled back. Raises
    GateRefused.
    """
    store = model.store
    info = model.read_json("cloze.json")
    version = rollout.register(
        store, name, artifact=model.address, scores=info["scores"], lineage=info["lineage"], when=now()
    )
    if any(e.version == version.number for e in rollout.history(store, name)):
        current = rollout.resolve(store, name).number
        where = (
            "in production"
            if current == version.number
            else f"not promoted again (v{current} is in production)"
        )
        console(f"kept   {version.reference} {where}")
        return version
    entry = rollout.promote(store, name, version.number, gate=gate, who=who(), why=why, when=now())
    reason = entry.gate["reason"] if entry.gate else "no gate"
    console(f"moved  {name}@production -> v{version.number}  {reason}")
    return version


def in_production(store: Folder, name: str, model: Artifact) -> bool:
    """Whether `name`@production is exactly this model."""
    moves = rollout.history(store, name)
    return bool(moves) and moves[-1].artifact == model.address


def promote_command(args: Namespace) -> int:
    """`cloze promote NAME[@vN]`."""
    store = runs.open_store(Settings(store=args.store))
    name, _, selector = args.name.partition("@")
    known = rollout.versions(store, name)
    if not known:
        raise ValueError(
            f"no model {name!r} in {store.url}; registered: {', '.join(rollout.models(store)) or 'none'}"
        )
    number = rollout.resolve(store, args.name).number if selector else known[-1].number
    gate = Gate(metric=args.metric, floor=args.floor)
    entry = rollout.promote(
        store, name, number, gate=gate, who=who(), why=args.why or "cloze promote", when=now()
    )
    print(_line(name, entry))
    return 0


def rollback_command(args: Namespace) -> int:
    """`cloze rollback NAME`."""
    store = runs.open_store(Settings(store=args.store))
    entry = rollout.rollback(store, args.name, who=who(), why=args.why or "cloze rollback", when=now())
    print(_line(args.name, entry))
    return 0


def models_command(args: Namespace) -> int:
    """`cloze models`: versions with their scores, then every move of the pointer."""
    store = runs.open_store(Settings(store=args.store))
    for name in rollout.models(store):
        moves = rollout.history(store, name)
        current = moves[-1].version if moves else None
        print(name)
        for v in rollout.versions(store, name):
            scores = ", ".join(f"{k} {human(x)}" for k, x in v.scores.items())
            print(
                f"  v{v.number:<4}{'*' if v.number == current else ' '} {v.artifact[: v.artifact.index('/') + 13]}  {scores}"
            )
        for entry in moves:
            print(f"  {_line(name, entry)}")
    if not rollout.models(store):
        print(f"no models in {store.url} yet; a recipe registers one (`cloze run quickstart`)")
    return 0


def _line(name: str, e: Entry) -> str:
    gate = f" [{e.gate['reason']}]" if e.gate else ""
    return f"{e.when}  {e.action} {name}@production: v{e.previous or '-'} -> v{e.version} by {e.who}: {e.why}{gate}"
