"""What an optimizer needs to know of whole tensors when its process holds only slices of them.

LAMB's trust ratio and the update clipping of StableAdamW are figures of a whole tensor. ZeRO 1 and 2 hand an optimizer
one flat vector a parameter group, cut without regard to tensors:

    tensors of the group   |----- 0 -----|-- 1 --|-------- 2 --------|
    this process's vector              [-0-|-- 1 --|- 2 -]               fragments: (tensor, start, length)

So sums are taken fragment by fragment and added up over the processes. Without ZeRO every tensor is one fragment.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.optimizers.groupwise import GroupwiseOptimizer


class Fragment(NamedTuple):
    """`length` values of the group's tensor number `tensor`, from `start` in the vector they lie in."""

    tensor: int
    start: int
    length: int


class Layout(NamedTuple):
    """What lies in a process's vector of a group of `tensors`; `add_up` sums a small tensor over processes, in place."""

    tensors: int
    fragments: tuple[Fragment, ...]
    add_up: Callable[[Tensor], object]


class WholeTensorOptimizer(GroupwiseOptimizer):
    """An optimizer with Adam's two moments that may ask for sums over whole tensors."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._layouts: dict[int, Layout] = {}

    def lay_out(self, layouts: Iterable[tuple[Tensor, Layout]]) -> None:
        """Told by the engine: from now on these vectors are what the groups hold."""
        self._layouts = {id(vector): layout for vector, layout in layouts}

    def moments(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor], int]:
        """First and second moments, made on first use, and how many updates this one completes."""
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
        states = [self.state[parameter] for parameter in parameters]
        first, second = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        return first, second, int(states[0]["step"])

    def square_sums(self, parameters: list[Tensor], values: list[Tensor]) -> Tensor:
        """The sum of squares of each whole tensor of the group, where `values` lie as `parameters` do."""
        layout = self._layout(parameters)
        if layout is None:
            return torch.stack(torch._foreach_norm(values)).square_()
        sums = torch.zeros(layout.tensors, dtype=torch.float32, device=values[0].device)
        for fragment in layout.fragments:
            sums[fragment.tensor] += values[0].narrow(0, fragment.start, fragment.length).norm().square()
        layout.add_up(sums)
        return sums

    def sizes(self, parameters: list[Tensor]) -> Tensor:
        """How many values each whole tensor of the group has."""
        layout = self._layout(parameters)
        if layout is None:
            return torch.tensor([float(p.numel()) for p in parameters], device=parameters[0].device)
        counts = torch.zeros(layout.tensors, device=parameters[0].device)
        for fragment in layout.fragments:
            counts[fragment.tensor] += fragment.length
        layout.add_up(counts)
        return counts

    def scale(self, parameters: list[Tensor], values: list[Tensor], factors: Tensor) -> None:
        """Multiply in place each whole tensor's values by its factor."""
        layout = self._layout(parameters)
        if layout is None:
            torch._foreach_mul_(values, list(factors.unbind()))
            return
        for fragment in layout.fragments:
            values[0].narrow(0, fragment.start, fragment.length).mul_(factors[fragment.tensor])

    def _layout(self, parameters: list[Tensor]) -> Layout | None:
        return self._layouts.get(id(parameters[0]))
