"""Which version of a served model answers: the pointer, its gate, and every move it ever made.

    <store>/models/<name>/aliases/production.json     {"version": 3, "history": [entry, entry, ...]}

A pointer moves by one conditional write (`Folder.create` for the first move, `Folder.replace` afterwards), and its history
lies in the same object: whoever loses the race has written nothing, and a pointer without the record of its move cannot
exist. Each entry of the history holds the sha256 of the one before it, so an edited past is noticed when it is read.

MLflow's aliases are last-write-wins and keep no history, which is why this is not built on them. Versions are in
registry.py; as there, nothing reads a clock, so the same moves give the same bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from infra.config import canonical
from infra.storage import Folder
from serving.gate import Gate
from serving.registry import (
    MODELS,
    NAME,
    NUMBER,
    PRODUCTION,
    SCHEMA,
    BrokenRecord,
    UnknownModel,
    Version,
    check_name,
    models,
    parse,
    register,
    version_of,
    versions,
)

__all__ = [  # one door for whoever promotes: versions and pointers
    "PRODUCTION", "BrokenRecord", "Entry", "Gate", "GateRefused", "Pointer", "PointerMoved", "UnknownModel", "Version",
    "history", "models", "number_of", "parse", "promote", "read_pointer", "register", "resolve", "rollback",
    "version_of", "versions",
]  # fmt: skip


class GateRefused(ValueError):
    """The candidate did not pass; the pointer has not moved."""


class PointerMoved(RuntimeError):
    """Somebody else moved the pointer between our look and our write; ours was not written."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One move. `previous` is the version before it (None: there was none); `sha256` covers every other field."""

    action: str  # "promote" or "rollback"
    version: int
    previous: int | None
    artifact: str
    who: str
    why: str
    when: str
    gate: dict[str, Any] | None
    prev_sha256: str
    sha256: str = ""

    def sealed(self) -> "Entry":
        body = {k: v for k, v in vars(self).items() if k != "sha256"}
        return Entry(**body, sha256=hashlib.sha256(canonical(body)).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """An alias as read: its moves in order, and the store's tag of that content (for the next conditional write)."""

    name: str
    alias: str
    history: tuple[Entry, ...] = ()
    tag: str | None = None

    @property
    def number(self) -> int | None:
        return self.history[-1].version if self.history else None

    def stack(self) -> list[int]:
        """Versions under the current one, oldest first: a promotion pushes, a rollback pops down to its version."""
        stack: list[int] = []
        for entry in self.history:
            if entry.action == "promote":
                stack.append(entry.version)
            else:
                while stack and stack[-1] != entry.version:
                    stack.pop()
        return stack


def promote(
    store: Folder,
    name: str,
    number: int,
    *,
    alias: str = PRODUCTION,
    gate: Gate | None,
    who: str,
    why: str,
    when: str,
) -> Entry:
    """Point the alias at a version if the gate passes. Already there: nothing is written, the last move is returned.

    `gate=None` is a deliberate override and is recorded as such. Raises UnknownModel, GateRefused, PointerMoved.
    """
    candidate = version_of(store, name, number)
    pointer = read_pointer(store, name, alias)
    if pointer.number == number:
        return pointer.history[-1]
    current = None if pointer.number is None else version_of(store, name, pointer.number)
    record: dict[str, Any] | None = None
    if gate is not None:
        verdict = gate.judge(candidate, current)
        if not verdict.passed:
            raise GateRefused(f"{candidate.reference} was not promoted to {name}@{alias}: {verdict.reason}")
        record = {**vars(gate), "reason": verdict.reason}
    return _move(store, pointer, action="promote", target=candidate, who=who, why=why, when=when, gate=record)


def rollback(
    store: Folder, name: str, *, alias: str = PRODUCTION, to: int | None = None, who: str, why: str, when: str
) -> Entry:
    """Point the alias back at the version before the current one, or at `to`, which must have served before it."""
    pointer = read_pointer(store, name, alias)
    earlier = pointer.stack()[:-1]
    target = to if to is not None else (earlier[-1] if earlier else None)
    if target is None or target not in earlier:
        there = ", ".join(f"v{n}" for n in earlier) or "none"
        asked = f"to v{to} " if to is not None else ""
        raise UnknownModel(
            f"{name}@{alias} cannot be rolled back {asked}(versions before the current one: {there}); promote a version instead"
        )
    version = version_of(store, name, target)
    return _move(store, pointer, action="rollback", target=version, who=who, why=why, when=when, gate=None)


def resolve(store: Folder, reference: str) -> Version:
    """`name@production`, `name@v3`, or `name` (its production version)."""
    return version_of(store, parse(reference)[0], number_of(store, reference))


def number_of(store: Folder, reference: str) -> int:
    """The version a reference points to: one small read, which is what a watcher pays per poll."""
    name, selector = parse(reference)
    if match := NUMBER.fullmatch(selector):
        return int(match[1])
    pointer = read_pointer(store, name, selector)
    if pointer.number is not None:
        return pointer.number
    known = versions(store, name)
    if not known:
        names = ", ".join(models(store)) or "none"
        raise UnknownModel(
            f"no model {name!r} is registered in {store.url} (registered: {names}); run a recipe that exports it"
        )
    raise UnknownModel(
        f"{name}@{selector} points nowhere; promote one of {', '.join(v.reference for v in known)} "
        f"with `cloze promote {known[-1].reference}`"
    )


def history(store: Folder, name: str, *, alias: str = PRODUCTION) -> tuple[Entry, ...]:
    """Every move of the alias, oldest first, its chain verified; empty when it has never been set."""
    return read_pointer(store, name, alias).history


def read_pointer(store: Folder, name: str, alias: str) -> Pointer:
    """The pointer as it is now, its chain verified. Raises BrokenRecord."""
    check_name(name)
    if not NAME.fullmatch(alias) or NUMBER.fullmatch(alias):
        raise ValueError(f"alias {alias!r} must be a name such as 'production', not a version")
    folder = store.child(MODELS, name, "aliases")
    try:
        data, tag = folder.read_tagged(f"{alias}.json")
    except FileNotFoundError:
        return Pointer(name=name, alias=alias)
    where = f"{folder.url}/{alias}.json"
    try:
        body = json.loads(data)
        entries = tuple(Entry(**entry) for entry in body["history"])
        fields = (body["name"], body["alias"], body["version"], body["schema"])
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenRecord(f"{where} is not a readable pointer ({error}); restore it from a backup") from None
    before = ""
    for index, entry in enumerate(entries):
        if entry.prev_sha256 != before or entry.sealed().sha256 != entry.sha256:
            raise BrokenRecord(
                f"entry {index} of {where} does not match its checksum: the history was edited; restore it"
            )
        before = entry.sha256
    if not entries or fields != (name, alias, entries[-1].version, SCHEMA):
        raise BrokenRecord(f"{where} does not point where its history ends; restore it from a backup")
    return Pointer(name=name, alias=alias, history=entries, tag=tag)


def _move(
    store: Folder,
    pointer: Pointer,
    *,
    action: str,
    target: Version,
    who: str,
    why: str,
    when: str,
    gate: dict[str, Any] | None,
) -> Entry:
    for field_name, value in (("who", who), ("why", why), ("when", when)):
        if not value.strip():
            raise ValueError(f"{field_name} is empty; a move is recorded with who made it, why and when")
    entry = Entry(
        action=action,
        version=target.number,
        previous=pointer.number,
        artifact=target.artifact,
        who=who,
        why=why,
        when=when,
        gate=gate,
        prev_sha256=pointer.history[-1].sha256 if pointer.history else "",
    ).sealed()
    body = {
        "schema": SCHEMA,
        "name": pointer.name,
        "alias": pointer.alias,
        "version": target.number,
        "artifact": target.artifact,
        "history": [vars(e) for e in (*pointer.history, entry)],
    }
    folder, file = store.child(MODELS, pointer.name, "aliases"), f"{pointer.alias}.json"
    data = canonical(body)
    won = folder.create(file, data) if pointer.tag is None else folder.replace(file, data, pointer.tag)
    if won:
        return entry
    now = read_pointer(store, pointer.name, pointer.alias)
    if entry in now.history:  # ours was stored after all, and its acknowledgement lost
        return entry
    last = now.history[-1] if now.history else None
    by = f" to v{last.version} by {last.who} ({last.why})" if last else ""
    raise PointerMoved(
        f"{pointer.name}@{pointer.alias} was moved{by} while {target.reference} was being set; nothing was changed here, "
        "look at its history and decide again"
    )
