"""Correspondences as tables: of modules (tensors follow from them) and of the entries of a config.json.

Our one projection for queries, keys and values is three modules there, so a module of ours has a list of theirs: their
tensors, one below the other, are ours.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.models.initialize import initialize

TheirNames = Callable[[str], list[str]]  # our tensor -> theirs; none: it has no counterpart


def renamed(model: nn.Module, their_names: TheirNames) -> dict[str, Tensor]:
    """A model's tensors by the names there, on the CPU; those without a name stay behind."""
    weights = {}
    for ours, tensor in model.state_dict().items():
        if names := their_names(ours):
            for name, part in zip(names, tensor.chunk(len(names)), strict=True):
                weights[name] = part.detach().cpu().contiguous()
    return weights


def gathered(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    their_names: TheirNames,
    *,
    optional: Collection[str] = (),
    std: float = 0.02,
) -> dict[str, Tensor]:
    """The tensors of `model`, which is on the meta device, by our names: each must be there, in its shape, and no other.

    Modules in `optional` of which no tensor is there are drawn afresh with deviation `std`. Raises ValueError naming
    the first tensor that does not fit.
    """
    for module in optional:
        inner = model.get_submodule(module)
        parts = [name for leaf in inner.state_dict() for name in their_names(f"{module}.{leaf}")]
        if not any(name in tensors for name in parts):
            initialize(inner, seed=0, std=std)
    rest, weights = dict(tensors), {}
    for ours, own in model.state_dict().items():
        if not own.is_meta:
            weights[ours] = own
            continue
        names = their_names(ours)
        shape = (own.shape[0] // len(names), *own.shape[1:])
        for name in names:
            if name not in rest:
                raise ValueError(
                    f"no tensor {name}, {shape}, though its config.json describes one; put the config.json of these weights beside them"
                )
            if tuple(rest[name].shape) != shape:
                raise ValueError(
                    f"tensor {name} is {tuple(rest[name].shape)} here and {shape} by its config.json; "
                    "put the config.json of these weights beside them"
                )
        weights[ours] = torch.cat([rest.pop(name) for name in names])
    if rest:
        name = min(rest)
        raise ValueError(
            f"a tensor {name}, {tuple(rest[name].shape)}, that the network its config.json describes has not; "
            "put the config.json of these weights beside them"
        )
    return weights


def without(
    tensors: Mapping[str, Tensor], *, copies: Mapping[str, str], left_out: Collection[str]
) -> dict[str, Tensor]:
    """All but those `left_out` and those that only repeat another tensor. Raises ValueError where a copy differs.

    safetensors writes one of several tensors that share memory: a copy may be all there is of an original.
    """
    kept = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    for copy, original in copies.items():
        if copy in kept and not torch.equal(value := kept.pop(copy), kept.setdefault(original, value)):
            raise ValueError(f"tensor {copy} differs from {original}; in this family they are one")
    return kept


def read_sizes(facts: Mapping[str, Any], table: Mapping[str, str], source: str) -> dict[str, Any]:
    """The entries that `table` (ours -> theirs) names, by our names. Raises ValueError for one absent or no number."""
    sizes = {}
    for ours, theirs in table.items():
        if theirs not in facts:
            raise ValueError(f"{source} has no {theirs}; put the config.json of these weights beside them")
        value = facts[theirs]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{source} has {theirs} {value!r}; it must be a number")
        sizes[ours] = value
    return sizes


def check_only(facts: Mapping[str, Any], only: Mapping[str, Any], family: str, source: str) -> None:
    """Raises ValueError where a config.json says something else than the one value that our network has."""
    for name, value in only.items():
        if facts.get(name, value) != value:
            raise ValueError(
                f"{source} has {name} {facts[name]!r}; {family} has {value!r}, and its answers would differ"
            )
