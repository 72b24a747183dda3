"""Make a result exist: reuse it, wait for whoever is making it, or make it.

Prefect shows steps; this file decides whether they run. The manifest's presence is the only proof that a step has run.
"""

import inspect
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from infra.artifacts import MANIFEST, Artifact, Counts, Manifest, digest
from infra.config import Plain, differences, plain
from infra.lease import hold
from infra.output import PARTITIONS, WORK, Mapper, Output, serial_map
from infra.report import SILENT, Report
from infra.storage import Folder

LEASE = "lease.json"
RESERVED = ("names", "models", "runs")  # folders of the store that are not steps

log = logging.getLogger("cloze.steps")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A writer function and the version of its output. Bump `version` only when the output changes for the same config."""

    function: Callable[..., Counts]
    version: int = 1

    @property
    def name(self) -> str:
        return self.function.__name__


Input = Artifact | tuple[Artifact, ...] | None  # several: the generations of a corpus, in order


def flat(inputs: Mapping[str, Input]) -> dict[str, Artifact | None]:
    """Several artifacts under one name get names of their own: shards.0, shards.1."""
    out: dict[str, Artifact | None] = {}
    for name, given in inputs.items():
        if isinstance(given, tuple):
            out |= {f"{name}.{number}": artifact for number, artifact in enumerate(given)}
        else:
            out[name] = given
    return out


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One step with everything that names its result; `artifact` may or may not exist yet."""

    step: Step
    config: Any
    inputs: Mapping[str, Input]
    artifact: Artifact

    @property
    def plain_config(self) -> Plain:
        return plain(self.config)

    @property
    def sources(self) -> dict[str, Artifact | None]:
        """The inputs one by one."""
        return flat(self.inputs)


def plan(store: Folder, step: Step, config: Any, inputs: Mapping[str, Input]) -> Plan:
    """Name the result. Raises TypeError for inputs the function does not take, and for a config that is not plain."""
    try:
        inspect.signature(step.function).bind(config, **inputs, out=None)
    except TypeError as error:
        raise TypeError(f"step {step.name}: {error}") from None
    digests = {k: None if v is None else v.digest for k, v in flat(inputs).items()}
    name = digest(step.name, step.version, plain(config, step.name), digests)
    return Plan(step=step, config=config, inputs=dict(inputs), artifact=Artifact(store, step.name, name))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened: the artifact, whether this call ran it, and the sentence that says why."""

    artifact: Artifact
    action: Literal["ran", "reused", "waited"]
    why: str
    seconds: float


def materialize(
    planned: Plan, *, report: Report = SILENT, mapper: Mapper = serial_map, adopt_from: str | None = None
) -> Outcome:
    """Return the finished artifact, running the step only if nobody has. Safe to call from many processes at once."""
    began = time.monotonic()
    artifact = planned.artifact
    if artifact.finished:
        return Outcome(artifact=artifact, action="reused", why=_reused(artifact), seconds=0.0)
    if adopt_from is not None:
        adopt(planned, adopt_from)
        return Outcome(artifact=artifact, action="reused", why=f"adopted {adopt_from}", seconds=0.0)
    why = explain(planned)
    for input in planned.sources.values():
        if input is not None and not input.finished:
            raise FileNotFoundError(
                f"{artifact.short} needs {input.short}, which is not finished; run that step first"
            )
    folder = artifact.store.child(artifact.step, artifact.digest)
    waited: list[str] = []

    def on_wait(holder: str) -> None:
        if not waited:
            report.note(f"{artifact.short} is being made by {holder}; waiting for it")
        waited.append(holder)

    with hold(folder, LEASE, on_wait=on_wait) as lease:
        out = None
        if not folder.exists(MANIFEST):
            out = Output(folder, report=report, mapper=mapper, lease=lease)
            counts = planned.step.function(planned.config, **planned.inputs, out=out)
            _commit(planned, out, counts, time.monotonic() - began)
    _tidy(folder)
    seconds = time.monotonic() - began
    if out is None:
        by = waited[-1] if waited else "another run"
        return Outcome(artifact=artifact, action="waited", why=f"made by {by}", seconds=seconds)
    if out.partitions_kept:
        why += f"; {out.partitions_kept} finished partitions kept, {out.partitions_run} run"
    return Outcome(artifact=artifact, action="ran", why=why, seconds=seconds)


def run_step(
    function: Callable[..., Counts],
    config: Any,
    *,
    store: Folder,
    version: int = 1,
    report: Report = SILENT,
    mapper: Mapper = serial_map,
    **inputs: Input,
) -> Artifact:
    """Materialize one step without a flow: what tests and notebooks call."""
    planned = plan(store, Step(function=function, version=version), config, inputs)
    return materialize(planned, report=report, mapper=mapper).artifact


def _commit(planned: Plan, out: Output, counts: Counts, seconds: float) -> None:
    """Remove what an interrupted attempt left and this one did not write, then write the manifest: last, and once."""
    bad = {k: v for k, v in counts.items() if not isinstance(v, int) or isinstance(v, bool)}
    if bad:
        raise TypeError(f"step {planned.step.name} counted {bad}; counts are integers")
    out.check()
    for name in out.folder.names():
        if name not in out.files and name not in (LEASE, MANIFEST) and not name.startswith(f"{WORK}/"):
            out.folder.delete(name)
    manifest = Manifest(
        step=planned.step.name,
        version=planned.step.version,
        digest=planned.artifact.digest,
        config=planned.plain_config,
        inputs={k: None if v is None else v.address for k, v in planned.sources.items()},
        counts=counts,
        files=tuple(out.files[name] for name in sorted(out.files)),
        made={
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "host": socket.gethostname(),
            "revision": revision(),
            "measured": out.measured,
            "partitions": {"run": out.partitions_run, "kept": out.partitions_kept},
        },
    )
    out.check()
    out.folder.create(MANIFEST, manifest.to_bytes())


def _tidy(folder: Folder) -> None:
    """Scratch and lease go after the commit: whoever still waits for the lease finds the manifest instead.

    Killed in between, they only cost a little space.
    """
    folder.child(WORK).delete_all()
    folder.delete(LEASE)


@cache
def revision() -> str:
    """The code's git revision, `-dirty` when it has uncommitted changes, else the installed version."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        return subprocess.run(
            ("git", "-C", str(here), *args), capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cloze")
        except PackageNotFoundError:
            return "unknown"


