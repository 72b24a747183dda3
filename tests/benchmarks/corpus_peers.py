"""Text to tokens on disk the way people do it elsewhere: JSONL files and a tokenizer.json in, a folder of tokens out.

Each function does what its tool's own documentation does, on one thread, adds no special tokens where that can be
chosen, and returns the number of tokens it wrote. The same work as shared/peers/p1_tokenize.py, without its packing of
rows, which ours does later.
"""

import importlib.machinery
import json
import shutil
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

ROWS_A_CALL = 1000  # of datasets.map and encode_batch_fast: their customary size

Peer = Callable[[Sequence[Path], Path, Path], int]


def batches_of(files: Sequence[Path]) -> Iterator[list[str]]:
    rows: list[str] = []
    for path in files:
        with path.open() as file:
            for line in file:
                rows.append(json.loads(line)["text"])
                if len(rows) == ROWS_A_CALL:
                    yield rows
                    rows = []
    if rows:
        yield rows


def ids_of_batches(files: Sequence[Path], tokenizer_file: Path) -> Iterator[list[list[int]]]:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    for rows in batches_of(files):
        yield [e.ids for e in tokenizer.encode_batch_fast(rows, add_special_tokens=False)]


def raw_tokenizers(files: Sequence[Path], tokenizer_file: Path, out: Path) -> int:
    """encode_batch_fast, one Arrow file of list<uint16>."""
    tokens = 0
    schema = pa.schema([("tokens", pa.list_(pa.uint16()))])
    with pa.OSFile(str(out / "tokens.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for ids in ids_of_batches(files, tokenizer_file):
            tokens += sum(map(len, ids))
            writer.write_batch(pa.record_batch([pa.array(ids, pa.list_(pa.uint16()))], schema=schema))
    return tokens


def datasets_map(files: Sequence[Path], tokenizer_file: Path, out: Path) -> int:
    """The workflow of transformers' run_mlm.py: load_dataset("json"), map(tokenize), save_to_disk."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    rows = datasets.load_dataset(
        "json", data_files=[str(f) for f in files], split="train", cache_dir=str(out / "cache")
    )

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


def datatrove(files: Sequence[Path], tokenizer_file: Path, out: Path) -> int:
    """JsonlReader and DocumentTokenizer (uint16, no shuffling) under the local executor with one worker.

    It ends each document with a token that is told apart here: the count is of the others.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.logging import logger

    logger.remove()
    reader = JsonlReader(str(files[0].parent), glob_pattern="*.jsonl")
    tokenizer = DocumentTokenizer(
        str(out / "tokens"),
        tokenizer_name_or_path=str(tokenizer_file),
        eos_token="[SEP]",
        shuffle_documents=False,
        local_working_dir=str(out / "work"),
    )
    executor = LocalPipelineExecutor(
        pipeline=[reader, tokenizer], tasks=1, workers=1, logging_dir=str(out / "logs")
    )
    executor.run()
    tokens = sum(f.stat().st_size for f in (out / "tokens").glob("*.ds")) // 2
    documents = sum(f.stat().st_size for f in (out / "tokens").glob("*.ds.index")) // 8
    return tokens - documents


def mds(files: Sequence[Path], tokenizer_file: Path, out: Path) -> int:
    """encode_batch_fast, then one uint16 array a document through MDSWriter, not compressed."""
    writer_class = _streaming().MDSWriter
    tokens = 0
    with writer_class(
        out=str(out / "mds"), columns={"tokens": "ndarray:uint16"}, compression=None, progress_bar=False
    ) as writer:
        for ids in ids_of_batches(files, tokenizer_file):
            for one in ids:
                writer.write({"tokens": np.array(one, np.uint16)})
                tokens += len(one)
    return tokens


def _streaming() -> Any:
    """mosaicml-streaming imports torchvision for its image classes, and no build of that loads beside a CPU torch: an empty
    one stands in during the import."""
    if "streaming" in sys.modules:
        return sys.modules["streaming"]
    import transformers.models.auto.tokenization_auto  # noqa: F401  (it must not find the empty torchvision)

    names = ["", ".datasets", ".transforms", ".transforms.functional"]
    absent = [f"torchvision{n}" for n in names if f"torchvision{n}" not in sys.modules]
    for name in absent:
        module: Any = types.ModuleType(name)
        module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(name, None, is_package=True), []
        sys.modules[name] = module
    sys.modules["torchvision.datasets"].VisionDataset = type("VisionDataset", (), {})  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = lambda x: x  # type: ignore[attr-defined]
    try:
        import streaming
    finally:
        for name in absent:
            del sys.modules[name]
    return streaming


PEERS: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "datasets.map, fast tokenizer, save_to_disk": (datasets_map, ("datasets", "transformers")),
    "datatrove JsonlReader, DocumentTokenizer": (datatrove, ("datatrove",)),
    "tokenizers.encode_batch_fast, Arrow file": (raw_tokenizers, ()),
    "tokenizers.encode_batch_fast, MDSWriter": (mds, ("mosaicml-streaming", "transformers")),
}


def run_peer(peer: Peer, files: Sequence[Path], tokenizer_file: Path, out: Path) -> int:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return peer(files, tokenizer_file, out)
