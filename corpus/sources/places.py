"""Where files lie: a folder, a file or a glob, on this machine or in a bucket; listed lazily, opened by relative name.

    "text"  "~/text"                    every file below the folder that matches one of `patterns`
    "data/**/*.jsonl.gz"                a glob; names are relative to what stands before its first wildcard
    "data/part[0-9].txt"                `*` and `?` stay within a folder, `**` crosses folders, `[...]` is one of these
    "s3://bucket/prefix/**/*.txt"       the same in a bucket

As in a shell, names that begin with '.' match only a pattern that says so. Links are followed, but not in circles. A
million files cost one `scandir` per folder and one `stat` per match, and the memory of the largest folder's names.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from corpus.sources.source import FoundFile
from infra.objects import list_objects, open_object, split_url

_WILD = re.compile(r"[*?[]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
READ_BUFFER_BYTES = 256 << 10


@dataclass(frozen=True)
class Place:
    """`base` is a folder, "s3://bucket" or "s3://bucket/prefix", without a '/' at its end."""

    base: str
    patterns: tuple[str, ...]

    @property
    def remote(self) -> bool:
        return self.base.startswith("s3://")


def place(folder: str, patterns: Sequence[str]) -> Place:
    """Read `folder` as said above; `patterns` count where it is a folder without wildcards."""
    remote = folder.startswith("s3://")
    path = folder.rstrip("/") if remote else os.path.expanduser(folder)
    if not remote and os.path.isdir(path):  # also one whose name looks like a glob
        return Place(path, tuple(patterns))
    if not remote and os.path.isfile(path):
        return Place(os.path.dirname(path) or ".", (_literally(os.path.basename(path)),))
    wild = _WILD.search(path)
    if wild:
        base, _, _ = path[: wild.start()].rpartition("/")
        pattern = path[len(base) :].lstrip("/")
        if not base:
            base = "/" if path.startswith("/") else "."
        return Place(base, (pattern,))
    if remote and "." in (last := path.rpartition("/")[2]) and path.count("/") > 2:
        # a file or a folder; nothing but asking would tell, so both are looked for
        base = path.rpartition("/")[0]
        return Place(base, (_literally(last), *(f"{_literally(last)}/{p}" for p in patterns)))
    return Place(path, tuple(patterns))


def list_files(where: Place, *, every: bool) -> Iterator[FoundFile]:
    """Every file whose name matches. Raises FileNotFoundError if the folder does not exist, StoreUnreachable, and
    ValueError at the end if nothing matched (with `every`: if one of the patterns did not)."""
    if not where.remote and not os.path.isdir(where.base):
        raise FileNotFoundError(f"folder {where.base!r} does not exist; give an existing one")
    wanted = re.compile("|".join(f"(?:{_regex(p)})" for p in where.patterns))
    idle = [(p, re.compile(_regex(p))) for p in where.patterns]  # patterns without a match so far
    found = False
    for file in _objects(where) if where.remote else _walk(where):
        if wanted.fullmatch(file.name):
            found = True
            idle = [(p, regex) for p, regex in idle if not regex.fullmatch(file.name)]
            yield file if where.remote else _stated(where.base, file.name)
    if not found or (every and idle):
        missing = ", ".join(repr(p) for p, _ in idle)
        raise ValueError(f"{missing} matches nothing in {where.base}; correct the pattern or the folder")


def open_file(where: Place, name: str) -> BinaryIO:
    """The bytes as stored, buffered. Raises FileNotFoundError, OSError."""
    if where.remote:
        bucket, prefix = split_url(where.base)
        return open_object(bucket, f"{prefix}/{name}" if prefix else name)
    path = Path(where.base, name)
    if not path.exists():
        path = Path(where.base, _unspelled(name))
    return path.open("rb", buffering=READ_BUFFER_BYTES)


def _objects(where: Place) -> Iterator[FoundFile]:
    bucket, prefix = split_url(where.base)
    before = f"{prefix}/" if prefix else ""
    firsts = {_WILD.split(p)[0] for p in where.patterns}
    first, last = min(firsts), max(firsts)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    narrow = first[:same]  # what every match begins with: the server looks nowhere else
    for key, size, version in list_objects(bucket, before + narrow):
        if not key.endswith("/"):  # a folder marker
            yield FoundFile("", key[len(before) :], size, version)


def _walk(where: Place) -> Iterator[FoundFile]:
    """Files below the base, sorted within each folder; the size is not asked for yet."""
    depth = None if any("**" in p for p in where.patterns) else max(p.count("/") for p in where.patterns)
    hidden = any(part.startswith(".") for p in where.patterns for part in p.split("/"))
    yield from (FoundFile("", name, 0) for name in _below(where.base, "", depth, hidden))


def _below(folder: str, prefix: str, depth: int | None, hidden: bool) -> Iterator[str]:
    folders: set[str] = set()
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not hidden:
                    continue
                if entry.is_dir():
                    folders.add(entry.name)
                elif not entry.is_file() and not entry.is_symlink():
                    continue  # a pipe, a device: nothing that ends
                names.append(entry.name)
    except OSError:
        if prefix:  # listed as if it were a file, so that opening it names it and says why
            yield prefix.rstrip("/")
            return
        raise
    for name in sorted(names):
        if name not in folders:
            yield prefix + name
        elif depth is None or depth > prefix.count("/"):
            path = os.path.join(folder, name)
            if not (os.path.islink(path) and _is_circle(path)):
                yield from _below(path, f"{prefix}{name}/", depth, hidden)


def _is_circle(link: str) -> bool:
    """Whether the linked folder holds the link itself."""
    return (
        os.path.commonpath([target := os.path.realpath(link), os.path.realpath(os.path.dirname(link))])
        == target
    )


def _stated(base: str, name: str) -> FoundFile:
    """With its size: 0 where that cannot be told (a link to nowhere, a file that is gone; opening it will say so)."""
    try:
        found = os.stat(os.path.join(base, name))
    except OSError:
        return FoundFile("", _spelled(name), 0)
    return FoundFile("", _spelled(name), found.st_size if stat.S_ISREG(found.st_mode) else 0)


def _spelled(name: str) -> str:
    r"""A file name as text: bytes that are no UTF-8 become "\xe9"."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


def _unspelled(name: str) -> str:
    return os.fsdecode(
        _ESCAPED.sub(lambda m: chr(0xDC00 + int(m[1], 16)), name).encode("utf-8", "surrogateescape")
    )


def _literally(name: str) -> str:
    return _WILD.sub(lambda m: f"[{m[0]}]", name)


def _regex(pattern: str) -> str:
    """A glob as a regular expression for whole relative names."""
    out = []
    for part in pattern.split("/"):
        if part == "**":
            out.append(r"(?:(?!\.)[^/]+/)*")
        else:
            out.append(("" if part.startswith(".") else r"(?!\.)") + _part(part) + "/")
    regex = "".join(out)
    return regex + r"(?!\.)[^/]+" if pattern.endswith("**") else regex.removesuffix("/")


def _part(part: str) -> str:
    """One component: "*" any characters, "?" one, "[...]" one of these, "[!...]" one of the others."""
    out, rest = "", part
    while rest:
        if (found := re.match(r"\[(!?)(\]?[^\]]*)\]", rest)) is not None:
            inside = found[2].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^").replace("]", r"\]")
            out += f"[{'^' if found[1] else ''}{inside}]"
            rest = rest[found.end() :]
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(rest[0], re.escape(rest[0]))
            rest = rest[1:]
    return out
