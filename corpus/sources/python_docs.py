"""The documentation that lies on every Python machine: real English text without a network.

Docstrings of modules, classes and functions (read with `ast`; nothing is ever imported), texts handed to `add_docstr`
and the like (where NumPy and PyTorch document their compiled functions), `.rst`, `.md` and `.txt` files, and the
package descriptions in `METADATA`; of the standard library and of the packages that the named distributions depend on.
Whatever else is installed does not count, so adding a test tool later leaves the corpus as it was.

A file where no line begins with triple quotes is not parsed, and the garbage collector rests while a file is: an AST is large and without
cycles. Measured on 173 MB of source: 58 s -> 18 s of CPU time.
"""

import ast
import gc
import importlib.metadata as metadata
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from corpus.sources.prose import prose
from corpus.sources.reading import MAX_DOCUMENT_BYTES, decode, read_whole
from corpus.sources.source import Found, FoundFile

STDLIB = "stdlib"  # the root of the standard library; every other root is the name of a distribution

_SUFFIXES = (".py", ".pyi", ".rst", ".md", ".txt", ".dist-info/METADATA")
# Test suites, copies of other packages, and generated code: not documentation of the package that holds them.
_SKIP_FOLDER = re.compile(
    r"(?:^|/)(?:tests?|testing|_testing|unittests?|idle_test|site-packages|dist-packages|__pycache__|_?vendor(?:ed)?"
    r"|_?third_?party(?:_files)?|licenses|node_modules|_bundled|vendored_packages|config-3[^/]*|lib2to3|generated)/"
)
_SKIP_NAME = re.compile(
    r"(?:test_.*|.*_test|.*_tests|conftest|.*_pb2|.*_pb2_grpc)\.pyi?$"
    r"|(?:LICENSE|LICENCE|COPYING|NOTICE|AUTHORS|CONTRIBUTORS|THIRD.?PARTY|requirements|CMakeLists|SOURCES|top_level"
    r"|entry_points|RECORD|dependency_links|namespace_packages|vendor|.*licen[sc]e).*\.(?:txt|md|rst)$",
    re.IGNORECASE,
)

_BLOCK_STRING = re.compile(
    rb"""^[ \t]*[rRuU]?(?:\"{3}|'{3})""", re.MULTILINE
)  # a string that begins its line


@dataclass(frozen=True, kw_only=True)
class PythonDocs:
    """Documentation of the standard library and of what `distributions` need to run (the closure, markers honoured)."""

    distributions: tuple[str, ...] = ("torch", "ray", "deepspeed", "pyarrow", "tokenizers", "prefect", "s3fs")
    standard_library: bool = True
    name: str = "python-docs"
    language: str = "en"

    def __post_init__(self) -> None:
        if not self.distributions and not self.standard_library:
            raise ValueError(
                "distributions is empty and standard_library is off; nothing is left to read, so set one"
            )

    def files(self) -> Iterator[FoundFile]:
        if self.standard_library:
            yield from _standard_library_files()
        taken: set[str] = set()  # a namespace package's file may be in two records
        for key, distribution in sorted(_closure(self.distributions).items()):
            for entry in distribution.files or ():
                name = PurePosixPath(entry).as_posix()
                if name not in taken and _wanted(name):
                    taken.add(name)
                    path = Path(str(distribution.locate_file(name)))
                    if path.is_file():
                        yield FoundFile(key, name, path.stat().st_size)

    def open(self, root: str, name: str) -> BinaryIO:
        return _path(root, name).open("rb")

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        data = read_whole(stream, f"{name} of source {self.name!r}", dropped, MAX_DOCUMENT_BYTES)
        if data is None:
            return
        python = name.endswith((".py", ".pyi"))
        if python and not _BLOCK_STRING.search(data):
            dropped["no_docstring"] += 1
            return
        if python:
            found: Iterable[tuple[str, int, str]] = _docstrings(name, data, dropped)
        else:
            text = decode(data, dropped)
            found = _page(name, text) if text is not None else []
        for title, line, text in found:
            if cleaned := prose(text):
                yield Found(title, line, cleaned)
            else:
                dropped["no_prose"] += 1


