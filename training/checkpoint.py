"""What a run needs to go on: written whole or not at all, verified before it is believed, never unpickled.

    checkpoints/step-00000400/model.safetensors      weights by parameter name
                              optimizer.safetensors  `<parameter>/<key>`: whole tensors, for any number of processes
                              carried.safetensors    `<piece>/<number>`: what models that read in order hand on, if any
                              losses.arrow           every step's figures since step 0 (training/history.py)
                              held_out.json          held-out figures by step, if any were measured
                              state.json             step, updates made, roll-backs, the run's config
                              commit.json            size and sha256 of each file, and of itself: written last
               lease.json                            who writes here now

A folder without its commit record does not count. At least the last two are kept, so whatever moment a save dies at, or
whichever file rots afterwards, the one before is usable. There is no random state: noise is keyed by the step
(engine.noise_key), and samples are numbered by it. Equal runs write equal bytes.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.torch
from torch import Tensor, nn

from infra.artifacts import CorruptFile, FileEntry, check_file, to_json
from infra.config import Plain, differences, digest_of
from infra.lease import Lease, hold
from infra.process import Process
from infra.report import Report
from infra.storage import Folder
from training.engine_state import State
from training.history import HeldOutFigures, History

COMMIT, LEASE = "commit.json", "lease.json"
MODEL, OPTIMIZER, CARRIED = "model.safetensors", "optimizer.safetensors", "carried.safetensors"
LOSSES, HELD_OUT, STATE = "losses.arrow", "held_out.json", "state.json"
SCHEMA = 2
BEAT_SECONDS, TTL_SECONDS = 3.0, 12.0  # a trainer that moves to another host waits for its dead self

log = logging.getLogger("cloze.training")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the numbers say of a run so far. Steps after a roll-back read on `passed_over_samples` samples further.

    A run with a time budget has used `seconds` of it, and knows how many `steps` it will have once its plateau is over.
    """

    history: History = field(default_factory=History)
    held_out: HeldOutFigures = field(default_factory=list)
    roll_backs: int = 0
    passed_over_samples: int = 0
    steps: int | None = None
    seconds: float = 0.0

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.history)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run after `progress.step` steps."""

    progress: Progress
    state: State


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which checkpoints stay: the `last` ones, every `every_steps`-th step's (a plateau to return to), and with `best` the one
    with the lowest held-out "loss" of those measured at a checkpoint's step.
    """

    last: int = 2
    every_steps: int | None = None
    best: bool = False

    def __post_init__(self) -> None:
        if self.last < 2:
            raise ValueError(
                f"last {self.last}: should the newest be damaged, one more is needed; give 2 or more"
            )
        if self.every_steps is not None and self.every_steps < 1:
            raise ValueError(
                f"every_steps {self.every_steps}: it is a count; use None to keep none beside the last"
            )

    def chosen(self, steps: list[int], held_out: HeldOutFigures) -> set[int]:
        """Those of `steps` (newest first) that stay."""
        kept = set(steps[: self.last])
        if self.every_steps is not None:
            kept |= {step for step in steps if step % self.every_steps == 0}
        measured = [(row["loss"], int(row["step"])) for row in held_out if int(row["step"]) in steps]
        return kept | {min(measured)[1]} if self.best and measured else kept


