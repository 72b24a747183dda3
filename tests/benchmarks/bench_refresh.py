"""What a refresh costs: its memory, its workers, its second run, and a terabyte. One JSON line per figure; Linux.

    python tests/benchmarks/bench_refresh.py [--text PATH] [--megabytes 10] [--repeats 3]
                                             [--only memory|workers|increment|terabyte]

Every refresh is the whole chain (repair, masking, languages, Gopher C4 FineWeb, near duplicates, vocabulary, shards) in a
process of its own with an empty store, without the Prefect server, whose cost is per step and not per byte. Text is real;
where there is too little, its sentences are dealt into other documents (corpus_kit.py).

    memory     peak resident memory of driver and Ray workers at 1, 4 and 16 times --megabytes, by step, which the kernel
               keeps (VmHWM); `flat` compares them without the step that learns the vocabulary. Floor: 1.2 from 1x to 16x.
    workers    wall seconds with one Ray worker and with two, on 4 x --megabytes, in turn; Ray and its workers are up and
               have refreshed 1x before. Floor: 1.7.
    increment  CPU-seconds of a refresh with 1 % new text beside those of the first one, on 16 x --megabytes; one process,
               children included, from after the imports; `with_startup` counts them too. Ceiling: 0.05.
    terabyte   core-hours for 1 TB of text, by step: what a step took at 16x less what it took at 4x, per MB. (Learning
               the vocabulary depends on its size and the number of distinct words, and is given as it was.)
"""

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from corpus_kit import Text, cpu_now, emit, parser_of, size_of, timed, write_jsonl

R = TypeVar("R")

LIBRARIES = ("pyarrow", "numpy", "tokenizers", "ray")
VOCABULARY = "train_wordpiece"
CHAIN = "refresh-corpus"
FILE_MEGABYTES = 1.0


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

    spread: CPU-seconds in partitions.
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
    ) as nowhere:  # what the steps tell people; a failure is raised where it is waited for
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import prefect.context  # noqa: F401  (the first line of progress would import it)

    import flows.step
    from flows import run as runs
    from flows.refresh_corpus import refresh_corpus
    from flows.settings import Settings
    from infra.ray_cluster import RayMap, connect, disconnect

    startup = cpu_now()
    meter = Meter(startup)
    flows.step._as_task = meter.step  # in place of Prefect's task around each step
    mapper: Any = RayMap(num_cpus=job.workers) if job.workers else meter.in_turn
    if job.workers:
        connect(num_cpus=job.workers)

    def run(folder: Path, store: Path, vocab_size: int) -> Any:
        settings = Settings(home=store / "home", store=str(store))
        with runs.using(replace(runs.new_run(settings, "bench"), mapper=mapper)):
            return refresh_corpus(recipe_of(folder, vocab_size))

    if job.warm is not None:
        run(job.warm, job.store.with_name("warm"), 300)
        shutil.rmtree(job.store.with_name("warm"))
    meter.steps.clear()
    result = timed(lambda: run(job.folder, job.store, job.vocab_size))
    meter.found.total = Taken(wall=result.wall, cpu=result.cpu, others=result.others)
    corpus = result.result
    meter.found.counts = {
        "documents": sum(a.counts["kept"] for a in corpus.documents),
        "kept": sum(a.counts["kept"] for a in corpus.kept),
        "tokens": sum(a.counts["tokens"] for a in (*corpus.shards, *corpus.held_out)),
    }
    disconnect()
    return meter.found


def recipe_of(folder: Path, vocab_size: int) -> Any:
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
        vocabulary=WordPieceConfig(vocab_size=vocab_size),
    )


class Meter:
    """Stands around every step of a run and keeps what it took. A step that runs twice is added up."""

    def __init__(self, startup: float) -> None:
        self.found = Refresh(total=Taken(), startup=startup, base=peaks()[0])
        self.steps = self.found.steps
        self._spread = 0.0

    def step(self, name: str, title: str, work: Callable[[], R]) -> R:
        if name == CHAIN:
            return work()
        forget_peaks()
        self._spread = 0.0
        result = timed(work)
        driver, *workers = peaks()
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


