"""Sources -> documents: list what there is by content, then read it, normalise it and drop what is not text.

    find_files  every file with the sha256 of its content            what is there now, on this machine
    Listing     one digest over all (name, content) pairs            names the step `list_sources`
    ingest      reads the listed files, in partitions of about 8 MB of source chosen by content hash

The listing is why a finished ingest is not repeated and a changed file is not overlooked: results are named by what the
files hold, never by their paths, dates or order.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from corpus.document import Document, document_id, sort_documents, to_table, write_table
from corpus.filters import KEPT, REASONS, FilterConfig, judge
from corpus.normalize import normalize
from corpus.sources.python_docs import PythonDocs
from corpus.sources.source import Source
from corpus.sources.text_files import TextFiles
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

PARTITION_BYTES = 8 << 20  # of source; a partition is one unit of work of a second or two, and of restart
LINES = "files.jsonl"


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Where text comes from and which of it is kept.

    `share` keeps the files whose content hash lies in the first share of all hashes: a smaller corpus of the same kind.
    """

    sources: tuple[PythonDocs | TextFiles, ...] = field(default_factory=lambda: (PythonDocs(),))
    filters: FilterConfig = field(default_factory=FilterConfig)
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; name at least one, e.g. PythonDocs()")
        names = [s.name for s in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources share a name ({', '.join(sorted(names))}); give each its own")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True, order=True)
class SourceFile:
    """One listed file. `root` and `name` find it again on any machine; sha256 says whether it is still the same."""

    sha256: str
    source: str
    name: str
    root: str
    size: int

    def line(self) -> str:
        return json.dumps([self.sha256, self.source, self.name, self.root, self.size], ensure_ascii=False)

    @staticmethod
    def of_line(line: str) -> "SourceFile":
        sha256, source, name, root, size = json.loads(line)
        return SourceFile(sha256=sha256, source=source, name=name, root=root, size=size)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What was found, in one digest: it changes if and only if the set of (source, name, content) does.

    The config of the step `list_sources`; `found` is what it writes, and too long to be part of a name.
    """

    sha256: str
    files: int
    size_bytes: int
    found: tuple[SourceFile, ...] = field(compare=False, repr=False)


class SourceChanged(RuntimeError):
    """A file is not what it was when it was listed."""


def find_files(config: IngestConfig) -> list[SourceFile]:
    """Every file of every source with its content hash, sorted. Raises ValueError if nothing is found."""
    found = [(s.name, *file) for s in config.sources for file in s.files()]
    with ThreadPoolExecutor(4) as pool:  # sha256 and reading both release the interpreter
        files = list(pool.map(_listed, *zip(*found, strict=True))) if found else []
    limit = int(config.share * (1 << 32))
    files = sorted(f for f in files if int(f.sha256[:8], 16) < limit)
    if not files:
        raise ValueError(
            f"the sources ({', '.join(s.name for s in config.sources)}) hold no file; check them, or raise share"
        )
    return files


def _listed(source: str, root: str, name: str, path: Path) -> SourceFile:
    try:
        with path.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
            size = f.tell()
    except OSError as error:
        raise ValueError(
            f"{path} of source {source!r} cannot be read ({error.strerror}); make it readable or leave it out"
        ) from None
    return SourceFile(sha256=sha256, source=source, name=name, root=root, size=size)


def listing(config: IngestConfig) -> Listing:
    """What the sources hold now."""
    return listing_of(find_files(config))


def listing_of(files: Sequence[SourceFile]) -> Listing:
    """The digest of a file list: pure in the set of files, whatever their order."""
    named = sorted((f.source, f.name, f.sha256) for f in files)
    digest = hashlib.sha256(
        "".join(json.dumps(n, ensure_ascii=False) + "\n" for n in named).encode()
    ).hexdigest()
    size = sum(f.size for f in files)
    return Listing(sha256=digest, files=len(files), size_bytes=size, found=tuple(sorted(files)))


def list_sources(config: Listing, *, out: Output) -> Counts:
    """Write the list, one file a line. Counts are files and bytes."""
    out.write(LINES, "".join(f.line() + "\n" for f in config.found).encode())
    return {"files": config.files, "bytes": config.size_bytes}


def listed_files(listing: Artifact) -> list[SourceFile]:
    """The files of a finished `list_sources`."""
    return [SourceFile.of_line(line) for line in listing.read(LINES).decode().splitlines()]


def ingest(config: IngestConfig, *, listing: Artifact, out: Output) -> Counts:
    """Write the documents of all listed files, normalised and filtered, one Parquet file per partition.

    Counts: files, read (documents found), kept, and one count per reason of a drop. Raises SourceChanged for a file that
    vanished or changed since it was listed, ValueError if not one document is kept.
    """
    items = {_partition_id(part): part for part in partitions(listed_files(listing))}
    counts = total(out.map(ingest_files, items, config=config))
    if not counts.get("kept"):
        why = (
            ", ".join(f"{k} {v}" for k, v in counts.items() if v and k not in ("files", "read"))
            or "no text in them"
        )
        raise ValueError(
            f"the {counts['files']} files of {', '.join(s.name for s in config.sources)} give no document ({why}); "
            "use UTF-8 text files with sentences in them, or lower filters.min_bytes"
        )
    return counts


def partitions(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Cut into buckets by the leading bits of the content hash: their number is a power of two that depends only on the
    total size, so a file's bucket depends on nothing but its content and that size."""
    bits = max(0, (sum(f.size for f in files) // PARTITION_BYTES).bit_length())
    buckets: dict[int, list[SourceFile]] = {}
    for file in sorted(files):
        buckets.setdefault(int(file.sha256[:8], 16) >> (32 - bits), []).append(file)
    return [buckets[b] for b in sorted(buckets)]


def _partition_id(files: Iterable[SourceFile]) -> str:
    return hashlib.blake2b("".join(f.line() + "\n" for f in files).encode(), digest_size=8).hexdigest()


def ingest_files(files: Sequence[SourceFile], *, config: IngestConfig, out: PartitionOutput) -> Counts:
    """One partition of `ingest`."""
    sources = {s.name: s for s in config.sources}
    counts: Counter[str] = Counter(files=len(files))
    found = [d for f in files for d in _read(sources[f.source], f, counts)]
    counts["read"] = len(found)
    verdict = judge(config.filters, pa.array([d.text for d in found], pa.large_string()))
    kept = [d for d, v in zip(found, verdict, strict=True) if v == KEPT]
    for reason, name in enumerate(REASONS):
        counts[name] += int((verdict == reason).sum())
    with out.writer(f"{out.id}.parquet") as path:
        write_table(path, to_table(sort_documents(kept)))
    return dict(sorted(counts.items()))


def _read(source: Source, file: SourceFile, counts: Counter[str]) -> Iterator[Document]:
    """The normalised documents of one file, provided it still is the file that was listed."""
    try:
        data = source.locate(file.root, file.name).read_bytes()
    except (OSError, ImportError) as error:
        raise SourceChanged(
            f"{file.name} of source {source.name!r} was listed but cannot be read now ({error}); run the same command again"
        ) from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise SourceChanged(
            f"{file.name} of source {source.name!r} changed after it was listed; run the same command again to list it anew"
        )
    for raw in source.documents(file.name, data, counts):
        text = normalize(raw.text)
        title = normalize(raw.title).replace("\n", " ")
        yield Document(document_id(text), text, title, source.name, file.name, raw.position, source.language)