def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _path(root: str, name: str) -> Path:
    """Where a file lies on this machine. Raises FileNotFoundError if its distribution is not installed here."""
    if root == STDLIB:
        return _standard_library() / name
    try:
        return Path(str(metadata.distribution(root).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"{root} is not installed here; install it, or list the sources anew"
        ) from None


def _standard_library_files() -> Iterator[FoundFile]:
    root = _standard_library()
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        prefix = "" if here == "." else f"{here}/"
        folders[:] = sorted(f for f in folders if not _SKIP_FOLDER.search(f"{prefix}{f}/"))
        for name in sorted(names):
            if _wanted(prefix + name):
                yield FoundFile(STDLIB, prefix + name, (root / prefix / name).stat().st_size)


def _wanted(name: str) -> bool:
    """Whether a relative file name is documentation or code that may hold some."""
    if not name.endswith(_SUFFIXES) or name.startswith(".."):
        return False
    return not _SKIP_FOLDER.search(name) and not _SKIP_NAME.match(name.rpartition("/")[2])


def _key(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(roots: Sequence[str]) -> dict[str, metadata.Distribution]:
    """Installed distributions that `roots` need, by normalised name. A root that is absent is an error; a dependency
    that is absent (an extra, another platform's) is not."""
    from packaging.requirements import Requirement

    found: dict[str, metadata.Distribution] = {}
    todo = [_key(root) for root in roots]
    while todo:
        key = todo.pop()
        if key in found:
            continue
        try:
            found[key] = metadata.distribution(key)
        except metadata.PackageNotFoundError:
            if key in map(_key, roots):
                raise ValueError(
                    f"distributions names {key!r}, which is not installed here; install it or leave it out"
                ) from None
            continue
        for line in found[key].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(_key(requirement.name))
    return found


def dotted(name: str) -> str:
    """ "numpy/linalg/__init__.py" -> "numpy.linalg"; the module that a file is."""
    parts = name.removesuffix(".pyi").removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _page(name: str, text: str) -> Iterable[tuple[str, int, str]]:
    """A text file, whole; of a METADATA file the description that follows its header."""
    if name.endswith("/METADATA"):
        header, _, body = text.partition("\n\n")
        title = re.search(r"^Name: *(.+)$", header, re.MULTILINE)
        return [(title[1] if title else name, header.count("\n") + 3, body)]
    return [(name, 1, text)]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _docstrings(name: str, data: bytes, dropped: Counter[str]) -> list[tuple[str, int, str]]:
    """(dotted name, line, raw docstring) of everything documented in a Python file; a broken file is counted."""
    with _no_garbage_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        try:
            tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            dropped["not_python"] += 1
            return []
        module = dotted(name)
        found = [*_own(tree, module, 1), *_inside(tree.body, module)]
        if name == "pydoc_data/topics.py":  # the language reference: {topic: text}
            found += _topics(tree)
        return found


def _own(node: ast.AST, title: str, line: int) -> Iterator[tuple[str, int, str]]:
    text = ast.get_docstring(node, clean=False)  # type: ignore[arg-type]
    if text:
        yield title, line, text


def _inside(body: Sequence[ast.stmt], title: str) -> Iterator[tuple[str, int, str]]:
    """Docstrings below module and class level; those of functions inside functions are nobody's documentation."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{title}.{node.name}"
            yield from _own(node, name, node.lineno)
            if isinstance(node, ast.ClassDef):
                yield from _inside(node.body, name)
        elif isinstance(node, ast.If | ast.Try):
            yield from _inside([*node.body, *node.orelse], title)
            for handler in getattr(node, "handlers", ()):
                yield from _inside(handler.body, title)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _handed_over(node.value, title)


def _handed_over(call: ast.Call, title: str) -> Iterator[tuple[str, int, str]]:
    """add_docstr(torch.abs, "..."), add_newdoc("numpy._core", "abs", "..."): the text and what it documents."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if not function.startswith("add_") or "doc" not in function or not call.args:
        return
    names: list[str] = []
    texts: list[str] = []
    for argument in call.args:
        for node in ast.walk(argument):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                (texts if "\n" in node.value or len(node.value) > 60 else names).append(node.value)
    about = ast.unparse(call.args[0]) if not isinstance(call.args[0], ast.Constant) else ".".join(names[:2])
    if texts:
        yield about or title, call.lineno, "\n\n".join(texts)


def _topics(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    yield f"pydoc_data.topics.{key.value!s}", value.lineno, str(value.value)