def peaks() -> list[float]:
    """The most resident MB of each since `forget_peaks`."""
    found = []
    for pid in processes():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # a worker that Ray has just let go
            continue
        found += [int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM:")]
    return found


def forget_peaks() -> None:
    for pid in processes():
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): start counting peaks anew
        except OSError:
            continue


class Bench:
    """Text of any size in a scratch folder, and refreshes of it."""

    def __init__(self, text: Text, home: Path, given: Any) -> None:
        self.text, self.home, self.given = text, home, given
        self.sizes: dict[Path, float] = {}
        self.conditions = {"texts": text.name, "vocab_size": given.vocab_size, "cleaning": "all"}

    def folder(self, times: float) -> Path:
        """JSONL files of that many times --megabytes."""
        folder = self.home / f"text-{times:g}"
        if folder not in self.sizes:
            texts = self.text.take(times * self.given.megabytes)
            write_jsonl(folder, texts, FILE_MEGABYTES)
            self.sizes[folder] = size_of(texts)
        return folder

    def run(self, folder: Path, *, keep: bool = False, **job: Any) -> Refresh:
        store = self.home / "store"
        done = in_own_process(
            refresh, Job(folder=folder, store=store, vocab_size=self.given.vocab_size, **job)
        )
        if not keep:
            shutil.rmtree(store)
        print(f"{folder.name} {job}: {done.total.wall:.1f} s, {done.total.cpu:.1f} CPU-s", file=sys.stderr)
        return done

    def emit(self, figure: str, **fields: Any) -> None:
        emit("refresh", figure, *LIBRARIES, **fields, **self.conditions)


def memory(bench: Bench) -> None:
    totals: dict[int, float] = {}
    for times in (1, 4, 16):
        folder = bench.folder(times)
        done = bench.run(folder, workers=2)
        others = {name: step for name, step in done.steps.items() if name != VOCABULARY}
        highest = max(others, key=lambda name: others[name].memory)
        totals[times] = others[highest].memory
        bench.emit(
            "memory",
            times=times,
            megabytes=round(bench.sizes[folder], 1),
            metric="peak_resident_MB",
            value=round(totals[times], 1),
            highest=highest,
            driver=round(max(s.driver for s in others.values())),
            worker=round(max(max(s.workers, default=0.0) for s in others.values())),
            driver_after_imports=round(done.base),
            with_vocabulary=round(max(s.memory for s in done.steps.values())),
            steps={name: [round(s.driver), *map(round, s.workers)] for name, s in done.steps.items()},
            counts=done.counts,
        )
    ratio = totals[16] / totals[1]
    bench.emit(
        "memory",
        metric="16x_to_1x",
        value=round(ratio, 3),
        to_4x=round(totals[4] / totals[1], 3),
        ceiling=1.2,
        met=max(totals[4], totals[16]) <= 1.2 * totals[1],
    )


def workers(bench: Bench) -> None:
    folder, warm = bench.folder(4), bench.folder(1)
    pairs = [[bench.run(folder, workers=n, warm=warm) for n in (1, 2)] for _ in range(bench.given.repeats)]
    ratios = [one.total.wall / two.total.wall for one, two in pairs]
    steps = {
        name: [round(statistics.median(p[k].steps[name].wall for p in pairs), 2) for k in (0, 1)]
        for name in pairs[0][0].steps
    }
    middle = statistics.median(ratios)
    bench.emit(
        "workers",
        metric="wall_1_to_2_workers",
        value=round(middle, 2),
        ratios=[round(r, 2) for r in ratios],
        floor=1.7,
        met=middle >= 1.7,
        n=len(pairs),
        megabytes=round(bench.sizes[folder], 1),
        wall_s=[round(statistics.median(p[k].total.wall for p in pairs), 1) for k in (0, 1)],
        driver_cpu_s=[round(statistics.median(p[k].total.cpu for p in pairs), 1) for k in (0, 1)],
        steps_wall_s=steps,
        between_steps_s=[
            round(
                statistics.median(p[k].total.wall - sum(s.wall for s in p[k].steps.values()) for p in pairs),
                2,
            )
            for k in (0, 1)
        ],
    )


