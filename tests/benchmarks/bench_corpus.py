"""The corpus engine, stage by stage and whole, beside what people use: one JSON line per figure.

    python tests/benchmarks/bench_corpus.py [--text PATH] [--megabytes 32] [--repeats 3] [--only stages|paths]

Everything reads the same JSONL files and runs on one thread of one process; CPU-seconds include children that have ended.
Each repeat runs all of ours and every peer once, in turn; figures are medians over the repeats, ratios those of the pairs.

    stages   CPU-seconds, MB of text and tokens per CPU-second of each step, as a refresh runs it (one process, a store on
             this disk). `spread` is the share of its CPU-seconds that is in partitions, which other workers could take.
    paths    text to token shards beside datasets.map, datatrove, raw `tokenizers` and MDS, vocabulary given:
               "read, tokenize, write"     like for like: our reader, encoder and shard writer do what the peer does (and
                                           sentences, word starts and document ids), a new encoder each time
               "list, ingest, collect, shard"  the steps as shipped: listing by content, normal form, exact duplicates,
                                           checksums, restartable
               "whole, cleaned"            with repair, masking, languages, quality rules and near duplicates too, which
                                           no peer does here: theirs is tokenizing only

A floor is what the project promises against a peer: 5 against datasets.map and datatrove, 1 against the others. Peers
that are not installed are named with their status. Models (languages) are loaded before the clock starts.
"""

import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow as pa
from corpus_kit import Text, Timed, cpu_now, emit, parser_of, size_of, timed, version_of, write_jsonl
from corpus_peers import PEERS, run_peer
from tokenizers import Tokenizer

from corpus.annotate import AnnotateConfig, annotate
from corpus.clean import CleanConfig
from corpus.collect import CollectConfig, collect
from corpus.deduplicate import DeduplicateConfig, deduplicate
from corpus.document import document_id
from corpus.ingest import IngestConfig, ingest, list_sources, listing
from corpus.language import identify
from corpus.pii import ALL
from corpus.quality.c4 import C4
from corpus.quality.fineweb import FineWeb
from corpus.quality.gopher import Gopher
from corpus.select import SelectConfig, select
from corpus.shards import SLICE_BYTES, ShardConfig, cut, encode_columns, shard, write_shard
from corpus.sources.json_lines import JsonLines
from corpus.split import SplitConfig, pretraining_rows
from corpus.vocabulary import open as vocabularies
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.train import WordPieceConfig, train_wordpiece
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.output import Done, Task, run_partition
from infra.storage import Folder, open_folder

OURS = ("pyarrow", "numpy", "tokenizers")
CLEAN = CleanConfig(repair_unicode=True, mask_pii=ALL)
SELECT = SelectConfig(rules=(Gopher(), C4(), FineWeb()))
FLOORS = dict(zip(PEERS, (5.0, 5.0, 1.0, 1.0), strict=True))
ALIKE, SHIPPED, WHOLE = "read, tokenize, write", "list, ingest, collect, shard", "whole, cleaned"
PATHS = {
    SHIPPED: ("list_sources", "ingest", "collect", "shard"),
    WHOLE: (
        "list_sources",
        "ingest, repair and masking",
        "collect",
        "annotate, quality and language",
        "select, Gopher C4 FineWeb",
        "deduplicate",
        "pretraining_rows",
        "shard, kept rows",
    ),
}


class Stages:
    """Runs steps in this process and keeps what each of them took."""

    def __init__(self, store: Folder) -> None:
        self.store = store
        self.taken: dict[str, Timed[Artifact]] = {}
        self.in_partitions: dict[str, float] = {}
        self.counts: dict[str, dict[str, int]] = {}

    def run(
        self, stage: str, function: Callable[..., Any], config: Any, **inputs: Artifact | None
    ) -> Artifact:
        spread = 0.0

        def in_turn(tasks: Iterable[Task]) -> Iterator[Done]:
            nonlocal spread
            for task in tasks:
                began = cpu_now()
                done = run_partition(task)
                spread += cpu_now() - began
                yield done

        def work() -> Artifact:
            return run_step(function, config, store=self.store, mapper=in_turn, **inputs)

        self.taken[stage] = timed(work)
        self.in_partitions[stage] = spread
        made = self.taken[stage].result
        self.counts[stage] = dict(list(made.counts.items())[:12])
        return made

    def cpu(self, stages: Iterable[str]) -> float:
        return sum(self.taken[s].cpu for s in stages)


