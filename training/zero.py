"""What differs between the stages of ZeRO: where weights and moments lie, what their gradient norm is, how a step is dropped.

    stage 0     parameters are whole, and so is the optimizer's state of each
    stage 1, 2  parameters are whole; the optimizer's state lies in flat vectors, a slice a process (optimizers/whole_tensors.py)
    stage 3     every parameter is cut into as many slices as there are processes, its state likewise

The engine sees whole tensors everywhere, so any stage and any number of processes goes on from what any other wrote.
DeepSpeed has no public way to drop a step or to read moments by group (0.19.8), so its own fields are used here, and
nowhere else; tests/training/test_engine.py would notice a version that names them otherwise.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from training.optimizers.whole_tensors import Fragment, Layout


class Stage(ABC):
    """One engine's parameters and optimizer state. `trained` are the parameters that get gradients."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, trained: list[nn.Parameter]) -> None:
        self.engine, self.optimizer, self.trained = engine, optimizer, trained

    @abstractmethod
    def norm(self) -> Tensor:
        """Of the gradients of all trained parameters; NaN if it is not finite. To be asked once a step, after backward."""

    @abstractmethod
    def clip(self, most: float, norm: Tensor) -> None:
        """Scale the gradients down, where DeepSpeed's step does not do it by itself."""

    @abstractmethod
    def drop(self) -> None:
        """End the step without an update."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole tensor. Every rank must ask."""
        return parameter.detach()

    @abstractmethod
    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state of a parameter, in whole tensors; none before the first update. Every rank must ask."""

    @abstractmethod
    def begin(self, keys: Iterable[str], updates: int) -> None:
        """Make room for moments called `keys`, to be filled in."""

    @abstractmethod
    def fill(self, parameter: nn.Parameter, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Put whole tensors where they belong."""

    def layouts(self) -> Iterator[tuple[Tensor, Layout]]:
        """Where whole tensors lie in the vectors that the optimizer is given; nothing if it is given whole tensors."""
        return iter(())


