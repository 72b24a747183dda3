"""The registry of models that may be served: numbered, immutable versions.

    <store>/models/<name>/versions/<n>.json     artifact address, scores, lineage; written once

A number is taken by a conditional write, so two that register at once get two numbers, and the same artifact always
keeps the one it has. Nothing here reads a clock: `when` is a string that the caller passes in (ISO 8601, UTC).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.config import canonical
from infra.storage import Folder

MODELS = "models"
PRODUCTION = "production"
SCHEMA = 1
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?")
NUMBER = re.compile(r"v([1-9][0-9]{0,8})")


class UnknownModel(LookupError):
    """No such model, version or alias; the message says what there is."""


class BrokenRecord(ValueError):
    """A version or pointer that contradicts itself: it was edited by hand or damaged."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One immutable registered model. `artifact` is "step/digest" of the exported folder in the same store."""

    name: str
    number: int
    artifact: str
    scores: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    registered: str = ""

    @property
    def reference(self) -> str:
        return f"{self.name}@v{self.number}"

    @property
    def digest(self) -> str:
        return self.artifact.rpartition("/")[2]


def register(
    store: Folder,
    name: str,
    *,
    artifact: str,
    scores: Mapping[str, float],
    lineage: Mapping[str, Any] | None = None,
    when: str,
) -> Version:
    """Give an exported model the next version number. The same artifact again returns the version it already has."""
    check_name(name)
    step, _, digest = artifact.partition("/")
    if not step or not digest or "/" in digest:
        raise ValueError(
            f"artifact is {artifact!r}; it must be 'step/digest', the address of an exported model in this store"
        )
    for metric, value in scores.items():
        if not math.isfinite(value):
            raise ValueError(
                f"score {metric!r} is {value}; scores must be finite, leave out what was not measured"
            )
    folder = store.child(MODELS, name, "versions")
    while True:
        known = versions(store, name)
        for version in known:
            if version.artifact == artifact:
                return version
        number = known[-1].number + 1 if known else 1
        version = Version(
            name=name,
            number=number,
            artifact=artifact,
            scores=dict(scores),
            lineage=dict(lineage or {}),
            registered=when,
        )
        # Losing this race means somebody took the number: look again, they may have registered the same artifact.
        if folder.create(f"{number}.json", canonical({"schema": SCHEMA, **vars(version)})):
            return version


def models(store: Folder) -> list[str]:
    return store.child(MODELS).folders()


def versions(store: Folder, name: str) -> list[Version]:
    """All registered versions, oldest first."""
    numbers = (
        n.removesuffix(".json") for n in store.child(MODELS, name, "versions").names() if n.endswith(".json")
    )
    return [version_of(store, name, number) for number in sorted(int(n) for n in numbers if n.isdecimal())]


def version_of(store: Folder, name: str, number: int) -> Version:
    check_name(name)
    folder = store.child(MODELS, name, "versions")
    try:
        body = json.loads(folder.read(f"{number}.json"))
        if body.pop("schema") != SCHEMA:
            raise BrokenRecord(
                f"{folder.url}/{number}.json is of another cloze's schema; use the cloze that wrote it"
            )
        return Version(**body)
    except FileNotFoundError:
        known = ", ".join(n.removesuffix(".json") for n in folder.names()) or "none"
        raise UnknownModel(f"{name} has no version {number} in {store.url} (it has: {known})") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, BrokenRecord):
            raise
        raise BrokenRecord(
            f"{folder.url}/{number}.json is not a readable version ({error}); restore or register it again"
        ) from None


def parse(reference: str) -> tuple[str, str]:
    """`name@selector` -> (name, selector); no selector means production."""
    name, at, selector = reference.partition("@")
    check_name(name)
    if at and not NAME.fullmatch(selector):
        raise ValueError(f"{reference!r} is not a model; write name@production or name@v3")
    return name, selector or PRODUCTION


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"model name {name!r} must be 1-80 of a-z, 0-9, '.', '_', '-' and begin and end with a letter or digit"
        )
