"""A fine-tuning task that lies in the corpus itself: which package is this documentation from?

    text   the prose of one docstring, with every package's name replaced by "package"
    label  the package, one of `num_classes` with the most usable docstrings, equally many of each at most

Nothing leaks. The split is by file, a pure function of its name; documents of held-out files are kept out of pretraining
too; a held-out text that begins like a training text is dropped; and since all packages' names are masked in all texts,
neither a name nor its absence tells the label.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa

from corpus.document import partition_files, write_table
from corpus.rows import part_of, read_kept
from corpus.split import SplitConfig, split_of
from infra.artifacts import Artifact, Counts
from infra.output import Output

SPLITS = ("train", "dev", "test")
EXAMPLES = pa.schema(
    [
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("label_name", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
    ]
)
MASK = "package"
# What people write instead of a package's name.
_ALSO = {
    "torch": ("pytorch", "aten"),
    "numpy": ("np",),
    "networkx": ("nx",),
    "sqlalchemy": ("sa",),
    "huggingface_hub": ("huggingface", "hugging", "hf", "hub"),
}
_PARTS = re.compile(r"(_+|(?<=[a-z0-9])(?=[A-Z]))")  # snake_case and CamelCase
_INSIDE_WORDS = 5  # letters a name needs to be masked inside longer words; "ray" must not hide "array"


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """The task's size. A class needs `min_per_class` training examples; `max_per_class` of them keep classes balanced.

    `max_held_out_per_class` bounds dev and test each.
    """

    split: SplitConfig = field(default_factory=SplitConfig)
    num_classes: int = 10
    min_per_class: int = 50
    max_per_class: int = 1500
    max_held_out_per_class: int = 150
    min_bytes: int = 120
    max_bytes: int = 2000

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; telling packages apart needs at least 2")
        if not 0 < self.min_per_class <= self.max_per_class:
            raise ValueError(
                f"min_per_class {self.min_per_class} must be positive and at most max_per_class {self.max_per_class}"
            )
        if self.max_held_out_per_class < 1:
            raise ValueError(f"max_held_out_per_class is {self.max_held_out_per_class}; it must be positive")
        if not 0 < self.min_bytes <= self.max_bytes:
            raise ValueError(
                f"min_bytes {self.min_bytes} must be positive and at most max_bytes {self.max_bytes}"
            )


def package_examples(
    config: ExamplesConfig, *, documents: tuple[Artifact, ...], kept: tuple[Artifact, ...], out: Output
) -> Counts:
    """Write train/dev/test.parquet (EXAMPLES) and labels.json. Counts are examples by split, and drops by reason.

    `documents` and their `kept` rows are those of all generations. Raises ValueError if fewer than `num_classes` packages have enough documentation.
    """
    rows = [
        r
        for texts, rows in zip(documents, kept, strict=True)
        for name in partition_files(texts)
        for r in _usable(read_kept(texts, rows, part_of(name)), config)
    ]
    sizes = Counter(r["package"] for r in rows if r["split"] == "train")
    packages = sorted(_largest(sizes, config))
    masked = masker(packages)
    chosen = [r | {"text": masked(r["text"])} for r in rows if r["package"] in packages]
    splits, dropped = _cap_and_separate(chosen, config)
    for split in SPLITS:
        table = [
            {
                "text": r["text"],
                "label": packages.index(r["package"]),
                "label_name": r["package"],
                "file": r["file"],
            }
            for r in splits[split]
        ]
        with out.writer(f"{split}.parquet") as path:
            write_table(path, pa.Table.from_pylist(table, schema=EXAMPLES))
    out.write_json("labels.json", packages)
    return {"classes": len(packages), **{s: len(splits[s]) for s in SPLITS}, **dropped}


def _usable(table: pa.Table, config: ExamplesConfig) -> Iterable[dict[str, Any]]:
    """Documents of Python files of suitable length, with package and split."""
    columns = (table.column(c).to_pylist() for c in ("id", "text", "source", "file"))
    for id, text, source, file in zip(*columns, strict=True):
        fits = config.min_bytes <= len(text.encode()) <= config.max_bytes
        if fits and source in config.split.whole_files and "/" in file and file.endswith((".py", ".pyi")):
            yield {
                "id": id,
                "text": text,
                "file": file,
                "package": file.partition("/")[0],
                "split": split_of(file, config.split),
            }


def _largest(sizes: Counter[str], config: ExamplesConfig) -> list[str]:
    """The `num_classes` packages with most training documents; ties by name."""
    ranked = sorted(
        (name for name in sizes if sizes[name] >= config.min_per_class), key=lambda n: (-sizes[n], n)
    )
    if len(ranked) < config.num_classes:
        raise ValueError(
            f"only {len(ranked)} packages have {config.min_per_class} usable docstrings to train on, num_classes asks for "
            f"{config.num_classes}; read more distributions, or lower num_classes or min_per_class"
        )
    return ranked[: config.num_classes]


def _cap_and_separate(
    rows: Sequence[dict[str, Any]], config: ExamplesConfig
) -> tuple[dict[str, list[dict[str, Any]]], Counts]:
    """Rows by split in order of id (a hash, so capping a class takes a fair sample), no text in two splits."""
    splits: dict[str, list[dict[str, Any]]] = {s: [] for s in SPLITS}
    seen: set[str] = set()
    dropped = {"over_cap": 0, "begins_like_another": 0}
    for split in SPLITS:
        taken: Counter[str] = Counter()
        cap = config.max_per_class if split == "train" else config.max_held_out_per_class
        for row in sorted((r for r in rows if r["split"] == split), key=lambda r: (r["id"], r["file"])):
            opening = beginning(row["text"])
            if opening in seen:
                dropped["begins_like_another"] += 1
            elif taken[row["package"]] >= cap:
                dropped["over_cap"] += 1
            else:
                seen.add(opening)
                taken[row["package"]] += 1
                splits[split].append(row)
    return splits, dropped


def beginning(text: str) -> str:
    """What near-identical texts have in common: the first 200 letters and digits, without case."""
    return re.sub(r"[\W_]+", "", text.lower())[:200]


def masker(packages: Sequence[str]) -> Callable[[str], str]:
    """A function that replaces every mention of every package by MASK, also inside names: "PyTorch" and "ray_tune" too,
    but not the "ray" in "array"."""
    names = {name for p in packages for name in (p, *_ALSO.get(p, ()))}
    long = [n for n in names if len(n) >= _INSIDE_WORDS]
    short = names.difference(long)

    @cache
    def word(text: str) -> str:
        if any(n in text.lower() for n in long):
            return MASK
        parts = _PARTS.split(text)
        return (
            "".join(MASK if p.lower() in short else p for p in parts)
            if len(parts) > 1 or text.lower() in short
            else text
        )

    return lambda text: re.sub(r"\w+", lambda found: word(found[0]), text)
