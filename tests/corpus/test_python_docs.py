"""Documentation becomes prose: docstrings through ast, pages through their markup, nothing through an import."""

import io
from collections import Counter
from textwrap import dedent

import pytest

from corpus.sources.prose import prose
from corpus.sources.python_docs import PythonDocs, dotted

MODULE = b'''"""A module about
wrapped lines.

    >>> not_prose()
"""
raise RuntimeError("this file was imported")

class Tree:
    """A tree holds leaves. Ask :meth:`~Tree.leaf` for one."""

    def leaf(self, n):
        """Return leaf number ``n`` of the tree.

        Parameters
        ----------
        n : int
            Which of the leaves to return.

        Returns:
            The leaf that was asked for.
        """
        def inner():
            """This is nobody's documentation at all."""

try:
    import fast
except ImportError:
    def slow():
        """Do the same thing slowly instead."""

add_newdoc("pkg.core", "sum", """
Return the sum of all the elements.
""")
'''


def documents(name: str, data: bytes) -> tuple[list[tuple[str, int, str]], Counter[str]]:
    dropped: Counter[str] = Counter()
    found = PythonDocs().documents(name, io.BytesIO(data), dropped)
    return [(d.title, d.position, d.text) for d in found], dropped


def test_every_documented_object_becomes_a_document_with_its_dotted_name_and_line() -> None:
    found, dropped = documents("pkg/trees.py", MODULE)
    assert found == [
        ("pkg.trees", 1, "A module about wrapped lines."),
        ("pkg.trees.Tree", 8, "A tree holds leaves. Ask Tree.leaf for one."),
        (
            "pkg.trees.Tree.leaf",
            11,
            "Return leaf number n of the tree.\nWhich of the leaves to return.\nThe leaf that was asked for.",
        ),
        ("pkg.trees.slow", 28, "Do the same thing slowly instead."),
        ("pkg.core.sum", 31, "Return the sum of all the elements."),
    ]
    assert not dropped


def test_a_broken_python_file_is_counted_and_costs_nothing_else() -> None:
    assert documents("pkg/bad.py", b'"""Fine words here."""\ndef broken(:\n') == ([], Counter(not_python=1))
    assert documents("pkg/nul.py", b'"""Fine\0words here."""\n') == ([], Counter(not_python=1))


def test_a_file_without_docstrings_is_counted_and_not_parsed() -> None:
    assert documents("pkg/plain.py", b"def broken(:\n") == ([], Counter(no_docstring=1))
    assert documents("pkg/code.py", b'"""\n>>> 1 + 1\n"""\n') == ([], Counter(no_prose=1))


def test_the_description_of_a_package_is_read_from_its_metadata() -> None:
    data = b"Metadata-Version: 2.1\nName: Trees\nVersion: 1\n\n# Trees\n\nTrees are graphs\nwithout cycles.\n"
    found, _ = documents("trees-1.dist-info/METADATA", data)
    assert found == [("Trees", 5, "Trees are graphs without cycles.")]


def test_pages_follow_the_policy_for_encodings() -> None:
    assert documents("a/x.rst", b" \n")[1] == Counter(empty=1)
    assert documents("a/x.md", b"caf\xe9 \xe9t\xe9")[1] == Counter(not_utf8=1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            "Some text\ngoes on.\n\n* an item that\n  is wrapped\n* another item here",
            "Some text goes on.\nan item that is wrapped\nanother item here",
        ),
        ("See the code::\n\n    x = 1\n    y = 2\n\nMore of the text.", "See the code:\nMore of the text."),
        (
            ".. note:: Mind the gap here.\n   It is wide.\n\n.. code-block:: python\n\n   x = 1\n\nThe end of it.",
            "Mind the gap here. It is wide.\nThe end of it.",
        ),
        ("Title\n=====\n\nWords of a paragraph.", "Words of a paragraph."),
        (
            "# Title\n\nWords of a [linked](http://x.org) paragraph.\n\n```\ncode = 1\n```\n",
            "Words of a linked paragraph.",
        ),
        (
            "=== ===\na   b\n=== ===\n1   2\n=== ===\n\nAfter the table comes text.",
            "After the table comes text.",
        ),
        ("| a | b |\n|---|---|\n\nText follows the table.", "Text follows the table."),
        (
            ":param int x: the number of items\n:type y: str\n:returns: a list of all",
            "the number of items\na list of all",
        ),
        (
            "Do it all.\n\nArgs:\n    x (int): the first of the\n        two numbers\n    y: the second of them",
            "Do it all.\nthe first of the two numbers\nthe second of them",
        ),
        (
            "Ask :func:`a.look` and :class:`the class <a.C>` **now** or later, says `someone`_ [1]_.",
            "Ask a.look and the class now or later, says someone.",
        ),
        (
            "Keep names like snake_case and the star in 2 * 3 exactly as they are written.",
            "Keep names like snake_case and the star in 2 * 3 exactly as they are written.",
        ),
        ("> Quoted words stay as they are.", "Quoted words stay as they are."),
        ("x = f(y)[0] + {z}", ""),
        ("", ""),
    ],
)
def test_prose_is_what_a_person_would_read_aloud(raw: str, expected: str) -> None:
    assert prose(raw) == expected


def test_names_are_dotted() -> None:
    assert dotted("numpy/linalg/__init__.py") == "numpy.linalg"
    assert dotted("six.py") == "six"
    assert dotted("__init__.pyi") == "__init__"


def test_the_corpus_is_what_the_named_distributions_need_and_nothing_else() -> None:
    roots = {root for root, *_ in PythonDocs(distributions=("pydantic",), standard_library=False).files()}
    assert {"pydantic", "pydantic-core", "typing-extensions"} <= roots
    assert not roots & {"torch", "pytest", "stdlib"}


def test_files_are_found_again_and_boilerplate_and_tests_are_left_out() -> None:
    source = PythonDocs(distributions=("numpy",))
    files = list(source.files())
    assert len(files) == len({(root, name) for root, name, *_ in files})
    for root, name, size, _ in files[::100]:
        with source.open(root, name) as stream:
            assert len(stream.read()) == size
    with pytest.raises(FileNotFoundError):
        source.open("numpy", "numpy/no_such_file.py")
    with pytest.raises(FileNotFoundError, match="no-such-thing is not installed here"):
        source.open("no-such-thing", "x.py")
    names = {name for _, name, *_ in files}
    assert {"json/decoder.py", "numpy/linalg/_linalg.py"} <= names
    assert not [
        n
        for n in names
        if "/tests/" in n or "LICENSE" in n or "site-packages" in n or n.endswith("top_level.txt")
    ]


def test_a_distribution_that_is_not_installed_is_one_sentence() -> None:
    with pytest.raises(
        ValueError, match="'no-such-thing', which is not installed here; install it or leave it out"
    ):
        list(PythonDocs(distributions=("no_such_thing",), standard_library=False).files())
    with pytest.raises(ValueError, match="nothing is left to read"):
        PythonDocs(distributions=(), standard_library=False)


def test_the_language_reference_is_read_from_its_dictionary() -> None:
    data = dedent('''
        topics = {"assert": """
        Assert statements are a convenient
        way to insert assertions.
        """}
        ''').encode()
    found, _ = documents("pydoc_data/topics.py", data + b'\n"""not the docstring"""\n')
    assert [(t, x) for t, _, x in found] == [
        ("pydoc_data.topics.assert", "Assert statements are a convenient way to insert assertions.")
    ]
