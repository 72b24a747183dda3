"""One refresh of a corpus in a process of its own: what each step took, in CPU-seconds and in resident memory.

The whole chain with everything that cleans: repair, masking, languages, Gopher C4 FineWeb, near duplicates. It runs
without the Prefect server, whose cost is per step and not per byte. Peaks of memory are those the kernel keeps (VmHWM).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from corpus_kit import cpu_now, timed

R = TypeVar("R")

CHAIN = "refresh-corpus"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One refresh of the text in `folder` into `store`. workers 0: no Ray. `warm`: a folder to refresh before."""

    folder: Path
    store: Path
    vocab_size: int
    workers: int = 0
    warm: Path | None = None


@dataclass(kw_only=True)
class Taken:
    """One step, or a whole refresh: seconds, CPU-seconds of this process, and peak resident MB by process.

    cpu is this process's; spread, CPU-seconds in partitions, is part of it without Ray and the workers' with Ray.
    """

    wall: float = 0.0
    cpu: float = 0.0
    spread: float = 0.0
    others: float = 0.0
    driver: float = 0.0
    workers: tuple[float, ...] = ()

    @property
    def memory(self) -> float:
        return self.driver + sum(self.workers)


@dataclass(kw_only=True)
class Refresh:
    """What one refresh took; startup is CPU-seconds of the imports, base the resident MB after them."""

    total: Taken
    startup: float
    base: float
    steps: dict[str, Taken] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def in_own_process(function: Callable[[Job], R], job: Job) -> R:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, job).result()


def refresh(job: Job) -> Refresh:
    """Run in a process of its own."""
    with open(
        os.devnull, "wb"
    ) as nowhere:  # what steps tell people; a failure is raised where it is waited for
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import prefect.context  # noqa: F401  (the first line of progress would import it)

    import flows.step
    from flows import run as runs
    from flows.refresh_corpus import refresh_corpus
    from flows.settings import Settings
    from infra.ray_cluster import RayMap, connect, disconnect

    startup = cpu_now()
    meter = Meter(startup, alone=not job.workers)
    flows.step._as_task = meter.step  # in place of Prefect's task around each step
    mapper: Any = RayMap(num_cpus=job.workers) if job.workers else meter.in_turn
    if job.workers:
        connect(num_cpus=job.workers)

    def run(folder: Path, store: Path, **vocabulary: int) -> Any:
        settings = Settings(home=store / "home", store=str(store))
        with runs.using(replace(runs.new_run(settings, "bench"), mapper=mapper)):
            return refresh_corpus(recipe_of(folder, **vocabulary))

    if job.warm is not None:
        run(job.warm, job.store.with_name("warm"), vocab_size=300, alphabet_size=100)
        shutil.rmtree(job.store.with_name("warm"))
    meter.steps.clear()
    result = timed(lambda: run(job.folder, job.store, vocab_size=job.vocab_size))
    spread = sum(step.spread for step in meter.steps.values())
    by_workers = spread / (result.wall * (os.cpu_count() or 1)) if job.workers else 0.0
    others = round(max(0.0, result.others - by_workers), 2)
    meter.found.total = Taken(wall=result.wall, cpu=result.cpu, spread=spread, others=others)
    corpus = result.result
    meter.found.counts = {
        "documents": sum(a.counts["kept"] for a in corpus.documents),
        "kept": sum(a.counts["kept"] for a in corpus.kept),
        "tokens": sum(a.counts["tokens"] for a in (*corpus.shards, *corpus.held_out)),
    }
    disconnect()
    return meter.found


def recipe_of(folder: Path, **vocabulary: int) -> Any:
    from corpus.clean import CleanConfig
    from corpus.ingest import IngestConfig
    from corpus.pii import ALL
    from corpus.quality.c4 import C4
    from corpus.quality.fineweb import FineWeb
    from corpus.quality.gopher import Gopher
    from corpus.select import SelectConfig
    from corpus.sources.json_lines import JsonLines
    from corpus.wordpiece.train import WordPieceConfig
    from flows.recipe import CorpusRecipe

    source = JsonLines(folder=str(folder))
    return CorpusRecipe(
        ingest=IngestConfig(sources=(source,), clean=CleanConfig(repair_unicode=True, mask_pii=ALL)),
        select=SelectConfig(rules=(Gopher(), C4(), FineWeb())),
        vocabulary=WordPieceConfig(**vocabulary),
    )


class Meter:
    """Stands around every step of a run and keeps what it took. A step that runs twice is added up."""

    def __init__(self, startup: float, *, alone: bool) -> None:
        self._processes = (
            (lambda: [os.getpid()]) if alone else processes
        )  # to look for workers costs 8 CPU-ms a time
        self.found = Refresh(total=Taken(), startup=startup, base=peaks([os.getpid()])[0])
        self.steps = self.found.steps
        self._spread = 0.0

    def step(self, name: str, title: str, work: Callable[[], R]) -> R:
        if name == CHAIN:
            return work()
        forget_peaks(self._processes())
        self._spread = -workers_cpu(self._processes())
        result = timed(work)
        self._spread += workers_cpu(self._processes())
        driver, *workers = peaks(self._processes())
        before = self.steps.get(name, Taken())
        self.steps[name] = Taken(
            wall=before.wall + result.wall,
            cpu=before.cpu + result.cpu,
            spread=before.spread + self._spread,
            driver=max(before.driver, driver),
            workers=max(before.workers, tuple(workers), key=sum),
        )
        return result.result

    def in_turn(self, tasks: Any) -> Iterator[Any]:
        """Partitions here, one after the other."""
        from infra.output import run_partition

        for task in tasks:
            began = cpu_now()
            done = run_partition(task)
            self._spread += cpu_now() - began
            yield done


def processes() -> list[int]:
    """This process and the Ray workers below it."""
    parents: dict[int, int] = {}
    workers: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            if command.startswith((b"ray::IDLE", b"ray::run_partition")):  # not Ray's own agents
                workers.append(int(entry.name))

    def below(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [os.getpid(), *(w for w in workers if below(w))]


def peaks(pids: list[int]) -> list[float]:
    """The most resident MB of each since `forget_peaks`."""
    found = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # a worker that Ray has just let go
            continue
        found += [int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM:")]
    return found


def workers_cpu(pids: list[int]) -> float:
    """CPU-seconds of the Ray workers until now."""
    ticks = 0
    for pid in pids[1:]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def forget_peaks(pids: list[int]) -> None:
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): start counting peaks anew
        except OSError:
            continue
