"""Sources -> documents: list what there is by content, then read what is new, clean it and normalise it.

    find_files  every file with the sha256 of its content            what is there now; in a bucket its version, unread
    Listing     one digest over all (source, content) pairs          names the step `list_sources`
    ingest      reads the listed files, in partitions of about 8 MB of source chosen by content hash

The listing is why a finished ingest is not repeated and a changed file is not overlooked: results are named by what the
files hold, never by their paths, dates or order. A partition writes runs: Arrow files of at most 32 MB of text, sorted by
document id, so that memory does not grow with a file and `collect` finds any range of ids by bisection.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from corpus.clean import CleanConfig, clean_text
from corpus.document import Document, document_id, sort_documents, to_table
from corpus.normalize import normalize
from corpus.sources.conllu import ConllU
from corpus.sources.csv_files import Csv
from corpus.sources.fasta import Fasta
from corpus.sources.html_pages import Html
from corpus.sources.hugging_face import HuggingFaceDataset
from corpus.sources.json_lines import JsonLines
from corpus.sources.python_docs import PythonDocs
from corpus.sources.source import FoundFile, Source, TruncatedFile, content_of, fingerprint, versioned
from corpus.sources.tables import Tables
from corpus.sources.text_files import TextFiles
from corpus.sources.warc import Warc
from corpus.sources.wikipedia import Wikipedia
from infra.artifacts import Artifact, Counts
from infra.config import digest_of, plain
from infra.output import Output, PartitionOutput, total

PARTITION_BYTES = 8 << 20  # of source; a partition is one unit of work of a second or two, and of restart
RUN_BYTES = 32 << 20  # of text; what a worker holds at most, beside one document
LINES = "files.jsonl"

AnySource = (
    PythonDocs
    | TextFiles
    | JsonLines
    | Csv
    | Tables
    | Html
    | Warc
    | Wikipedia
    | ConllU
    | Fasta
    | HuggingFaceDataset
)

log = logging.getLogger("cloze.corpus")


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Where text comes from and how it is cleaned.

    `share` keeps the files whose content hash lies in the first share of all hashes: a smaller corpus of the same kind.
    """

    sources: tuple[AnySource, ...] = field(default_factory=lambda: (PythonDocs(),))
    clean: CleanConfig = field(default_factory=CleanConfig)
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
    """One listed file. `root` and `name` find it again on any machine; sha256 says whether it is still the same.

    `reader` is the digest of the source's own settings: a file is read again when they change.
    """

    sha256: str
    source: str
    name: str
    root: str
    size: int
    reader: str

    @property
    def content(self) -> tuple[str, str]:
        """What it gives, whatever it is called: equal for a renamed or copied file."""
        return self.reader, self.sha256

    def line(self) -> str:
        return json.dumps(
            [self.sha256, self.source, self.name, self.root, self.size, self.reader], ensure_ascii=False
        )

    @staticmethod
    def of_line(line: str) -> "SourceFile":
        sha256, source, name, root, size, reader = json.loads(line)
        return SourceFile(sha256=sha256, source=source, name=name, root=root, size=size, reader=reader)


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
    limit = int(config.share * (1 << 32))
    with ThreadPoolExecutor(4) as pool:  # sha256 and reading both release the interpreter
        files = [
            f
            for source in config.sources
            for f in pool.map(_lister(source), source.files())
            if int(f.sha256[:8], 16) < limit
        ]
    if not files:
        raise ValueError(
            f"the sources ({', '.join(s.name for s in config.sources)}) hold no file; check them, or raise share"
        )
    return sorted(files)


def _lister(source: Source) -> Any:
    reader = digest_of(plain(source))[:16]

    def listed(found: FoundFile) -> SourceFile:
        try:
            if found.version:
                sha256, size = versioned(found.version), found.size
            else:
                with source.open(found.root, found.name) as stream:
                    sha256, size = fingerprint(stream)
        except OSError as error:
            raise ValueError(
                f"{found.name} of source {source.name!r} cannot be read ({error.strerror or error}); make it readable "
                "or leave it out"
            ) from None
        return SourceFile(
            sha256=sha256, source=source.name, name=found.name, root=found.root, size=size, reader=reader
        )

    return listed


def listing(config: IngestConfig) -> Listing:
    """What the sources hold now."""
    return listing_of(find_files(config))


def listing_of(files: Sequence[SourceFile]) -> Listing:
    """The digest of a file list: pure in the set of files, whatever their order."""
    named = sorted((f.source, f.name, f.sha256, f.reader) for f in files)
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
    """Write the documents of all listed files, cleaned and normalised: runs `<partition>-<number>.arrow`, sorted by id.

    Counts: files, read (documents), text_bytes, and one count per reason of a drop or repair. Raises SourceChanged for a
    file that vanished or changed since it was listed.
    """
    items = {_partition_id(part): part for part in partitions(listed_files(listing))}
    none: Counts = {"files": 0, "read": 0, "text_bytes": 0}
    return none | total(out.map(ingest_files, items, config=config))


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
    sources: dict[str, Source] = {s.name: s for s in config.sources}
    counts: Counter[str] = Counter(files=len(files), read=0, text_bytes=0)
    found = (d for f in files for d in _read(sources[f.source], f, config.clean, counts))
    for number, run in enumerate(_runs(found)):
        with (
            out.writer(f"{out.id}-{number:04d}.arrow") as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, (table := to_table(sort_documents(run))).schema) as writer,
        ):
            writer.write_batch(table.combine_chunks().to_batches()[0])
    return dict(sorted(counts.items()))


def _runs(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut into lists of about RUN_BYTES of text."""
    run: list[Document] = []
    size = 0
    for document in documents:
        run.append(document)
        size += len(document.text)
        if size >= RUN_BYTES:
            yield run
            run, size = [], 0
    if run:
        yield run


def _read(source: Source, file: SourceFile, clean: CleanConfig, counts: Counter[str]) -> Iterator[Document]:
    """The documents of one file, provided it still is the file that was listed."""
    again = "run the same command again"
    try:
        with source.open(file.root, file.name) as stream:
            if content_of(stream) != file.sha256:
                raise SourceChanged(
                    f"{file.name} of source {source.name!r} changed after it was listed; {again} to list it anew"
                )
            stream.seek(0)
            before = _state(stream)
            try:
                for raw in source.documents(file.name, stream, counts):
                    text = clean_text(clean, raw.text, counts)
                    if not text:
                        counts["empty"] += 1
                        continue
                    title = normalize(raw.title).replace("\n", " ")
                    counts["read"] += 1
                    counts["text_bytes"] += len(text.encode())
                    language = raw.language or source.language
                    yield Document(
                        document_id(text), text, title, source.name, file.name, raw.position, language
                    )
            except TruncatedFile as error:  # what is whole is kept, the rest is counted and named
                counts["truncated"] += 1
                log.warning("%s", error)
            if _state(stream) != before:
                raise SourceChanged(
                    f"{file.name} of source {source.name!r} changed while it was read; {again}"
                )
    except (OSError, ImportError) as error:
        raise SourceChanged(
            f"{file.name} of source {source.name!r} was listed but cannot be read now ({error}); {again}"
        ) from None


def _state(stream: BinaryIO) -> tuple[int, int]:
    """What changes when an open file is written to. A file that is replaced goes on being read as it was."""
    try:
        state = os.fstat(stream.fileno())
    except (OSError, AttributeError):  # an object in a bucket: its reader asks for one version to the end
        return (0, 0)
    return state.st_mtime_ns, state.st_size
