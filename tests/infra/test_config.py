"""What may name a result, and what must not."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.config import differences, digest_of, flatten, plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.15


@dataclass(frozen=True, kw_only=True)
class Other:
    rate: float = 0.15


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner | Other = field(default_factory=Inner)
    names: tuple[str, ...] = ("a",)
    folder: str = field(default="/here", compare=False)


def test_class_names_are_part_of_a_config() -> None:
    assert plain(Outer()) == {"Outer": {"inner": {"Inner": {"rate": 0.15}}, "names": ["a"]}}
    assert digest_of(plain(Outer())) != digest_of(plain(Outer(inner=Other())))


def test_where_something_is_does_not_name_a_result() -> None:
    assert plain(Outer(folder="/there")) == plain(Outer())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"p": Path("/x")}, r"config\.p is a PosixPath, .* use a string in the run's settings"),
        ({"f": print}, r"config\.f is a builtin_function_or_method"),
        ({"s": {1}}, r"config\.s is a set"),
        ([1.0, float("nan")], r"config\[1\] is nan"),
        ({1: "x"}, r"the key 1; keys of a config must be strings"),
    ],
)
def test_what_is_not_plain_is_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plain(value)


def test_differences_name_the_path_of_the_field_that_differs() -> None:
    old, new = plain(Outer()), plain(Outer(inner=Other(rate=0.3), names=("a", "b")))
    assert differences(old, new) == [
        "inner.rate: 0.15 -> 0.3",
        'inner:type: "Inner" -> "Other"',
        'names: ["a"] -> ["a", "b"]',
    ]
    assert flatten(old) == {":type": "Outer", "inner:type": "Inner", "inner.rate": 0.15, "names": ["a"]}
