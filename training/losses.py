"""What a model's training forward returns: the number to minimise, its parts, and the counts that accuracies
are made of.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Backward starts from `total`, or from parts weighted otherwise (pieces of a global batch). Nothing
    leaves the device.

    Counts are sums over the batch (int64 scalars), so figures of several batches or ranks are added before
    they are divided: accuracy = sum of `<part>_correct` / sum of `<part>_count`.
    """

    total: Tensor  # float32 scalar, the sum of the parts
    parts: dict[
        str, Tensor
    ]  # float32 scalars, differentiable, each a mean over its own `<part>_count` predictions
    counts: dict[str, Tensor]  # "<part>_correct", "<part>_count"
    carried: tuple[
        Tensor, ...
    ] = ()  # detached state for the same rows of the next step (memory, LSTM states); most models have none
