"""A result being written: whole files, and partitions that survive a kill.

A partition is one unit of a step's work with a content-derived id. It writes its files, then its record
`partitions/<id>.json` (files with checksums, counts). A restart believes a record only if its files still match, so
only unfinished partitions run again. Everything is published by rename or conditional put: half a file is never seen.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.artifacts import CorruptFile, Counts, FileEntry, check_file, to_json
from infra.lease import Lease
from infra.report import SILENT, Report
from infra.storage import Folder

PARTITIONS = "partitions"
WORK = "work"
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._=-]{0,80}")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One partition to run, as it travels to a worker."""

    id: str
    function: Callable[..., Counts]
    item: Any
    shared: Mapping[str, Any]
    folder: Folder


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished partition: its counts, its files and the log lines of its worker."""

    id: str
    counts: Counts
    files: tuple[FileEntry, ...]
    log: tuple[str, ...] = ()


Mapper = Callable[[Iterable[Task]], Iterator[Done]]


class PartitionFailed(RuntimeError):
    """A partition raised; it is not an empty partition. The others' finished work is kept."""


class PartitionOutput:
    """Where one partition writes. Name data files after `id`, so that partitions never collide."""

    def __init__(self, folder: Folder, id: str) -> None:
        self.folder, self.id = folder, id
        self.files: dict[str, FileEntry] = {}

    @contextmanager
    def writer(self, name: str) -> Iterator[Path]:
        """A local path to write; its file appears whole when the block ends well, and not at all otherwise."""
        with self.folder.writer(name) as path:
            yield path
            entry = FileEntry.of(name, path)
        self.files[name] = entry

    def write(self, name: str, data: bytes) -> None:
        with self.writer(name) as path:
            path.write_bytes(data)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def run_partition(task: Task) -> Done:
    """Run one partition and write its record: on a Ray worker or here."""
    out = PartitionOutput(task.folder, task.id)
    lines = _Lines()
    log = logging.getLogger("cloze")
    log.addHandler(lines)
    try:
        counts = task.function(task.item, out=out, **task.shared)
    except Exception as error:
        raise PartitionFailed(f"partition {task.id}: {type(error).__name__}: {error}") from error
    finally:
        log.removeHandler(lines)
    files = tuple(out.files[name] for name in sorted(out.files))
    record = {"id": task.id, "counts": counts, "files": [vars(f) for f in files]}
    task.folder.write(f"{PARTITIONS}/{task.id}.json", to_json(record))
    return Done(id=task.id, counts=counts, files=files, log=tuple(lines.lines))


def serial_map(tasks: Iterable[Task]) -> Iterator[Done]:
    """Run the partitions here, one after another."""
    return map(run_partition, tasks)


class Output:
    """Where a step writes. `folder/work/` is the step's own scratch: kept over a kill, removed when the step ends."""

    def __init__(
        self,
        folder: Folder,
        *,
        report: Report = SILENT,
        mapper: Mapper = serial_map,
        lease: Lease | None = None,
    ) -> None:
        self.folder, self.report = folder, report
        self._mapper, self._lease = mapper, lease
        self.files: dict[str, FileEntry] = {}
        self.measured: dict[str, float] = {}
        self.partitions_run = self.partitions_kept = 0

    def check(self) -> None:
        """Raise LeaseLost if another run has taken this step over."""
        if self._lease is not None:
            self._lease.check()

    @contextmanager
    def writer(self, name: str) -> Iterator[Path]:
        """A local path to write; its file appears whole when the block ends well, and not at all otherwise."""
        with self.folder.writer(name) as path:
            yield path
            entry = FileEntry.of(name, path)
        self.files[name] = entry

    def write(self, name: str, data: bytes) -> None:
        with self.writer(name) as path:
            path.write_bytes(data)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, to_json(value))

    def measure(self, **figures: float) -> None:
        """Facts that may differ between equal runs (seconds, rates): shown and kept, never part of the content."""
        self.measured |= figures

    def map(
        self, function: Callable[..., Counts], items: Mapping[str, Any], **shared: Any
    ) -> dict[str, Counts]:
        """Run `function(item, out=PartitionOutput, **shared) -> Counts` once per partition id; counts by id, sorted.

        `function` is importable by name (it travels to workers). Raises PartitionFailed after the partitions that
        were already running have finished.
        """
        done = {}
        for id in sorted(items):
            if not _ID.fullmatch(id):
                raise ValueError(
                    f"partition id {id!r} is not usable as a file name; use letters, digits, '.', '_', '-', '='"
                )
            if (kept := self._finished(id)) is not None:
                done[id] = kept
        self.partitions_kept += len(done)
        todo = [id for id in sorted(items) if id not in done]
        if done:
            self.report.note(
                f"{len(done)} of {len(items)} partitions were finished before; {len(todo)} to do"
            )
        tasks = [
            Task(id=i, function=function, item=items[i], shared=shared, folder=self.folder) for i in todo
        ]
        self.report.progress(len(done), len(items), "partitions")
        for result in self._mapper(tasks) if tasks else ():
            self.check()
            done[result.id] = result
            self.partitions_run += 1
            for line in result.log:
                self.report.note(line)
            self.report.progress(len(done), len(items), "partitions")
        for id in sorted(done):
            self.files |= {f.name: f for f in done[id].files}
            self._add_record(id)
        return {id: done[id].counts for id in sorted(done)}

    def _finished(self, id: str) -> Done | None:
        """The record of a partition finished by an earlier attempt, if all its files still match."""
        try:
            record = json.loads(self.folder.read(f"{PARTITIONS}/{id}.json"))
            files = tuple(FileEntry(**f) for f in record["files"])
            for entry in files:
                check_file(
                    self.folder.local(entry.name), entry, lambda e, what: CorruptFile(f"{e.name} {what}")
                )
        except FileNotFoundError:
            return None
        except (CorruptFile, ValueError, KeyError, TypeError) as error:
            self.report.note(f"partition {id} is damaged ({error}); it runs again")
            return None
        return Done(id=id, counts=record["counts"], files=files)

    def _add_record(self, id: str) -> None:
        name = f"{PARTITIONS}/{id}.json"
        self.files[name] = FileEntry.of(name, self.folder.local(name))


def total(counts: Mapping[str, Counts]) -> Counts:
    """The sum over partitions, name by name, names in order of first appearance."""
    out: Counts = {}
    for one in counts.values():
        for name, value in one.items():
            out[name] = out.get(name, 0) + value
    return out
