"""Configs from outside: validated by type, refused with path, value, rule and the nearest name."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from flows.overrides import change, parse_settings, read_yaml, strict


@dataclass(frozen=True, kw_only=True)
class Linear:
    pass


@dataclass(frozen=True, kw_only=True)
class Cosine:
    cycles: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Train:
    steps: int = 10
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    decay: Linear | Cosine = field(default_factory=Linear)
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least one is needed")


@dataclass(frozen=True, kw_only=True)
class Whole:
    train: Train = field(default_factory=Train)
    name: str = "x"


def test_dotted_paths_and_nested_mappings_are_the_same() -> None:
    by_path = change(
        Whole(), parse_settings(["train.steps=20", "train.learning_rate=1e-4", "train.clip_norm=null"])
    )
    nested = change(Whole(), {"train": {"steps": 20, "learning_rate": 1e-4, "clip_norm": None}})
    assert by_path == nested == Whole(train=Train(steps=20, learning_rate=1e-4, clip_norm=None))


@dataclass(frozen=True, kw_only=True)
class Equal:
    left: Train = field(default_factory=Train)
    right: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        if self.left.steps != self.right.steps:
            raise ValueError("left.steps and right.steps must be equal")


def test_fields_that_must_agree_are_changed_together() -> None:
    changed = change(Equal(), {"left.steps": 3, "right": {"steps": 3}})
    assert changed.left.steps == changed.right.steps == 3
    with pytest.raises(ValueError, match=r"^left\.steps and right\.steps must be equal$"):
        change(Equal(), {"left.steps": 3})


def test_the_type_of_a_part_is_the_choice() -> None:
    assert change(Whole(), {"train.decay": {"type": "Cosine", "cycles": 2}}).train.decay == Cosine(cycles=2.0)
    with pytest.raises(ValueError, match=r"train\.decay\.type = 'Cosin': must be one of Linear, Cosine"):
        change(Whole(), {"train": {"decay": {"type": "Cosin"}}})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.step=5", r"train\.step = 5: there is no field 'step'; did you mean train\.steps\?"),
        ("trein.steps=5", r"trein: there is no field 'trein'; did you mean train\?"),
        ("train.steps=many", r"train\.steps = 'many': input should be a valid integer"),
        ("train.steps=0", r"train\.steps = 0: steps is 0; at least one is needed"),
        ("train.betas=[0.9, x]", r"train\.betas\[1\] = .*: input should be a valid number"),
        ("train.steps.more=1", r"train\.steps is 10, which has no field 'more'"),
        ("zzz=1", r"zzz = 1: there is no field 'zzz'; Whole has name, train"),
    ],
)
def test_a_bad_field_is_refused_in_one_sentence(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(Whole(), parse_settings([setting]))


def test_a_setting_needs_a_path_and_a_value() -> None:
    with pytest.raises(ValueError, match="is not PATH=VALUE"):
        parse_settings(["train.steps"])
    with pytest.raises(ValueError, match="is not a YAML value"):
        parse_settings(["a=[1"])


def test_a_yaml_file_names_a_recipe_and_its_changes(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: quickstart\ntrain: {steps: 3}\n")
    assert read_yaml(file) == ("quickstart", {"train": {"steps": 3}})
    file.write_text("train: {steps: 3}\n")
    with pytest.raises(ValueError, match="must be a mapping with `recipe: NAME`"):
        read_yaml(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not readable YAML"):
        read_yaml(file)
    with pytest.raises(ValueError, match="no file"):
        read_yaml(tmp_path / "absent.yaml")


def test_a_form_refuses_unknown_fields_at_every_depth() -> None:
    strict(Whole)
    with pytest.raises(ValidationError, match="step"):
        TypeAdapter(Whole).validate_python({"train": {"step": 5}})
    assert TypeAdapter(Whole).validate_python({"train": {"steps": 5}}) == Whole(train=Train(steps=5))


@dataclass(frozen=True, kw_only=True)
class Lines:
    folder: str
    field: str = "text"


@dataclass(frozen=True, kw_only=True)
class Pages:
    folder: str


@dataclass(frozen=True, kw_only=True)
class Reader:
    sources: tuple[Lines | Pages, ...] = ()


def test_a_list_of_choices_says_which_each_is_where_fields_do_not() -> None:
    given = [{"type": "Pages", "folder": "web"}, {"folder": "notes", "field": "body"}]
    made = change(Reader(), {"sources": given})
    assert made.sources == (Pages(folder="web"), Lines(folder="notes", field="body"))
    for bad, message in (
        ([{"folder": "x"}], r"sources\[0\] = .*say which it is, type: one of Lines, Pages"),
        ([{"type": "Page", "folder": "x"}], r"sources\[0\]\.type = 'Page': must be one of Lines, Pages"),
        ([{"type": "Pages"}], r"sources\[0\]: Pages needs folder"),
        ([{"type": "Pages", "folder": 3}], r"sources\[0\]\.folder = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            change(Reader(), {"sources": bad})
