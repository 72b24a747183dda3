"""What an engine is made of between two steps, as plain tensors: what a checkpoint holds.

What a model carries from step to step (memory, LSTM states) belongs to numbered pieces of the batch, and each piece to
one process, which hands it to the first when a checkpoint is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import safetensors.torch
import torch
import torch.distributed
from torch import Tensor

Carried = dict[int, tuple[Tensor, ...]]  # piece number -> what it hands to the same piece of the next step


@dataclass(frozen=True, kw_only=True)
class State:
    """Tensors on the CPU that training does not write to. `updates` changed the weights."""

    weights: Mapping[str, Tensor]  # by parameter name
    moments: Mapping[str, Tensor]  # "<parameter>/<key>"
    carried: Mapping[str, Tensor] = field(default_factory=dict)  # "<piece>/<number>"
    updates: int = 0


def carried_by_name(carried: Carried) -> dict[str, Tensor]:
    """Copies on the CPU."""
    return {
        f"{piece}/{number}": tensor.detach().to("cpu", copy=True).contiguous()
        for piece, tensors in carried.items()
        for number, tensor in enumerate(tensors)
    }


def carried_of(named: Mapping[str, Tensor], pieces: range, device: torch.device) -> Carried:
    """What belongs to these pieces, back in order."""
    found: dict[int, dict[int, Tensor]] = {}
    for name, tensor in named.items():
        piece, number = map(int, name.split("/"))
        if piece in pieces:
            found.setdefault(piece, {})[number] = tensor.to(device, copy=True)
    return {piece: tuple(tensors[n] for n in sorted(tensors)) for piece, tensors in found.items()}


def gathered(named: dict[str, Tensor], rank: int, world_size: int, device: torch.device) -> dict[str, Tensor]:
    """The tensors of all processes, on the first; the others keep theirs. They travel as safetensors, not as pickles."""
    if world_size == 1:
        return named
    data = safetensors.torch.save(named) if rank and named else b""
    sizes = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(world_size)]
    torch.distributed.all_gather(sizes, torch.tensor(len(data), device=device))
    if rank:
        if data:
            torch.distributed.send(torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device), 0)
        return named
    for sender, size in enumerate(int(size) for size in sizes):
        if size:
            received = torch.empty(size, dtype=torch.uint8, device=device)
            torch.distributed.recv(received, sender)
            named |= safetensors.torch.load(received.cpu().numpy().tobytes())
    return named
