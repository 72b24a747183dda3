"""Hugging Face dataset folders, without the `datasets` library: saved by it, or laid out as on the hub.

    saved (save_to_disk)    dataset_info.json, state.json, data-00000-of-00002.arrow; with splits, a folder each
    hub                     data/train-00000-of-00002.parquet, en/validation.jsonl.gz, ...

Where a state.json names a folder's files, others (the caches of `map`) are no part of it. A file belongs to the split whose
name stands in its path as a word of its own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.source import Found, FoundFile
from corpus.sources.text_files import TextFiles

_NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"})


@dataclass(frozen=True, kw_only=True)
class HuggingFaceDataset(FolderSource):
    """The rows of a dataset, all splits or the named ones; `text_field` is the column with the text."""

    splits: tuple[str, ...] = ()
    text_field: str = "text"
    title_field: str = "title"
    patterns: tuple[str, ...] = field(
        default=with_compression(".arrow", ".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt"),
        compare=False,
    )
    name: str = "hugging-face"

    def files(self) -> Iterator[FoundFile]:
        left = set(self.splits)
        seen: list[str] = []  # a few names, for the error
        listed: dict[str, frozenset[str] | None] = {}  # what a folder's state.json names
        for file in super().files():
            folder, _, last = file.name.rpartition("/")
            if last in _NOT_DATA:
                continue
            if folder not in listed:
                listed[folder] = self._state(file.root, folder)
            if (named := listed[folder]) is not None and last not in named:
                continue
            if len(seen) < 5:
                seen.append(file.name)
            splits = [s for s in self.splits if _belongs(file.name, s)]
            left -= set(splits)
            if splits or not self.splits:
                yield file
        if left:
            raise ValueError(
                f"source {self.name!r} finds no split {', '.join(map(repr, sorted(left)))} in {self.folder} "
                f"(there are {', '.join(seen) or 'no data files'}); correct splits"
            )

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        reader = TextFiles(
            folder=self.folder,
            text_field=self.text_field,
            title_field=self.title_field,
            max_document_bytes=self.max_document_bytes,
            name=self.name,
            language=self.language,
        )
        yield from reader.documents(name, stream, dropped)

    def _state(self, root: str, folder: str) -> frozenset[str] | None:
        """The data files that a saved dataset names; None for a folder that is none."""
        try:
            with self.open(root, f"{folder}/state.json".lstrip("/")) as stream:
                state: Any = json.load(stream)
        except FileNotFoundError:
            return None
        except ValueError:
            raise ValueError(
                f"state.json in {folder or self.folder} of source {self.name!r} is no JSON; save the dataset again"
            ) from None
        return frozenset(str(file["filename"]) for file in state.get("_data_files", ()))


def _belongs(name: str, split: str) -> bool:
    return re.search(rf"(?:^|[/._-]){re.escape(split)}(?:[/._-]|$)", name) is not None