def run_stages(files: Path, store: Folder, vocabulary: WordPieceConfig) -> Stages:
    """Every step once as a refresh chains them, and those that have less to do in another setting in that one too."""
    stages = Stages(store)
    run = stages.run
    source, english = JsonLines(folder=str(files)), JsonLines(folder=str(files), language="en")
    plain, cleaned = IngestConfig(sources=(english,)), IngestConfig(sources=(source,), clean=CLEAN)
    hashing = timed(lambda: listing(cleaned))
    listed = run("list_sources", list_sources, hashing.result)
    taken = stages.taken["list_sources"]
    stages.taken["list_sources"] = replace(taken, cpu=taken.cpu + hashing.cpu, wall=taken.wall + hashing.wall)
    also_listed = run_step(list_sources, listing(plain), store=store)
    once = CollectConfig()

    declared = run("ingest", ingest, plain, listing=also_listed)
    declared = run("collect, language declared", collect, once, documents=declared)
    words = run("train_wordpiece", train_wordpiece, vocabulary, documents=declared)
    forget_words()
    run("shard", shard, ShardConfig(), documents=declared, vocabulary=words)
    again = ShardConfig(max_tokens=(1 << 24) - 1)  # another result of the same work
    run("shard, words met before", shard, again, documents=declared, vocabulary=words)
    run("annotate, quality", annotate, AnnotateConfig(), documents=declared)

    documents = run("ingest, repair and masking", ingest, cleaned, listing=listed)
    documents = run("collect", collect, once, documents=documents)
    run("annotate, language", annotate, AnnotateConfig(quality=False), documents=documents)
    known = run("annotate, quality and language", annotate, AnnotateConfig(), documents=documents)
    run("select", select, SelectConfig(), documents=documents, attributes=known)
    chosen = run("select, Gopher C4 FineWeb", select, SELECT, documents=documents, attributes=known)
    kept = run(
        "deduplicate", deduplicate, DeduplicateConfig(), documents=documents, kept=chosen, previous=None
    )
    rows = run("pretraining_rows", pretraining_rows, SplitConfig(), documents=documents, kept=kept)
    forget_words()
    shared = {"kept": rows, "attributes": known, "vocabulary": words}
    run("shard, kept rows", shard, ShardConfig(), documents=documents, **shared)
    return stages


def forget_words() -> None:
    """Let the next encoder meet every word anew: a process keeps the one it has used last."""
    vocabularies._encoders.clear()


