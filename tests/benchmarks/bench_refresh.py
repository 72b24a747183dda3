"""What a refresh costs: its memory, its workers, its second run, and a terabyte. One JSON line per figure; Linux.

    python tests/benchmarks/bench_refresh.py [--text PATH] [--megabytes 10] [--repeats 3]
                                             [--only memory|workers|increment|terabyte]

Every refresh is the whole chain with all its cleaning, in a process of its own with an empty store (refresh_job.py). Text
is real; where there is too little, its sentences are dealt into other documents (corpus_kit.py).

    memory     peak resident memory of driver and Ray workers at 1, 4 and 16 times --megabytes, by step, which the kernel
               keeps (VmHWM), and the most of all steps but the one that learns the vocabulary. Ceiling: 1.2 x that of 1x.
    workers    wall seconds with one Ray worker and with two, on 16 x --megabytes, in turn; Ray and its workers are up and
               have refreshed 1x before. Floor: 1.7. On a machine that others use (`others`: their share of the cores)
               two workers find no second core; `on_free_cores` is the ratio that follows from CPU-seconds.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from corpus_kit import Text, emit, parser_of, size_of, wait_for_quiet, write_jsonl
from refresh_job import Job, Refresh, in_own_process, refresh

LIBRARIES = ("pyarrow", "numpy", "tokenizers", "ray")
VOCABULARY = "train_wordpiece"
FILE_MEGABYTES = 1.0


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
    before: dict[int, float] = {}
    for times in (1, 4, 16):
        folder = bench.folder(times)
        done = bench.run(folder, workers=2)
        names = list(done.steps)
        others = {name: step for name, step in done.steps.items() if name != VOCABULARY}
        highest = max(others, key=lambda name: others[name].memory)
        totals[times] = others[highest].memory
        before[times] = max(done.steps[name].memory for name in names[: names.index(VOCABULARY)])
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
            before_vocabulary=round(before[times]),
            with_vocabulary=round(max(s.memory for s in done.steps.values())),
            driver_and_workers={
                name: [round(s.driver), *map(round, s.workers)] for name, s in done.steps.items()
            },
            counts=done.counts,
        )
    ratio = max(totals.values()) / totals[1]
    bench.emit(
        "memory",
        metric="most_to_1x",
        value=round(ratio, 3),
        to_4x=round(totals[4] / totals[1], 3),
        to_16x=round(totals[16] / totals[1], 3),
        before_vocabulary_to_16x=round(before[16] / before[1], 3),
        ceiling=1.2,
        met=ratio <= 1.2,
    )


def workers(bench: Bench) -> None:
    folder, warm = bench.folder(16), bench.folder(1)
    pairs: list[list[Refresh]] = []
    for _ in range(bench.given.repeats):
        pairs.append([])
        for count in (1, 2):
            wait_for_quiet(bench.given.quiet_wait)
            pairs[-1].append(bench.run(folder, workers=count, warm=warm))
    ratios = [one.total.wall / two.total.wall for one, two in pairs]
    middle = statistics.median(ratios)

    def median_of(value: Callable[[Refresh], float]) -> list[float]:
        return [round(statistics.median(value(p[k]) for p in pairs), 2) for k in (0, 1)]

    def wall_of(step: str) -> Callable[[Refresh], float]:
        return lambda refresh: refresh.steps[step].wall

    bench.emit(
        "workers",
        metric="wall_1_to_2_workers",
        value=round(middle, 2),
        ratios=[round(r, 2) for r in ratios],
        floor=1.7,
        met=middle >= 1.7,
        n=len(pairs),
        megabytes=round(bench.sizes[folder], 1),
        wall_s=median_of(lambda r: r.total.wall),
        all_wall_s=[[round(r.total.wall, 1) for r in pair] for pair in pairs],
        others=[[r.total.others for r in pair] for pair in pairs],
        driver_cpu_s=median_of(lambda r: r.total.cpu),
        workers_cpu_s=median_of(lambda r: r.total.spread),
        on_free_cores=round(statistics.median(on_free_cores(*pair) for pair in pairs), 2),
        steps_wall_s={name: median_of(wall_of(name)) for name in pairs[0][0].steps},
        between_steps_wall_s=median_of(lambda r: r.total.wall - sum(s.wall for s in r.steps.values())),
    )


def on_free_cores(one: Refresh, two: Refresh) -> float:
    """What the ratio would be if nobody else took a core: from CPU-seconds, the workers' shared evenly among them."""
    return (one.total.cpu + one.total.spread) / (two.total.cpu + two.total.spread / 2)


def between(refresh: Refresh) -> float:
    """CPU-seconds outside of steps: finding and hashing the files."""
    return refresh.total.cpu - sum(s.cpu for s in refresh.steps.values())


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

    def in_partitions(refresh: Refresh) -> float:
        return sum(s.spread for s in refresh.steps.values()) / refresh.total.cpu

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
        between_steps_cpu_s=[round(statistics.median(map(between, side)), 3) for side in (fulls, seconds)],
        in_partitions=round(statistics.median(map(in_partitions, fulls)), 3),
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
    hours["between steps"] = max(0.0, between(large) - between(small)) / more * 1e6 / 3600
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
    parser.add_argument(
        "--quiet-wait", type=float, default=0, help="seconds to wait for an idle machine (workers)"
    )
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