def _reused(artifact: Artifact) -> str:
    made = artifact.manifest.made
    return f"finished {made.get('at', 'earlier')} with the same config and inputs"


def explain(planned: Plan) -> str:
    """Why the step runs: the fields that differ from the nearest manifest of the same step, or what is there already."""
    artifact = planned.artifact
    folder = artifact.store.child(artifact.step, artifact.digest)
    begun = [n for n in folder.names() if n != LEASE and not n.startswith(".")]
    if begun:
        done = sum(n.startswith(f"{PARTITIONS}/") for n in begun)
        return "continues an unfinished run" + (f" ({done} partitions finished)" if done else "")
    nearest = min(_siblings(planned), key=lambda d: (len(d), d), default=None)
    if nearest is None:
        return "first run of this step in this store"
    shown = "; ".join(nearest[:3]) + (f"; and {len(nearest) - 3} more" if len(nearest) > 3 else "")
    return f"differs from the nearest result in {shown}"


def _siblings(planned: Plan) -> list[list[str]]:
    """The differing fields against every finished result of the same step."""
    artifact, out = planned.artifact, []
    parent = artifact.store.child(artifact.step)
    now: Plain = {
        "version": planned.step.version,
        "config": planned.plain_config,
        "inputs": {
            k: None if v is None else v.address[: len(v.step) + 13] for k, v in planned.sources.items()
        },
    }
    for name in parent.folders():
        other = Artifact(artifact.store, artifact.step, name)
        if not other.finished:
            continue
        m = other.manifest
        inputs = {k: None if v is None else v[: v.index("/") + 13] for k, v in m.inputs.items()}
        out.append(differences({"version": m.version, "config": m.config, "inputs": inputs}, now))
    return out


def adopt(planned: Plan, address: str) -> Artifact:
    """Declare that the finished folder `step/digest` is also the result `planned` names; its files are not copied."""
    artifact = planned.artifact
    step = address.partition("/")[0]
    if step != artifact.step:
        raise ValueError(
            f"{address} is a result of {step!r}, not of {artifact.step!r}; adopt a folder of the same step"
        )
    old = Artifact(artifact.store, step, find(artifact.store, address).digest)
    manifest = replace(
        old.manifest,
        digest=artifact.digest,
        version=planned.step.version,
        config=planned.plain_config,
        inputs={k: None if v is None else v.address for k, v in planned.sources.items()},
        location=old.manifest.location or old.address,
        made={**old.manifest.made, "adopted": datetime.now(UTC).isoformat(timespec="seconds")},
    )
    artifact.store.child(artifact.step, artifact.digest).create(MANIFEST, manifest.to_bytes())
    return artifact


def find(store: Folder, text: str) -> Artifact:
    """The artifact that `step/digest-prefix` or a bare digest prefix names. Raises ValueError with the choices."""
    step, slash, prefix = text.partition("/")
    if not slash:
        step, prefix = "", text
    steps = [step] if step else [s for s in store.folders() if s not in RESERVED]
    hits = [(s, d) for s in steps for d in store.child(s).folders() if d.startswith(prefix)] if prefix else []
    if len(hits) == 1:
        return Artifact(store, *hits[0])
    known = ", ".join(s for s in store.folders() if s not in RESERVED) or "none yet"
    if not hits:
        raise ValueError(f"no artifact {text!r} in {store.url}; steps there: {known} (try `cloze runs`)")
    choices = ", ".join(f"{s}/{d[:12]}" for s, d in hits[:6])
    raise ValueError(f"{text!r} fits {len(hits)} artifacts ({choices}); give more digits")
