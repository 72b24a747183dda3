"""Which documents are held out of pretraining, to measure on: by a hash of their text, or whole files by their name.

The split is a pure function, the same on every machine and in every generation, so nothing that is measured on was ever
trained on, also when the corpus grows. Where documents of one file resemble each other, as the docstrings of a module
do, the whole file must be on one side.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from corpus.document import partition_files, read_documents
from corpus.rows import part_of, read_rows, write_rows
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """`dev_share` and `test_share` of all documents are held out; of the sources named in `whole_files`, of all files."""

    dev_share: float = 0.05
    test_share: float = 0.1
    whole_files: tuple[str, ...] = ("python-docs",)

    def __post_init__(self) -> None:
        if not 0 < self.dev_share < 1 or not 0 < self.test_share < 1 or self.dev_share + self.test_share >= 1:
            raise ValueError(
                f"dev_share {self.dev_share} and test_share {self.test_share} must each lie between 0 and 1 and leave "
                "something to train on; use e.g. 0.05 and 0.1"
            )


def split_of(name: str, config: SplitConfig) -> str:
    """ "train", "dev" or "test": a pure function of a file's name (or of a document's id in hexadecimal digits)."""
    place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
    if place < config.test_share:
        return "test"
    return "dev" if place < config.test_share + config.dev_share else "train"


def pretraining_rows(config: SplitConfig, *, documents: Artifact, kept: Artifact, out: Output) -> Counts:
    """Write the kept rows that are not held out. Counts are documents: read, kept, held_out."""
    return _choose(config, documents, kept, out, held_out=False)


def held_out_rows(config: SplitConfig, *, documents: Artifact, kept: Artifact, out: Output) -> Counts:
    """Write the kept rows that are held out, to measure on. Counts are documents: read, kept, pretraining."""
    return _choose(config, documents, kept, out, held_out=True)


def _choose(
    config: SplitConfig, documents: Artifact, kept: Artifact, out: Output, *, held_out: bool
) -> Counts:
    items = {part_of(name): name for name in partition_files(documents)}
    shared = {"config": config, "documents": documents, "kept": kept, "held_out": held_out}
    return total(out.map(choose_rows, items, **shared))


def choose_rows(
    name: str,
    *,
    config: SplitConfig,
    documents: Artifact,
    kept: Artifact,
    held_out: bool,
    out: PartitionOutput,
) -> Counts:
    """One part: the rows that are held out, or the others."""
    rows = read_rows(kept, out.id)
    table = read_documents(documents, name, ["id", "source", "file"]).take(rows)
    columns = (table.column(c).to_pylist() for c in ("id", "source", "file"))
    side = cache(lambda key: split_of(key, config))
    flags = [
        side(file if source in config.whole_files else id.hex()) != "train"
        for id, source, file in zip(*columns, strict=True)
    ]
    chosen = rows[np.array(flags, bool) == held_out]
    with out.writer(f"{out.id}.rows") as path:
        write_rows(path, chosen)
    others = "pretraining" if held_out else "held_out"
    return {"read": len(rows), "kept": len(chosen), others: len(rows) - len(chosen)}