def increment(bench: Bench) -> list[Refresh]:
    """Returns the full runs."""
    whole = bench.text.take(16 * bench.given.megabytes)
    old, new = [t for n, t in enumerate(whole) if n % 100 != 50], whole[50::100]
    folder = bench.home / "text-grows"
    fulls, seconds = [], []
    for _ in range(bench.given.repeats):
        write_jsonl(folder, old, FILE_MEGABYTES)
        fulls.append(bench.run(folder, keep=True))
        write_jsonl(folder, new, FILE_MEGABYTES, name="new")
        seconds.append(bench.run(folder))
        shutil.rmtree(folder)
    pairs = list(zip(fulls, seconds, strict=True))
    ratios = [b.total.cpu / a.total.cpu for a, b in pairs]
    names = list(dict.fromkeys([*fulls[0].steps, *seconds[0].steps]))
    middle = statistics.median(ratios)

    def cpu(side: list[Refresh], name: str) -> float:
        return round(statistics.median(r.steps[name].cpu if name in r.steps else 0.0 for r in side), 3)

    def rest(side: list[Refresh]) -> float:
        return round(statistics.median(r.total.cpu - sum(s.cpu for s in r.steps.values()) for r in side), 3)

    bench.emit(
        "increment",
        metric="cpu_of_1_percent_to_full",
        value=round(middle, 4),
        ratios=[round(r, 4) for r in ratios],
        ceiling=0.05,
        met=middle <= 0.05,
        with_startup=round(
            statistics.median((b.total.cpu + b.startup) / (a.total.cpu + a.startup) for a, b in pairs), 4
        ),
        n=len(pairs),
        megabytes=[round(size_of(old), 2), round(size_of(new), 2)],
        cpu_s=[round(statistics.median(r.total.cpu for r in side), 2) for side in (fulls, seconds)],
        startup_cpu_s=[round(statistics.median(r.startup for r in side), 2) for side in (fulls, seconds)],
        steps_cpu_s={name: [cpu(fulls, name), cpu(seconds, name)] for name in names},
        between_steps_cpu_s=[rest(fulls), rest(seconds)],
        counts=[fulls[0].counts, seconds[0].counts],
    )
    return fulls


def terabyte(bench: Bench, large: Refresh | None) -> None:
    small = bench.run(bench.folder(4))
    if large is None:
        large = bench.run(bench.folder(16))
        megabytes = bench.sizes[bench.folder(16)]
    else:
        megabytes = 0.99 * size_of(bench.text.take(16 * bench.given.megabytes))
    more = megabytes - bench.sizes[bench.folder(4)]
    hours: dict[str, float] = {}
    for name, step in large.steps.items():
        before = small.steps[name]
        grows = step.spread - before.spread if name == VOCABULARY else step.cpu - before.cpu
        hours[name] = max(0.0, grows) / more * 1e6 / 3600
    learning = large.steps[VOCABULARY].cpu - large.steps[VOCABULARY].spread
    bench.emit(
        "terabyte",
        metric="core_hours",
        value=round(sum(hours.values())),
        steps={name: round(h, 1) for name, h in hours.items()},
        learning_the_vocabulary_s=round(learning, 1),
        MB_per_cpu_s=round(1e6 / 3600 / sum(hours.values()), 2),
        megabytes=[round(bench.sizes[bench.folder(4)], 1), round(megabytes, 1)],
        cpu_s=[round(small.total.cpu, 1), round(large.total.cpu, 1)],
        tokens_per_MB=round(large.counts["tokens"] / megabytes),
    )


def main() -> None:
    parser = parser_of(__doc__, 10.0)
    parser.add_argument("--only", choices=["memory", "workers", "increment", "terabyte"])
    given = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("this machine has no /proc, from which memory is read; run it on Linux")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Text(given.text), Path(folder), given)
        if given.only in (None, "memory"):
            memory(bench)
        if given.only in (None, "workers"):
            workers(bench)
        fulls = increment(bench) if given.only in (None, "increment") else []
        if given.only in (None, "terabyte"):
            terabyte(bench, min(fulls, key=lambda r: r.total.cpu) if fulls else None)


if __name__ == "__main__":
    main()
