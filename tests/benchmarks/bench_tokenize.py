"""Text to tokens beside its peers, in one run: one JSON line per figure, `ratio_to_peer` above 1 is ours ahead.

    python tests/benchmarks/bench_tokenize.py [--text PATH] [--megabytes 16] [--repeats 5] [--only shards|encode|train]

PATH is a .txt file, a folder of them, or a Parquet file with a `text` column; without it, the documentation of the
installed packages is read. All runs on one thread, ours and the peer in turn; rates are MB of text per CPU-second,
medians of paired repeats.

    shards   documents (two Parquet files) -> tokens on disk. Ours: sentences, tokens, word starts to Arrow shards, with
             an empty table ("cold") or one that has met the words ("warm"). Peers: datasets.map with a fast tokenizer and
             save_to_disk; encode_batch_fast into an Arrow file.
    encode   texts in memory -> ids in memory, against encode_batch_fast alone (its ids not even taken out).
    train    texts in memory -> a vocabulary, against BertWordPieceTokenizer.train_from_iterator; CPU-seconds.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import BertWordPieceTokenizer, Tokenizer

from corpus.shards import encode_documents, write_shard
from corpus.wordpiece.count import count_words
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import TOKENIZER_FILE, library_tokenizer, vocabulary_files
from corpus.wordpiece.train import WordPieceConfig, learn_vocabulary

PARTITIONS = 2
ROWS_A_CALL = 1000  # of datasets.map and encode_batch_fast: their customary size

Work = Callable[[], int]  # does the work, returns the number of tokens (or entries)


def cpu_seconds(work: Work) -> tuple[float, int]:
    began = time.process_time()  # everything here runs in this process
    done = work()
    return time.process_time() - began, done


def compare(
    figure: str, peer: str, megabytes: float, ours: Work, theirs: Work, repeats: int, **conditions: Any
) -> None:
    """Run ours and the peer in turn; print MB/CPU-s of ours, and the median ratio of the pairs."""
    seconds = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(repeats)]
    counts = seconds[0][0][1], seconds[0][1][1]
    line = {
        "bench": "tokenize",
        "figure": figure,
        "peer": peer,
        "metric": "MB_per_cpu_s",
        "unit": "MB/CPU-s",
        "value": round(statistics.median(megabytes / mine for (mine, _), _ in seconds), 2),
        "peer_value": round(statistics.median(megabytes / other for _, (other, _) in seconds), 2),
        "ratio_to_peer": round(statistics.median(other / mine for (mine, _), (other, _) in seconds), 2),
        "ratios": [round(other / mine, 2) for (mine, _), (other, _) in seconds],
        "n": repeats,
        "megabytes": round(megabytes, 2),
        "counts": counts,
        **conditions,
        "load1": round(os.getloadavg()[0], 1),
        "versions": {
            name: version_of(name) for name in ("tokenizers", "datasets", "transformers", "pyarrow", "numpy")
        },
        "python": platform.python_version(),
    }
    print(json.dumps(line), flush=True)


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def texts_of(path: Path | None) -> Iterator[str]:
    if path is None:
        from collections import Counter

        from corpus.sources.python_docs import PythonDocs

        source = PythonDocs(distributions=("torch", "pyarrow", "tokenizers"))
        for file in source.files():
            with source.open(file.root, file.name) as stream:
                yield from (found.text for found in source.documents(file.name, stream, Counter()))
    elif path.suffix == ".parquet":
        yield from pq.read_table(path, columns=["text"])["text"].to_pylist()
    else:
        for file in [path] if path.is_file() else sorted(path.rglob("*.txt")):
            text = file.read_text("utf-8", errors="replace")
            yield from (text[i : i + 4000] for i in range(0, len(text), 4000))


def take(texts: Iterator[str], megabytes: float) -> list[str]:
    """An even sample of about that size, not the head of the text."""
    every = list(texts)
    total = sum(len(text.encode()) for text in every) / 1e6
    if not total:
        raise SystemExit(
            "no text found; give --text a .txt file, a folder of them, or a Parquet file with a text column"
        )
    step = max(1.0, total / megabytes)
    return [every[int(i * step)] for i in range(int(len(every) / step))]


def write_documents(folder: Path, texts: list[str]) -> list[Path]:
    paths = []
    for part in range(PARTITIONS):
        rows = texts[part::PARTITIONS]
        ids = pa.array([blake2b(t.encode(), digest_size=16).digest() for t in rows], pa.binary(16))
        paths.append(folder / f"{part}.parquet")
        pq.write_table(
            pa.table({"id": ids, "text": pa.array(rows, pa.large_string())}), paths[-1], compression="zstd"
        )
    return paths


def our_shards(encoder: Encoder, documents: list[Path], out: Path) -> int:
    tokens = 0
    for path in documents:
        table = pq.read_table(path).combine_chunks()
        batch = encode_documents(encoder, table["id"].chunk(0), table["text"].chunk(0))
        write_shard(out / f"{path.stem}.arrow", batch)
        tokens += len(batch["tokens"].values)
    return tokens


def library_shards(tokenizer: Tokenizer, documents: list[Path], out: Path) -> int:
    tokens = 0
    schema = pa.schema([("tokens", pa.list_(pa.uint16()))])
    for path in documents:
        texts = pq.read_table(path, columns=["text"])["text"]
        with (
            pa.OSFile(str(out / f"{path.stem}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for begin in range(0, len(texts), ROWS_A_CALL):
                rows = texts.slice(begin, ROWS_A_CALL).to_pylist()
                ids = [e.ids for e in tokenizer.encode_batch_fast(rows, add_special_tokens=False)]
                tokens += sum(map(len, ids))
                writer.write_batch(pa.record_batch([pa.array(ids, pa.list_(pa.uint16()))], schema=schema))
    return tokens


def datasets_shards(tokenizer_file: Path, documents: list[Path], out: Path) -> int:
    """The workflow of transformers' run_mlm.py: read, map(tokenize), save."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    shutil.rmtree(out / "cache", ignore_errors=True)
    files = [str(path) for path in documents]
    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(out / "cache"))

    def tokenize(batch: dict[str, list[str]]) -> Any:
        return tokenizer(
            batch["text"], add_special_tokens=False, return_token_type_ids=False, return_attention_mask=False
        )

    done = rows.map(
        tokenize,
        batched=True,
        batch_size=ROWS_A_CALL,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
    )
    done.save_to_disk(str(out / "saved"))
    return sum(len(chunk.values) for chunk in done.data.column("input_ids").chunks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path)
    parser.add_argument("--megabytes", type=float, default=16.0)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["shards", "encode", "train"])
    given = parser.parse_args()

    texts = take(texts_of(given.text), given.megabytes)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    column = pa.array(texts, pa.large_string())
    config = WordPieceConfig(vocab_size=given.vocab_size)
    began = time.process_time()
    vocabulary = learn_vocabulary(count_words(column, True), config)
    print(
        f"{len(texts)} texts, {megabytes:.1f} MB; vocabulary learned in {time.process_time() - began:.1f} CPU-s",
        file=sys.stderr,
    )
    library = library_tokenizer(vocabulary, True, special_tokens=False)
    conditions = {
        "texts": "Python documentation" if given.text is None else given.text.name,
        "vocab_size": len(vocabulary),
    }
    warm = Encoder(vocabulary)
    warm.encode(column)
    encoders = {"cold": lambda: Encoder(vocabulary), "warm": lambda: warm}

    def encode_library() -> int:
        batches = range(0, len(texts), ROWS_A_CALL)
        return sum(
            len(library.encode_batch_fast(texts[i : i + ROWS_A_CALL], add_special_tokens=False))
            for i in batches
        )

    if given.only in (None, "shards"):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            documents = write_documents(out, texts)
            (out / TOKENIZER_FILE).write_bytes(vocabulary_files(vocabulary, True)[TOKENIZER_FILE])
            peers = {
                "datasets.map, fast tokenizer, save_to_disk": lambda: datasets_shards(
                    out / TOKENIZER_FILE, documents, out
                ),
                "tokenizers.encode_batch_fast, Arrow file": lambda: library_shards(library, documents, out),
            }
            if version_of("datasets") is None or version_of("transformers") is None:
                print(
                    "datasets or transformers is not installed here: no figure beside datasets.map",
                    file=sys.stderr,
                )
                del peers["datasets.map, fast tokenizer, save_to_disk"]
            for peer, theirs in peers.items():
                for table, encoder in encoders.items():
                    ours = lambda encoder=encoder: our_shards(encoder(), documents, out)  # noqa: E731
                    compare(
                        "text to shards",
                        peer,
                        megabytes,
                        ours,
                        theirs,
                        given.repeats,
                        table=table,
                        **conditions,
                    )
    if given.only in (None, "encode"):
        for table, encoder in encoders.items():
            ours = lambda encoder=encoder: len(encoder().encode(column).offsets) - 1  # noqa: E731
            peer = "tokenizers.encode_batch_fast"
            compare("encode", peer, megabytes, ours, encode_library, given.repeats, table=table, **conditions)
    if given.only in (None, "train"):

        def train_library() -> int:
            tokenizer = BertWordPieceTokenizer(lowercase=True)
            tokenizer.train_from_iterator(texts, vocab_size=config.vocab_size, show_progress=False)
            return tokenizer.get_vocab_size()

        peer = "tokenizers.BertWordPieceTokenizer.train_from_iterator"
        ours = lambda: len(learn_vocabulary(count_words(column, True), config))  # noqa: E731
        compare("train vocabulary", peer, megabytes, ours, train_library, min(3, given.repeats), **conditions)


if __name__ == "__main__":
    main()