class Checkpoints:
    """The checkpoints of one run in one folder. `identity` is the config that the run's losses depend on.

    One process writes at a time: it is in `claimed`.
    """

    def __init__(self, folder: Folder, identity: Plain, *, keep: Keep = Keep()) -> None:
        self.folder, self.identity, self._keep = folder, identity, keep

    def at(self, step: int) -> Folder:
        return self.folder.child(f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps with a commit record, newest first; their files are not looked at."""
        names = [name for name in self.folder.folders() if name.startswith("step-")]
        return sorted((int(n[5:]) for n in names if self.folder.child(n).exists(COMMIT)), reverse=True)

    def newest(self, up_to: int | None = None) -> int | None:
        """The newest step (not beyond `up_to`) whose files are all whole. A damaged one is named in the log and passed over.

        Raises ValueError if it belongs to a run with another config.
        """
        for step in self.steps():
            if up_to is not None and step > up_to:
                continue
            try:
                verify(self.at(step))
            except (CorruptFile, FileNotFoundError) as error:
                log.warning("checkpoint step-%08d is damaged (%s); going back to the one before", step, error)
                continue
            self._check_identity(step)
            return step
        return None

    def _check_identity(self, step: int) -> None:
        state = json.loads(self.at(step).read(STATE))
        if state["schema"] != SCHEMA:
            raise ValueError(
                f"checkpoint {self.at(step).url} has schema {state['schema']}, this cloze reads {SCHEMA}; finish the run "
                "with the cloze that began it, or give this one a folder of its own"
            )
        if different := differences(state["config"], self.identity):
            raise ValueError(
                f"checkpoint {self.at(step).url} belongs to another run: {'; '.join(different[:3])}; "
                "restore the setting, or give this run a folder of its own"
            )

    def load(self, step: int) -> Checkpoint:
        """Read a step that `newest` returned."""
        folder = self.at(step)
        state = json.loads(folder.read(STATE))
        names = folder.names()
        return Checkpoint(
            progress=Progress(
                history=History.from_table(pa.ipc.open_file(folder.local(LOSSES)).read_all()),
                held_out=json.loads(folder.read(HELD_OUT)) if HELD_OUT in names else [],
                roll_backs=state["roll_backs"],
                passed_over_samples=state["passed_over_samples"],
                steps=state["steps"],
                seconds=state["seconds"],
            ),
            state=State(
                weights=safetensors.torch.load_file(folder.local(MODEL)),
                moments=safetensors.torch.load_file(folder.local(OPTIMIZER)),
                carried=safetensors.torch.load_file(folder.local(CARRIED)) if CARRIED in names else {},
                updates=state["updates"],
            ),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Write all files, then the commit record, then drop what is not to be kept."""
        progress, state = checkpoint.progress, checkpoint.state
        facts = {
            "schema": SCHEMA,
            "step": progress.step,
            "updates": state.updates,
            "roll_backs": progress.roll_backs,
            "passed_over_samples": progress.passed_over_samples,
            "steps": progress.steps,
            "seconds": progress.seconds,
            "config": self.identity,
        }
        with commit(self.at(progress.step)) as write:
            write.tensors(MODEL, state.weights)
            write.tensors(OPTIMIZER, state.moments)
            if state.carried:
                write.tensors(CARRIED, state.carried)
            write.table(LOSSES, progress.history.to_table())
            if progress.held_out:
                write.json(HELD_OUT, progress.held_out)
            write.json(STATE, facts)
        kept = self._keep.chosen(self.steps(), progress.held_out)
        self._remove(lambda step: step not in kept)

    def forget_after(self, step: int) -> None:
        """Remove later checkpoints: the run has gone back to this one."""
        self._remove(lambda other: other > step)

    def _remove(self, unwanted: Callable[[int], bool]) -> None:
        """Newest first; of each the record goes first, so half a deletion is no checkpoint."""
        for name in reversed(self.folder.folders()):
            if name.startswith("step-") and unwanted(int(name[5:])):
                self.folder.child(name).delete(COMMIT)
                self.folder.child(name).delete_all()

    @contextmanager
    def claimed(self, report: Report) -> Iterator[Lease]:
        """Be the only writer here. Raises ValueError if a living process of this host is; that of another host is waited for."""

        def on_wait(holder: str) -> None:
            if self._holder_lives_here():
                raise ValueError(
                    f"{self.folder.url} is where {holder} keeps its checkpoints at this moment; "
                    "wait until it has ended, or give this run a folder of its own"
                )
            report.note(f"waiting for {holder}, which was the last to keep checkpoints in {self.folder.url}")

        with hold(
            self.folder, LEASE, heartbeat_seconds=BEAT_SECONDS, ttl_seconds=TTL_SECONDS, on_wait=on_wait
        ) as lease:
            yield lease

    def _holder_lives_here(self) -> bool:
        try:
            return Process(**json.loads(self.folder.read(LEASE))["holder"]).state() == "alive"
        except (OSError, ValueError, TypeError, KeyError):
            return False  # released meanwhile, or nothing we can read: who waits finds out


class commit:
    """Files that count only together: `with commit(folder) as write: write.json(...)`; the record comes last."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.files: dict[str, FileEntry] = {}

    def __enter__(self) -> "commit":
        self.folder.delete(COMMIT)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            files = {name: {"size": e.size, "sha256": e.sha256} for name, e in self.files.items()}
            self.folder.write(COMMIT, to_json({"files": files, "sha256": digest_of(files)}))

    def _file(self, name: str, fill: Any) -> None:
        with self.folder.writer(name) as path:
            fill(path)
            entry = FileEntry.of(name, path)
        self.files[name] = entry

    def tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self._file(name, lambda path: save_tensors(tensors, path))

    def table(self, name: str, table: pa.Table) -> None:
        self._file(name, lambda path: save_table(table, path))

    def json(self, name: str, value: Any) -> None:
        self._file(name, lambda path: path.write_bytes(to_json(value)))


def verify(folder: Folder) -> None:
    """Raise FileNotFoundError or CorruptFile, naming the file, unless `folder` holds what its commit record says."""
    try:
        record = json.loads(folder.read(COMMIT))
        files = record["files"]
        if record["sha256"] != digest_of(files):
            raise ValueError("it does not match its own checksum")
        entries = [FileEntry(name=name, size=f["size"], sha256=f["sha256"]) for name, f in files.items()]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"{COMMIT} is not readable: {error}") from None
    for entry in entries:
        check_file(folder.local(entry.name), entry, lambda e, what: CorruptFile(f"{e.name} {what}"))


def check_fits(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming the first tensor in which `weights` and the model differ."""
    own = {
        name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in model.named_parameters()
    }  # ZeRO 3 hides it
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights or name not in own:
            where = "the weights" if name not in weights else "the model"
            raise ValueError(
                f"{where} have no tensor {name!r}; these weights belong to another kind of model"
            )
        if own[name] != tuple(weights[name].shape):
            raise ValueError(
                f"tensor {name!r} is {tuple(weights[name].shape)} in the weights and {own[name]} in the model; "
                "use the sizes the weights were made with"
            )


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """One safetensors file; no metadata, whose order is not fixed, so equal tensors are equal bytes."""
    safetensors.torch.save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)


def save_table(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
