"""Configs as plain JSON: what may name a result, and the digest that names it.

A config is a frozen, keyword-only dataclass. Its plain form keeps class names, because the type of a sub-config is
the choice it makes: `{"PythonDocs": {"share": 1.0}}`. Anything that is not plain JSON is refused here, so a path, a
callable or an array can never slip into a digest and make two equal runs look different.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


def plain(value: Any, where: str = "config") -> Plain:
    """The JSON form of a config. Raises TypeError naming the field (`where.field`) that has none."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}, which has no JSON form; use None to mean 'no limit'")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(
                f"{where} is a {type(value).__name__}, which is not frozen; a config must not change"
            )
        # a field left out of comparison says where something is, not what it is
        named = [f.name for f in dataclasses.fields(value) if f.compare]
        fields = {name: plain(getattr(value, name), f"{where}.{name}") for name in named}
        return {type(value).__name__: fields}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}; keys of a config must be strings")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    instead = (
        "a string in the run's settings, outside the config"
        if isinstance(value, Path)
        else ("numbers, strings, tuples or a frozen dataclass")
    )
    raise TypeError(f"{where} is a {type(value).__name__}, which cannot name a result; use {instead}")


def revived(value: Plain, config: type) -> Any:
    """What `plain` wrote of a `config`, built again: the inverse, where lists of a config are tuples.

    Raises ValueError for a class that is nowhere in the fields of `config` (this code is older or newer than the writer).
    """
    classes = _classes_below(config)

    def made(value: Plain) -> Any:
        if isinstance(value, list):
            return tuple(made(item) for item in value)
        if not isinstance(value, dict):
            return value
        [(name, fields)] = value.items() if len(value) == 1 else [("", value)]
        if name in classes and isinstance(fields, dict):
            return classes[name](**{key: made(item) for key, item in fields.items()})
        raise ValueError(
            f"a config holds a {name or 'mapping'} that {config.__name__} does not know; use the cloze that wrote it"
        )

    return made(value)


def _classes_below(config: type) -> dict[str, type]:
    found: dict[str, type] = {}
    todo: list[Any] = [config]
    while todo:
        hint = todo.pop()
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if hint.__name__ not in found:
                found[hint.__name__] = hint
                hints = get_type_hints(hint)
                todo += [hints[field.name] for field in dataclasses.fields(hint)]
        else:
            todo += get_args(hint)
    return found


def canonical(value: Plain) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Plain) -> str:
    """sha256 of the canonical form, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def flatten(value: Plain, where: str = "") -> dict[str, Plain]:
    """Leaf values by dotted path; class names appear as the value of `path:type`. Used to say which field differs."""
    if isinstance(value, dict):
        if len(value) == 1 and (name := next(iter(value)))[:1].isupper() and isinstance(value[name], dict):
            inner = flatten(value[name], where)
            return {f"{where}:type" if where else ":type": name} | inner
        out: dict[str, Plain] = {}
        for key, item in value.items():
            out |= flatten(item, f"{where}.{key}" if where else key)
        return out
    return {where: value}


def differences(old: Plain, new: Plain) -> list[str]:
    """Lines such as `train.steps: 100 -> 200` for every leaf that differs, in path order."""
    a, b = flatten(old), flatten(new)
    missing = object()
    lines = []
    for path in sorted(a.keys() | b.keys()):
        x, y = a.get(path, missing), b.get(path, missing)
        if x != y:
            show = ["(absent)" if v is missing else json.dumps(v, ensure_ascii=False) for v in (x, y)]
            lines.append(f"{path}: {show[0]} -> {show[1]}")
    return lines