class Whole(Stage):
    """Stage 0."""

    def norm(self) -> Tensor:
        for parameter in self.trained:
            if (
                parameter.grad is None
            ):  # other stages and several processes have no missing gradients: weight decays there
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients, foreach=True)

    def clip(self, most: float, norm: Tensor) -> None:
        torch.nn.utils.clip_grads_with_norm_(self.trained, most, norm, foreach=True)

    def drop(self) -> None:
        self.engine.zero_grad()
        self.engine.micro_steps += 1

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return {k: v for k, v in self.optimizer.state.get(parameter, {}).items() if k != "step"}

    def begin(self, keys: Iterable[str], updates: int) -> None:
        self.optimizer.state.clear()
        self._counter = float(updates)

    def fill(self, parameter: nn.Parameter, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        parameter.copy_(weight)
        if moments:
            step = torch.tensor(self._counter, device=parameter.device)
            kept = {key: value.to(parameter.device, copy=True) for key, value in moments.items()}
            self.optimizer.state[parameter] = {"step": step, **kept}


class Sliced(Stage):
    """Stages 1 and 2."""

    @property
    def zero(self) -> Any:
        return self.engine.optimizer

    @property
    def vectors(self) -> list[Tensor]:
        """What the optimizer is given: one a group."""
        found: list[Tensor] = self.zero.single_partition_of_fp32_groups
        return found

    def norm(self) -> Tensor:
        return _nan_if_negative(torch.as_tensor(self.zero.scaled_global_norm()))

    def clip(self, most: float, norm: Tensor) -> None:
        """DeepSpeed's step does."""

    def drop(self) -> None:
        def found(**_: object) -> None:
            self.zero.overflow = True

        with ExitStack() as stack:
            stack.enter_context(_replaced(self.zero, "check_grad_overflow", True))
            stack.enter_context(_replaced(self.zero, "check_overflow", found))
            self.engine.step()  # which clears everything that belongs to the step

    def moments(
        self, parameter: Any
    ) -> dict[str, Tensor]:  # a parameter to which DeepSpeed has added methods
        if not hasattr(parameter, "_hp_mapping"):  # it is not trained
            return {}
        self._link()
        return {key: parameter.get_full_hp_param(key) for key in _keys(self.optimizer, self.vectors)}

    def begin(self, keys: Iterable[str], updates: int) -> None:
        _make_room(self.optimizer, self.vectors, keys, updates)
        self.zero._hp_optimizer_states_linked = False
        self._link()

    def fill(self, parameter: Any, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        parameter.copy_(weight)
        if hasattr(parameter, "_hp_mapping"):
            parameter.set_full_hp_param(weight.to(parameter.device))
            for key, value in moments.items():
                parameter.set_full_hp_param(value.to(parameter.device), key)

    def layouts(self) -> Iterator[tuple[Tensor, Layout]]:
        for group, flat in zip(self.zero.bit16_groups, self.vectors, strict=True):
            places = [(number, p._hp_mapping) for number, p in enumerate(group)]
            fragments = tuple(
                Fragment(number, place.hp_fragment_address.start, place.hp_fragment_address.numel)
                for number, place in places
                if place is not None
            )
            yield flat, Layout(len(group), fragments, self._add_up)

    def _add_up(self, sums: Tensor) -> None:
        """By way of the device: with offloaded state the sums are on the CPU, where NCCL has no business."""
        there = sums.to(self.engine.device)
        torch.distributed.all_reduce(there)
        sums.copy_(there)

    def _link(self) -> None:
        """Map the vectors of moments to parameters. By itself DeepSpeed does so only for the first group (0.19.8)."""
        if all(self.optimizer.state.get(flat) for flat in self.vectors):
            self.zero._hp_optimizer_states_linked = False
            self.zero._lazy_init_hp_params_optimizer_state()


class Partitioned(Stage):
    """Stage 3. A parameter's slices are padded to equal sizes."""

    @property
    def zero(self) -> Any:
        return self.engine.optimizer

    @property
    def vectors(self) -> list[Tensor]:
        found: list[Tensor] = self.zero.fp32_partitioned_groups_flat
        return found

    def norm(self) -> Tensor:
        norms = torch.stack([torch.as_tensor(n).to(self.engine.device) for n in self.zero._get_norm_groups()])
        return torch.where(norms.min() < 0, math.nan, norms.float().norm())

    def clip(self, most: float, norm: Tensor) -> None:
        """DeepSpeed's step does."""

    def drop(self) -> None:
        def found(update_scale: bool = True) -> None:
            self.zero.overflow = True

        with _replaced(self.zero, "_overflow_check_and_loss_scale_update", found):
            self.engine.step()

    def weight(self, parameter: Any) -> Tensor:
        whole: Tensor = self.zero.get_full_hp_param(parameter)
        return whole

    def moments(self, parameter: Any) -> dict[str, Tensor]:
        keys = _keys(self.optimizer, self.vectors)
        return {key: self.zero.get_full_hp_param(parameter, key) for key in keys}

    def begin(self, keys: Iterable[str], updates: int) -> None:
        _make_room(self.optimizer, self.vectors, keys, updates)

    def fill(self, parameter: Any, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        for key, value in [(None, weight), *moments.items()]:
            place = self.zero._get_fp32_opt_state_partition(parameter, False, key)[0]
            place.copy_(self._own_slice(parameter, value))
        parameter.ds_tensor.copy_(self._own_slice(parameter, weight))
        if parameter.numel() == parameter.ds_numel:  # small ones stay whole between steps
            parameter.copy_(weight)

    def _own_slice(self, parameter: Any, value: Tensor) -> Tensor:
        size, rank = parameter.ds_tensor.numel(), self.zero._get_param_partition_rank(parameter)
        own = value.flatten()[size * rank : size * (rank + 1)]
        return nn.functional.pad(own, (0, size - own.numel()))


STAGES: tuple[type[Stage], ...] = (Whole, Sliced, Sliced, Partitioned)


def check_stage(stage: int, offload: bool, whole_tensors: bool) -> None:
    """Raise ValueError for what does not go together. `whole_tensors`: the optimizer asks for figures of them."""
    if stage not in range(len(STAGES)):
        raise ValueError(f"zero_stage {stage}: stages 0, 1, 2 and 3 are supported")
    if offload and not stage:
        raise ValueError(
            "offload: only ZeRO can keep the optimizer's state on the CPU; set zero_stage to 1, 2 or 3"
        )
    if stage == 3 and whole_tensors:
        raise ValueError(
            "zero_stage 3: this optimizer needs figures of whole tensors, which no process holds there; use stage 0, 1 or 2"
        )


def make_whole(model: nn.Module, weights: Mapping[int, Tensor]) -> None:
    """New parameters in place of those that stage 3 cut up, by the old one's id; what was shared stays shared."""
    fresh = {key: nn.Parameter(weight) for key, weight in weights.items()}
    for module in model.modules():
        module._parameters = {
            name: None if parameter is None else fresh[id(parameter)]
            for name, parameter in module._parameters.items()
        }


def _keys(optimizer: torch.optim.Optimizer, vectors: list[Tensor]) -> list[str]:
    return [key for key in optimizer.state.get(vectors[0], {}) if key != "step"]


def _make_room(
    optimizer: torch.optim.Optimizer, vectors: list[Tensor], keys: Iterable[str], updates: int
) -> None:
    optimizer.state.clear()
    for flat in vectors if keys else ():
        fresh = {key: torch.zeros_like(flat, requires_grad=False) for key in keys}
        optimizer.state[flat] = {"step": torch.tensor(float(updates), device=flat.device), **fresh}


def _nan_if_negative(norm: Tensor) -> Tensor:
    """DeepSpeed says -1 for a norm that is not finite."""
    return torch.where(norm < 0, math.nan, norm)


@contextmanager
def _replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of one instance, for the length of the block."""
    own = name in vars(thing)
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own:
            setattr(thing, name, before)
        else:
            delattr(thing, name)
