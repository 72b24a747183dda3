"""Configs from outside: `--set train.steps=1000`, a YAML file, the form in the Prefect UI.

Every value is validated by pydantic against the field's own type, and the dataclass checks itself on construction. An
unknown or bad field is refused with its full path, the value, the rule and the nearest valid name.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import core_schema

T = TypeVar("T")


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[x, y]"]` -> {"a.b": 1, "c": ["x", "y"]}; values are YAML."""
    out = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not path.strip():
            raise ValueError(
                f"--set {pair!r} is not PATH=VALUE; write for example --set pretrain.train.steps=1000"
            )
        try:
            out[path.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"--set {path}: {text!r} is not a YAML value ({reason})") from None
    return out


def read_yaml(path: Path) -> tuple[str, dict[str, Any]]:
    """A recipe file: `recipe: NAME` and the fields it changes. Returns the name and the nested changes."""
    try:
        body = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(
            f"no file {path}; give the name of a recipe (`cloze recipes`) or a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict) or not isinstance(body.get("recipe"), str):
        raise ValueError(f"{path} must be a mapping with `recipe: NAME` and the fields it changes")
    name = body.pop("recipe")
    return name, body


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as nested mappings, merged; of two settings of one field the later counts."""
    out: dict[str, Any] = {}
    for path, value in changes.items():
        *above, last = path.split(".")
        inner = out
        for name in above:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        if isinstance(value, Mapping):
            value = nested(value)
            if isinstance(inner.get(last), dict):
                value = merge(inner[last], value)
        inner[last] = value
    return out


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` over `base`, field by field."""
    out = dict(base)
    for name, value in more.items():
        both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
        out[name] = merge(out[name], value) if both else value
    return out


def change(config: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A copy of `config` with fields replaced; keys may be dotted paths, values may be nested mappings.

    All changes are made before anything is checked, so fields that must agree can be changed together.
    """
    values = {}
    for name, value in nested(changes).items():
        here = f"{where}.{name}" if where else name
        values[name] = _changed(config, name, value, where, here)
    try:
        return dataclasses.replace(config, **values)  # type: ignore[type-var]
    except ValueError as error:
        if not where:
            raise
        given = (
            ", ".join(f"{where}.{name} = {changes[name]!r}" for name in values if name in changes) or where
        )
        raise ValueError(f"{given}: {error}") from None


def _changed(config: Any, name: str, value: Any, where: str, here: str) -> Any:
    fields = {f.name for f in dataclasses.fields(config)}
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
        hint = f"did you mean {(where + '.' if where else '') + near[0]}?" if near else ""
        known = f"{type(config).__name__} has {', '.join(sorted(fields))}"
        shown = "" if isinstance(value, dict) else f" = {value!r}"
        raise ValueError(f"{here}{shown}: there is no field {name!r}; {hint or known}")
    current = getattr(config, name)
    hint = typing.get_type_hints(type(config))[name]
    if isinstance(value, dict) and not any(map(dataclasses.is_dataclass, _members(hint))):
        inner = next(iter(value), "")
        raise ValueError(f"{here} is {current!r}, which has no field {inner!r}; set {here} itself")
    return _convert(hint, value, current, here)


def _convert(hint: Any, value: Any, current: Any, where: str) -> Any:
    classes: list[Any] = [c for c in _members(hint) if dataclasses.is_dataclass(c)]
    if classes and isinstance(value, Mapping):
        body = dict(value)
        choice = _choice(classes, body, current, where)
        return change(current, body, where) if isinstance(current, choice) else _made(choice, body, where)
    if typing.get_origin(hint) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        item, *rest = typing.get_args(hint)
        if rest == [...] and any(map(dataclasses.is_dataclass, _members(item))):
            return tuple(_convert(item, one, None, f"{where}[{i}]") for i, one in enumerate(value))
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = "".join(f"[{p}]" for p in first["loc"] if isinstance(p, int))
        raise ValueError(f"{where}{at} = {value!r}: {first['msg'][0].lower() + first['msg'][1:]}") from None


def _choice(classes: Sequence[Any], body: dict[str, Any], current: Any, where: str) -> Any:
    """The class that `type` names; without it the current one, or the only one that has all the fields."""
    names = ", ".join(c.__name__ for c in classes)
    if (wanted := body.pop("type", None)) is not None:
        choice = {c.__name__: c for c in classes}.get(wanted)
        if choice is None:
            raise ValueError(f"{where}.type = {wanted!r}: must be one of {names}")
        return choice
    if dataclasses.is_dataclass(current):  # a number stands there too, where a schedule may
        return type(current)
    fit = [c for c in classes if set(body) <= {f.name for f in dataclasses.fields(c)}]
    if len(fit) != 1 and len(classes) > 1:
        raise ValueError(f"{where} = {body!r}: say which it is, type: one of {names}")
    return fit[0] if fit else classes[0]


def _made(choice: Any, body: Mapping[str, Any], where: str) -> Any:
    """A new one, from its defaults where it has them."""
    try:
        base = choice()
    except TypeError:
        needed = [
            f.name
            for f in dataclasses.fields(choice)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing := [name for name in needed if name not in body]:
            raise ValueError(f"{where}: {choice.__name__} needs {', '.join(missing)}") from None
        hints = typing.get_type_hints(choice)
        first = {name: _convert(hints[name], body[name], None, f"{where}.{name}") for name in needed}
        base = choice(**first)
    return change(base, body, where)


def _members(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return [m for part in typing.get_args(hint) for m in _members(part)]
    return [hint]


def strict(cls: type) -> None:
    """Make pydantic refuse unknown fields in this dataclass and in every dataclass below it (the UI's forms)."""
    if not dataclasses.is_dataclass(cls) or "__pydantic_config__" in cls.__dict__:
        return
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    for hint in typing.get_type_hints(cls).values():
        for part in _walk(hint):
            choices = [c for c in _members(part) if dataclasses.is_dataclass(c)]
            for choice in choices if len(choices) > 1 else ():
                _say_type(choice)
            if isinstance(part, type):
                strict(part)


def _say_type(cls: Any) -> None:
    """Let the JSON form of a class that is one of several say which it is: `type`, as in YAML files."""
    if "__get_pydantic_core_schema__" in cls.__dict__:
        return

    def check(value: Any) -> Any:
        if isinstance(value, dict) and "type" in value:
            if value["type"] != cls.__name__:
                raise ValueError(f"type is {value['type']!r}, not {cls.__name__!r}")
            return {name: inner for name, inner in value.items() if name != "type"}
        return value

    def dump(value: Any, inner: Any) -> Any:
        return {"type": cls.__name__, **inner(value)}

    def core(source: Any, handler: Any) -> Any:
        named = core_schema.wrap_serializer_function_ser_schema(dump)
        return core_schema.no_info_before_validator_function(check, handler(source), serialization=named)

    def described(schema: Any, handler: Any) -> Any:
        described = handler.resolve_ref_schema(handler(schema["schema"]))
        type_field = {"type": "string", "enum": [cls.__name__], "default": cls.__name__, "title": "Type"}
        described["properties"] = {"type": type_field, **described.get("properties", {})}
        return described

    cls.__get_pydantic_core_schema__ = core
    cls.__get_pydantic_json_schema__ = described


def _walk(hint: Any) -> list[Any]:
    return [hint] + [p for a in typing.get_args(hint) for p in _walk(a)]
