"""The house's own rules: imports point down, each heavy library has one home, files stay small, the README's tree is true."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "infra",
    "corpus",
    "training",
    "serving",
    "flows",
)  # each may import only from those before it, and itself

HOMES = {
    "prefect": ("flows/",),
    "deepspeed": ("training/engine.py",),
    "ray.serve": ("serving/app.py",),
    "ray": ("training/launch.py", "infra/ray_cluster.py", "serving/app.py"),
    "botocore": ("infra/s3.py",),
    "tokenizers": ("corpus/wordpiece/", "corpus/vocabulary/"),
    "sentencepiece": ("corpus/vocabulary/unigram_train.py",),
    "zstandard": ("corpus/sources/compression.py",),
    "resiliparse": ("corpus/sources/html_pages.py",),
    "warcio": ("corpus/sources/warc.py",),
    "mwparserfromhell": ("corpus/sources/wikitext.py",),
    "ftfy": ("corpus/clean.py",),
    "phonenumbers": ("corpus/pii.py",),
    "py3langid": ("corpus/language.py",),
    "rjieba": ("corpus/segmenters/",),
    "opencc": ("corpus/segmenters/",),
    "sudachipy": ("corpus/segmenters/",),
    "icu4py": ("corpus/segmenters/",),
}
NOT_IN = {
    "torch": ("corpus/", "infra/folder", "infra/s3.py", "infra/storage.py"),
    "transformers": tuple(f"{room}/" for room in ROOMS),
}


def sources() -> list[Path]:
    return sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole path"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, library: str) -> bool:
    return module == library or module.startswith(library + ".")


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_the_rules(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    room = name.split("/")[0]
    below = ROOMS[: ROOMS.index(room) + 1]
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in ROOMS or top in below, (
            f"{name} imports {module}: imports point down only ({' <- '.join(ROOMS)})"
        )
        assert top != "tests", f"{name} imports {module}"
        for library, homes in HOMES.items():
            if within(module, library):
                assert name.startswith(homes), f"{name} imports {module}, whose home is {' and '.join(homes)}"
        for library, places in NOT_IN.items():
            if within(module, library):
                assert not name.startswith(places), f"{name} imports {module}, which does not belong there"
    lines = path.read_text().count("\n")
    assert lines <= 400, f"{name} has {lines} lines: split it by what changes together"
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name} does not say what it is"


def test_the_readme_names_every_file_and_no_other() -> None:
    tree = re.search(r"```\ncloze/\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree, "README.md has no tree that begins with `cloze/`"
    named, folders = set(), []
    for line in tree[1].splitlines():
        match = re.match(r"((?:    )*)(\S+)", line)
        if not match:
            continue
        depth, entry = len(match[1]) // 4, match[2]
        folders[depth:] = [entry] if entry.endswith("/") else []
        if entry.endswith(".py"):
            named.add("".join(folders[:depth]) + entry)
    real = {
        str(p.relative_to(ROOT)) for p in sources() if p.name != "__init__.py" or p.parent.name == "recipes"
    }
    real = {r for r in real if not r.endswith("__init__.py")}
    assert named == real, f"in the tree only: {sorted(named - real)}; missing there: {sorted(real - named)}"
