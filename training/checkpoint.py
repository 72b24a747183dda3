"""What a run needs to go on: written whole or not at all, verified before it is believed, never unpickled.

    checkpoints/step-00000400/model.safetensors      weights by parameter name
                              optimizer.safetensors  `<parameter>/<key>`: whole tensors, for any number of processes
                              losses.arrow           every step's figures since step 0
                              state.json             step, updates made, the run's config
                              commit.json            size and sha256 of each file, and of itself: written last

A folder without its commit record does not count. The last two are kept, so whatever moment a save dies at, or
whichever file rots afterwards, the one before is usable. There is no random state: noise is keyed by the step
(engine.noise_key), and samples are numbered by it. Equal runs write equal bytes.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.torch
from torch import Tensor, nn

from infra.artifacts import CorruptFile, FileEntry, check_file, to_json
from infra.config import Plain, differences, digest_of
from infra.storage import Folder

COMMIT = "commit.json"
MODEL, OPTIMIZER, LOSSES, STATE = "model.safetensors", "optimizer.safetensors", "losses.arrow", "state.json"
SCHEMA = 1

log = logging.getLogger("cloze.training")


class History:
    """The figures of every step since step 0, one column a figure. The first step decides the names."""

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self.columns: dict[str, list[float]] = dict(columns or {})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def append(self, figures: Mapping[str, float]) -> None:
        if not self.columns:
            self.columns = {name: [] for name in figures}
        for name, values in self.columns.items():
            values.append(float(figures[name]))

    def __getitem__(self, name: str) -> list[float]:
        return self.columns[name]

    def to_table(self) -> pa.Table:
        steps = pa.array(range(len(self)), pa.int64())
        return pa.table({"step": steps, **{k: pa.array(v, pa.float64()) for k, v in self.columns.items()}})

    @staticmethod
    def from_table(table: pa.Table) -> "History":
        return History({name: table[name].to_pylist() for name in table.column_names if name != "step"})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after `step` steps; `updates` of them changed the weights."""

    step: int
    updates: int
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    history: History = field(default_factory=History)


class Checkpoints:
    """The checkpoints of one run in one folder. `identity` is the config that the run's losses depend on.

    One process writes at a time; the step's lease sees to that.
    """

    def __init__(self, folder: Folder, identity: Plain, *, keep: int = 2) -> None:
        self.folder, self.identity, self._keep = folder, identity, keep

    def at(self, step: int) -> Folder:
        return self.folder.child(f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps with a commit record, newest first; their files are not looked at."""
        names = [name for name in self.folder.folders() if name.startswith("step-")]
        return sorted((int(n[5:]) for n in names if self.folder.child(n).exists(COMMIT)), reverse=True)

    def newest(self) -> int | None:
        """The newest step whose files are all whole. A damaged checkpoint is named in the log and passed over.

        Raises ValueError if it belongs to a run with another config.
        """
        for step in self.steps():
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
                f"checkpoint {self.at(step).url} has schema {state['schema']}, this cloze reads {SCHEMA}"
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
        return Checkpoint(
            step=state["step"],
            updates=state["updates"],
            weights=safetensors.torch.load_file(folder.local(MODEL)),
            moments=safetensors.torch.load_file(folder.local(OPTIMIZER)),
            history=History.from_table(pa.ipc.open_file(folder.local(LOSSES)).read_all()),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Write all files, then the commit record, then drop all but the last `keep`."""
        folder = self.at(checkpoint.step)
        state = {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "updates": checkpoint.updates,
            "config": self.identity,
        }
        with commit(folder) as write:
            write.tensors(MODEL, checkpoint.weights)
            write.tensors(OPTIMIZER, checkpoint.moments)
            write.table(LOSSES, checkpoint.history.to_table())
            write.json(STATE, state)
        self._prune(checkpoint.step)

    def _prune(self, newest: int) -> None:
        """Keep the last `keep` committed steps up to `newest`; the record goes first, so half a deletion is no checkpoint."""
        kept = {f"step-{step:08d}" for step in self.steps()[: self._keep]}
        for name in self.folder.folders():
            if name.startswith("step-") and name not in kept:
                self.folder.child(name).delete(COMMIT)
                self.folder.child(name).delete_all()


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
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
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
