"""Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): a block's insides are computed again when they are needed.

Only what goes in and out of every block stays in memory between forward and backward, for about a third more computing.
A block is what a model keeps in a `nn.ModuleList`. The generator's state is put back for the second time, so dropout is
the same and so is every bit of the result.
"""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """The model's blocks forget their insides until `undo`. Raises ValueError if it has none."""

    def __init__(self, model: nn.Module) -> None:
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        inner = {id(part) for one in lists for block in one for part in block.modules() if part is not block}
        self._blocks = [block for one in lists for block in one if id(block) not in inner]
        if not self._blocks:
            raise ValueError(
                f"recompute: {type(model).__name__} keeps no blocks in a ModuleList to compute again; leave it off"
            )
        for block in self._blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def undo(self) -> None:
        for block in self._blocks:
            del block.forward
