"""First weights as a pure function of (seed, parameter name): no global generator, no order of construction.

A weight therefore does not change when another part of the model does: a fine-tuning head starts equally
whether the encoder under it is fresh or pretrained, and so does an encoder under another head.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn


def initialize(model: nn.Module, *, seed: int, std: float) -> None:
    """Truncated normal (cut at two deviations) for every matrix, zero for biases, one and zero for LayerNorm
    (BERT, `modeling.py`).

    Models are built on the meta device, so torch's own initialisation neither costs time nor draws from the
    global generator; memory is taken here.
    """
    model.to_empty(device="cpu")
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                truncated_normal(parameter, std=std, generator=generator_for(seed, f"{path}.{name}"))
            else:
                nn.init.constant_(parameter, float(isinstance(module, nn.LayerNorm) and name == "weight"))


def initialize_normal(model: nn.Module, *, seed: int, std: float | Callable[[str], float]) -> None:
    """The same with normal numbers that are not cut (fairseq, `init_bert_params`; GPT); `std` may depend on the module's path."""
    model.to_empty(device="cpu")
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                width = std(path) if callable(std) else std
                nn.init.normal_(parameter, std=width, generator=generator_for(seed, f"{path}.{name}"))
            else:
                nn.init.constant_(parameter, float(isinstance(module, nn.LayerNorm) and name == "weight"))


def truncated_normal(parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std, generator=generator)


def generator_for(seed: int, name: str) -> torch.Generator:
    key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)
