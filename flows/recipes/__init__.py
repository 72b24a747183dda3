"""Complete named runs: a Python function returns the whole frozen config; a variant changes a line of another.

Any public function here that is annotated to return a `Recipe` is a recipe; its name with hyphens is what people type.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable

from flows.recipe import Recipe


def recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe by name, sorted."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__ and not name.startswith("_")
            if own and function.__annotations__.get("return") is Recipe:
                found[name.replace("_", "-")] = function
    return dict(sorted(found.items()))


def recipe(name: str) -> Recipe:
    """The complete config of the recipe called `name`. Raises ValueError with the nearest name."""
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        raise ValueError(f"no recipe {name!r}; {hint} (`cloze recipes` describes each)")
    return known[name]()
