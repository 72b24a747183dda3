"""What the benchmarks of the corpus share: real text in any amount, JSONL files of it, CPU time, JSON lines.

Text: `--text`, else the shared English documents (CLOZE_SHARED_DATA, or shared/data above the checkout), else the Python
documentation of the installed packages. Where more is wanted than there is, the sentences of all documents are dealt into
new documents in another order: real words and sentences, and no document resembles another.
"""

import argparse
import json
import os
import platform
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import pyarrow.parquet as pq

R = TypeVar("R")

ROOT = Path(__file__).resolve().parents[2]
MB = 1e6
DOCUMENT_CHARACTERS, PARAGRAPH_CHARACTERS = 4000, 600  # of the documents that are dealt
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def size_of(texts: Sequence[str]) -> float:
    """MB of UTF-8."""
    return sum(len(text.encode()) for text in texts) / MB


def default_text() -> Path | None:
    """The shared English documents, if they are here."""
    data = Path(os.environ.get("CLOZE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    return data / "pretrain_en" if (data / "pretrain_en").is_dir() else None


def texts_of(path: Path | None) -> Iterator[str]:
    """The documents of a Parquet file with a `text` column, a .txt file, or a folder of them; of Python without a path."""
    if path is None:
        from corpus.sources.python_docs import PythonDocs

        source = PythonDocs()
        for module in source.files():
            with source.open(module.root, module.name) as stream:
                yield from (found.text for found in source.documents(module.name, stream, Counter()))
        return
    files = [path] if path.is_file() else sorted([*path.rglob("*.parquet"), *path.rglob("*.txt")])
    for file in files:
        if file.suffix == ".parquet":
            yield from pq.read_table(file, columns=["text"])["text"].to_pylist()
        else:
            text = file.read_text("utf-8", errors="replace")
            yield from (text[i : i + DOCUMENT_CHARACTERS] for i in range(0, len(text), DOCUMENT_CHARACTERS))


class Text:
    """All the text there is, and what is made of it."""

    def __init__(self, path: Path | None) -> None:
        chosen = default_text() if path is None else path
        self.name = "Python documentation" if chosen is None else chosen.name
        self.texts = list(dict.fromkeys(t for t in texts_of(chosen) if t.strip()))
        self.megabytes = size_of(self.texts)
        if not self.texts:
            raise SystemExit(
                "no text found; give --text a .txt file, a Parquet file with a text column, or a folder"
            )

    def take(self, megabytes: float) -> list[str]:
        """About that much: an even sample, or all of it and as much dealt anew as is missing."""
        step = self.megabytes / megabytes
        if step >= 1:
            return [self.texts[int(i * step)] for i in range(int(len(self.texts) / step))]
        missing = (megabytes - self.megabytes) * MB
        dealt: list[str] = []
        for text in self._dealt():
            if missing <= 0:
                break
            dealt.append(text)
            missing -= len(text.encode())
        mixed = self.texts + dealt
        Random(0).shuffle(mixed)
        return mixed

    def _dealt(self) -> Iterator[str]:
        sentences = [s for text in self.texts for s in _SENTENCE.split(text) if s]
        for seed in range(1, 1000):
            Random(seed).shuffle(sentences)
            lines: list[str] = []
            line: list[str] = []
            for sentence in sentences:
                line.append(sentence)
                if sum(map(len, line)) >= PARAGRAPH_CHARACTERS:
                    lines.append(" ".join(line))
                    line = []
                    if sum(map(len, lines)) >= DOCUMENT_CHARACTERS:
                        yield "\n".join(lines)
                        lines = []


def write_jsonl(folder: Path, texts: Sequence[str], file_megabytes: float, name: str = "part") -> list[Path]:
    """{"id", "text"} lines in files of about that size; the documents are dealt round and round."""
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, round(size_of(texts) / file_megabytes))
    paths = [folder / f"{name}-{number:04d}.jsonl" for number in range(count)]
    for number, path in enumerate(paths):
        with path.open("w") as file:
            for row in range(number, len(texts), count):
                file.write(json.dumps({"id": f"{name}-{row}", "text": texts[row]}, ensure_ascii=False) + "\n")
    return paths


def cpu_now() -> float:
    """CPU-seconds of this process and of its children that have ended, all threads."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def machine_busy() -> float:
    """CPU-seconds the whole machine has worked since boot; 0 where nobody says."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0.0
    ticks = [int(x) for x in line.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Timed(Generic[R]):
    """cpu, wall: seconds. others: the share of all cores that other programs took meanwhile."""

    cpu: float
    wall: float
    others: float
    result: R


def timed(work: Callable[[], R]) -> Timed[R]:
    busy, cpu, wall = machine_busy(), cpu_now(), time.perf_counter()
    result = work()
    wall, cpu, busy = time.perf_counter() - wall, cpu_now() - cpu, machine_busy() - busy
    return Timed(cpu, wall, round(max(0.0, (busy - cpu) / (wall * (os.cpu_count() or 1))), 2), result)


def wait_for_quiet(seconds: float) -> None:
    """Wait until other programs take less than a tenth of the cores, at most that long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and timed(lambda: time.sleep(2)).others > 0.1:
        continue


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def emit(bench: str, figure: str, *libraries: str, **fields: Any) -> None:
    """One figure as one JSON line."""
    line = {
        "bench": bench,
        "figure": figure,
        **fields,
        "cores": os.cpu_count(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "versions": {name: version_of(name) for name in libraries},
        "python": platform.python_version(),
        "at": int(time.time()),
    }
    print(json.dumps(line), flush=True)


def parser_of(doc: str | None, megabytes: float) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a .txt or Parquet file, or a folder of them")
    parser.add_argument("--megabytes", type=float, default=megabytes)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    return parser
