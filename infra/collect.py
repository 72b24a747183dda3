"""Looking after a store: names, verification, garbage.

A *name* (`quickstart/model@latest`) is a small file that points at an artifact; everything reachable from a name, from a
registered model version or from a run's record is kept with its whole lineage. The rest may go.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infra.artifacts import MANIFEST, Artifact, CorruptFile, to_json
from infra.lease import is_held
from infra.materialize import LEASE, RESERVED
from infra.output import PARTITIONS, WORK
from infra.storage import Folder


def point(store: Folder, name: str, artifact: Artifact) -> None:
    """Let the human name point at a finished artifact."""
    store.child("names").write(f"{name}.json", to_json({"artifact": artifact.address}))


def names(store: Folder) -> dict[str, Artifact]:
    """Every name and what it points at."""
    folder = store.child("names")
    out = {}
    for file in folder.names():
        step, digest = json.loads(folder.read(file))["artifact"].split("/")
        out[file.removesuffix(".json")] = Artifact(store, step, digest)
    return out


def artifacts(store: Folder) -> Iterator[Artifact]:
    """Every artifact folder of the store, finished or not."""
    for step in store.folders():
        if step not in RESERVED:
            for digest in store.child(step).folders():
                yield Artifact(store, step, digest)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file that is not what its manifest says."""

    artifact: Artifact
    name: str
    what: str


def verify(artifact: Artifact) -> list[Damage]:
    """Read every file of a finished artifact against its checksum."""
    out = []
    for entry in artifact.manifest.files:
        try:
            artifact.path(entry.name)
        except CorruptFile as error:
            what = str(error).split(";", maxsplit=1)[0]
            out.append(Damage(artifact=artifact, name=entry.name, what=what))
    return out


def repair(artifact: Artifact, damages: Iterable[Damage]) -> None:
    """Declare the artifact unfinished and drop what is damaged; the next run rebuilds exactly that.

    Intact partitions stay. The rebuilt bytes are the same, so results made from the artifact stay valid.
    """
    folder = artifact.folder
    bad = {damage.name for damage in damages}
    for record in [n for n in folder.names(PARTITIONS) if n.endswith(".json")]:
        files = {record} if record in bad else {f["name"] for f in json.loads(folder.read(record))["files"]}
        if files & bad:
            bad.add(record)
    artifact.store.child(artifact.step, artifact.digest).delete(MANIFEST)
    for name in sorted(bad):
        folder.delete(name)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """An artifact nothing needs, its size in bytes, and why it may go."""

    artifact: Artifact
    size: int
    why: str


def garbage(store: Folder, roots: Iterable[Artifact]) -> list[Garbage]:
    """What no name and none of `roots` (model versions, recent runs) reaches through lineage or adoption."""
    alive: set[str] = set()
    todo = [*names(store).values(), *roots]
    while todo:
        artifact = todo.pop()
        if artifact.address in alive:
            continue
        alive.add(artifact.address)
        if artifact.finished:
            todo += artifact.inputs.values()
            if artifact.manifest.location:
                todo.append(Artifact(store, *artifact.manifest.location.split("/")))
    out = []
    for artifact in artifacts(store):
        folder = store.child(artifact.step, artifact.digest)
        if artifact.address in alive or is_held(folder, LEASE):
            continue
        size = sum(folder.size(name) for name in folder.names())
        why = (
            "nothing names it or was made from it that is still named"
            if artifact.finished
            else "unfinished, and no run holds it"
        )
        out.append(Garbage(artifact=artifact, size=size, why=why))
    return out


def leftovers(store: Folder) -> int:
    """Delete scratch that a kill between commit and clean-up left in finished artifacts; returns bytes freed."""
    freed = 0
    for artifact in artifacts(store):
        if artifact.finished:
            work = store.child(artifact.step, artifact.digest, WORK)
            freed += sum(work.size(name) for name in work.names())
            work.delete_all()
    return freed


def sweep(items: Iterable[Garbage]) -> int:
    """Delete them, manifests first so that a half-deleted folder is never taken for a result; returns bytes freed."""
    freed = 0
    for item in items:
        folder = item.artifact.store.child(item.artifact.step, item.artifact.digest)
        folder.delete(MANIFEST)
        folder.delete_all()
        freed += item.size
    return freed
