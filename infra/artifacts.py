"""Finished results: a folder, and the manifest that says it is complete.

    <store>/<step>/<digest>/manifest.json     written last: its presence means complete
                           /<files>           what the step wrote
                           /partitions/*.json one record per finished partition (see output.py)

The digest is sha256 over step name, step version, config and the digests of the inputs, and over nothing else: paths,
worker counts, devices and log settings are never in it. A file is verified against its checksum the first time a
process reads it (about 1.5 GB/s), so a truncated or altered file is named and never flows on.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

from infra.config import Plain, canonical, digest_of
from infra.storage import Folder

MANIFEST = "manifest.json"
SCHEMA = 1

Counts = dict[str, int]


class CorruptFile(ValueError):
    """A file does not hold what its manifest says."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of an artifact: name relative to its folder, size in bytes, sha256 in hex."""

    name: str
    size: int
    sha256: str

    @staticmethod
    def of(name: str, path: Path) -> "FileEntry":
        with path.open("rb") as f:
            return FileEntry(name=name, size=path.stat().st_size, sha256=file_digest(f, "sha256").hexdigest())


def digest(step: str, version: int, config: Plain, inputs: Mapping[str, str | None]) -> str:
    """The address of a result: sha256 over what determines it. `inputs` maps argument name to digest (None: not given)."""
    return digest_of({"step": step, "version": version, "config": config, "inputs": dict(inputs)})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished result is.

    `inputs` maps argument name to "step/digest". `content` is a sha256 over counts and files: two runs agree byte for
    byte iff it agrees. `made` holds what may differ between them: revision, seconds, measured rates.
    """

    step: str
    version: int
    digest: str
    config: Plain
    inputs: dict[str, str | None]
    counts: Counts
    files: tuple[FileEntry, ...]
    made: dict[str, Any] = field(default_factory=dict)
    location: str | None = None  # "step/digest" of an adopted folder that really holds the files

    @property
    def content(self) -> str:
        return digest_of({"counts": self.counts, "files": [vars(f) for f in self.files]})

    def to_bytes(self) -> bytes:
        body = {k: v for k, v in vars(self).items() if k != "files"}
        body |= {"schema": SCHEMA, "content": self.content, "files": [vars(f) for f in self.files]}
        return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False).encode()

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "Manifest":
        try:
            body = json.loads(data)
            if body["schema"] != SCHEMA:
                raise CorruptFile(
                    f"{where} has schema {body['schema']}, this cloze reads {SCHEMA}; use a matching version"
                )
            files = tuple(FileEntry(**f) for f in body.pop("files"))
            content = body.pop("content")
            del body["schema"]
            manifest = Manifest(files=files, **body)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CorruptFile(
                f"{where} is not a readable manifest ({error}); delete it and run the step again"
            ) from None
        if manifest.content != content:
            raise CorruptFile(f"{where} does not match its own checksum; delete it and run the step again")
        return manifest


_verified: set[tuple[str, int, int, str]] = set()
_verified_lock = threading.Lock()


class Artifact:
    """A result, finished or only planned. Reading one that is not finished raises FileNotFoundError."""

    def __init__(self, store: Folder, step: str, digest: str) -> None:
        self.store, self.step, self.digest = store, step, digest
        self._manifest: Manifest | None = None

    def __repr__(self) -> str:
        return f"Artifact({self.address[: len(self.step) + 13]})"

    @property
    def address(self) -> str:
        return f"{self.step}/{self.digest}"

    @property
    def short(self) -> str:
        """step/first twelve digits: what people read and type."""
        return f"{self.step}/{self.digest[:12]}"

    @property
    def finished(self) -> bool:
        return self._manifest is not None or self.store.child(self.step, self.digest).exists(MANIFEST)

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            folder = self.store.child(self.step, self.digest)
            self._manifest = Manifest.from_bytes(folder.read(MANIFEST), f"{folder.url}/{MANIFEST}")
        return self._manifest

    @property
    def folder(self) -> Folder:
        """Where the files are: this address, or the folder it adopted."""
        return self.store.child(*(self.manifest.location or self.address).split("/"))

    @property
    def counts(self) -> Counts:
        return self.manifest.counts

    @property
    def inputs(self) -> dict[str, "Artifact"]:
        pairs = ((k, v.split("/")) for k, v in self.manifest.inputs.items() if v is not None)
        return {name: Artifact(self.store, step, digest) for name, (step, digest) in pairs}

    def names(self, prefix: str = "") -> list[str]:
        """Names of the data files (partition records left out) that start with `prefix`, sorted."""
        names = (f.name for f in self.manifest.files)
        return sorted(n for n in names if n.startswith(prefix) and not n.startswith("partitions/"))

    def entry(self, name: str) -> FileEntry:
        for entry in self.manifest.files:
            if entry.name == name:
                return entry
        raise FileNotFoundError(
            f"{self.short} has no file {name!r}; it holds {', '.join(self.names()[:8]) or 'none'}"
        )

    def path(self, name: str) -> Path:
        """A local path of the file, verified once per process. Raises CorruptFile."""
        entry = self.entry(name)
        try:
            check_file(self.folder.local(name), entry, self._corrupt)
        except FileNotFoundError:
            raise self._corrupt(entry, "is missing") from None
        except CorruptFile:
            self.folder.forget(name)  # the damage may be that of a local download, not of the store
            try:
                check_file(self.folder.local(name), entry, self._corrupt)
            except FileNotFoundError:
                raise self._corrupt(entry, "is missing") from None
        return self.folder.local(name)

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def _corrupt(self, entry: FileEntry, what: str) -> CorruptFile:
        return CorruptFile(
            f"{entry.name} of {self.short} {what}; "
            f"run `cloze verify {self.short} --repair`, then the same command again to rebuild it"
        )


def check_file(path: Path, entry: FileEntry, corrupt: Any) -> None:
    """Raise `corrupt(entry, what)` unless `path` holds the entry's bytes. Each version of a file is hashed once."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns, entry.sha256)
    if stat.st_size != entry.size:
        raise corrupt(entry, f"has {stat.st_size} bytes instead of {entry.size}")
    if key not in _verified:
        if FileEntry.of(entry.name, path).sha256 != entry.sha256:
            raise corrupt(entry, "does not match its checksum")
        with _verified_lock:
            _verified.add(key)


def to_json(value: Any) -> bytes:
    """Canonical JSON with a final newline: equal values are equal bytes."""
    return canonical(value) + b"\n"