def read_tokenize_write(files: Sequence[Path], encoder: Encoder, out: Path) -> int:
    """What the peers do, with our reader, encoder and shard writer; the number of tokens."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    source = JsonLines(folder=str(files[0].parent))

    def slices() -> Iterator[Any]:
        texts: list[str] = []
        size = 0
        for file in source.files():
            with source.open(file.root, file.name) as stream:
                for found in source.documents(file.name, stream, Counter()):
                    texts.append(found.text)
                    size += len(found.text)
                    if size >= SLICE_BYTES:
                        yield columns(texts)
                        texts, size = [], 0
        if texts:
            yield columns(texts)

    def columns(texts: list[str]) -> Any:
        ids = pa.array([document_id(t) for t in texts], pa.binary(16))
        return encode_columns(encoder, ids, pa.array(texts, pa.large_string()))

    tokens = 0
    for number, (shard_columns, _) in enumerate(cut(slices(), ShardConfig().max_tokens)):
        tokens += len(shard_columns.tokens_T)
        batch = shard_columns.to_batch(vocab_size=encoder.vocab_size, tokenizer_digest=encoder.digest)
        write_shard(out / f"{number:03d}.arrow", batch)
    return tokens


def check(
    texts: Sequence[str], tokenizer_file: Path, files: Sequence[Path], encoder: Encoder, out: Path
) -> int:
    """Our shards hold the ids that `tokenizers` gives; the number of tokens. Raises SystemExit where they do not."""
    read_tokenize_write(files, encoder, out)
    found: dict[bytes, list[int]] = {}
    for path in sorted(out.glob("*.arrow")):
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        found |= dict(zip(batch["document_id"].to_pylist(), batch["tokens"].to_pylist(), strict=True))
    library = Tokenizer.from_file(str(tokenizer_file))
    tokens = 0
    for text in texts:
        ids = library.encode(text, add_special_tokens=False).ids
        tokens += len(ids)
        if found[document_id(text)] != ids:
            raise SystemExit(f"our ids are not those of tokenizers in the text that begins {text[:80]!r}")
    return tokens


def available(files: Sequence[Path], tokenizer_file: Path, out: Path) -> dict[str, str]:
    """Run each peer once on the first file, so that what it imports is imported: "ok", or why it cannot be had."""
    status: dict[str, str] = {}
    for name, (peer, distributions) in PEERS.items():
        absent = [d for d in distributions if version_of(d) is None]
        if absent:
            status[name] = f"not installed: {', '.join(absent)}"
            continue
        try:
            run_peer(peer, files, tokenizer_file, out)
            status[name] = "ok"
        except Exception as error:  # whatever a peer raises is its status, and the others go on
            status[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    return status


def report_stages(repeats: Sequence[Stages], conditions: dict[str, Any]) -> None:
    megabytes, tokens = conditions["megabytes"], conditions["tokens"]
    for stage in repeats[0].taken:
        cpu = [r.taken[stage].cpu for r in repeats]
        middle = statistics.median(cpu)
        spread = statistics.median(r.in_partitions[stage] / max(r.taken[stage].cpu, 1e-9) for r in repeats)
        emit(
            "corpus",
            "stage",
            *OURS,
            stage=stage,
            metric="MB_per_cpu_s",
            value=round(megabytes / middle, 2),
            tokens_per_cpu_s=round(tokens / middle),
            cpu_s=round(middle, 3),
            all_cpu_s=[round(c, 3) for c in cpu],
            spread=round(spread, 2),
            wall_s=round(statistics.median(r.taken[stage].wall for r in repeats), 3),
            others=[r.taken[stage].others for r in repeats],
            n=len(repeats),
            counts=repeats[0].counts[stage],
            **conditions,
        )


def report_paths(
    ours: dict[str, list[float]],
    peers: dict[str, list[Timed[int]]],
    status: dict[str, str],
    conditions: dict[str, Any],
) -> None:
    megabytes, tokens = conditions["megabytes"], conditions["tokens"]
    for path, mine in ours.items():
        for peer, state in status.items():
            line: dict[str, Any] = {"path": path, "peer": peer, "status": state, "metric": "MB_per_cpu_s"}
            middle = statistics.median(mine)
            line |= {"value": round(megabytes / middle, 2), "tokens_per_cpu_s": round(tokens / middle)}
            line["cpu_s"] = [round(c, 3) for c in mine]
            if state == "ok":
                theirs = [t.cpu for t in peers[peer]]
                ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
                line["peer_value"] = round(megabytes / statistics.median(theirs), 2)
                line["peer_tokens_per_cpu_s"] = round(tokens / statistics.median(theirs))
                line["peer_cpu_s"] = [round(c, 3) for c in theirs]
                line["ratio_to_peer"] = round(statistics.median(ratios), 2)
                line["ratios"] = [round(r, 2) for r in ratios]
                line["peer_tokens"] = peers[peer][0].result
                line["compares"] = (
                    "whole refresh beside tokenizing only" if path == WHOLE else "text to shards"
                )
                if path != WHOLE:
                    line |= {"floor": FLOORS[peer], "met": line["ratio_to_peer"] >= FLOORS[peer]}
            emit("corpus", "path", *OURS, *PEERS[peer][1], **line, n=len(mine), **conditions)


def main() -> None:
    parser = parser_of(__doc__, 32.0)
    parser.add_argument("--only", choices=["stages", "paths"])
    given = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    text = Text(given.text)
    texts = text.take(given.megabytes)
    megabytes = size_of(texts)
    conditions = {"texts": text.name, "megabytes": round(megabytes, 2), "documents": len(texts)}
    vocabulary = WordPieceConfig(vocab_size=given.vocab_size)
    identify(pa.array(["A sentence, so that the model of languages is loaded."], pa.large_string()))
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        home = Path(folder)
        files = write_jsonl(home / "text", texts, 4.0)
        small = write_jsonl(home / "small", texts[:50], 4.0)
        run_stages(
            home / "small", open_folder(home / "store"), WordPieceConfig(vocab_size=300, alphabet_size=100)
        )
        made = make_vocabulary(home, vocabulary)
        tokenizer_file = made.path("tokenizer.json")
        encoder = Encoder.from_artifact(made)
        tokens = check(texts, tokenizer_file, files, encoder, home / "ours")
        conditions |= {"tokens": tokens, "vocab_size": encoder.vocab_size}
        wanted = given.only != "stages"
        status = available(small, tokenizer_file, home / "peer") if wanted else {}
        gc.collect()
        gc.freeze()  # what peers have imported is nothing that our objects should be searched for, nor the reverse
        repeats: list[Stages] = []
        ours: dict[str, list[float]] = {ALIKE: [], f"{ALIKE}; words met before": [], SHIPPED: [], WHOLE: []}
        peers: dict[str, list[Timed[int]]] = {name: [] for name, state in status.items() if state == "ok"}
        for repeat in range(given.repeats):
            began = time.perf_counter()
            encoders = {ALIKE: Encoder.from_artifact(made), f"{ALIKE}; words met before": encoder}
            for path, one in encoders.items():
                ours[path].append(timed(lambda one=one: read_tokenize_write(files, one, home / "ours")).cpu)
            repeats.append(run_stages(home / "text", open_folder(home / "store"), vocabulary))
            for path, stages in PATHS.items():
                ours[path].append(repeats[-1].cpu(stages))
            for name in peers:
                peer = PEERS[name][0]
                peers[name].append(
                    timed(lambda peer=peer: run_peer(peer, files, tokenizer_file, home / "peer"))
                )
            shutil.rmtree(home / "store")
            print(f"repeat {repeat + 1}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if given.only != "paths":
            report_stages(repeats, conditions)
        if wanted:
            report_paths(ours, peers, status, conditions)


def make_vocabulary(home: Path, vocabulary: WordPieceConfig) -> Artifact:
    """The vocabulary of all the text, with which everybody tokenizes."""
    store = open_folder(home / "vocabulary")
    config = IngestConfig(sources=(JsonLines(folder=str(home / "text")),))
    found = run_step(
        ingest, config, store=store, listing=run_step(list_sources, listing(config), store=store)
    )
    documents = run_step(collect, CollectConfig(), store=store, documents=found)
    return run_step(train_wordpiece, vocabulary, store=store, documents=documents)


if __name__ == "__main__":
    main()
