"""An out-of-memory says what did not fit and what to try."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OutOfMemory(MemoryError):
    """A piece of the batch does not fit. The message says which size is the next to try."""


@contextmanager
def explained(piece: int) -> Iterator[None]:
    """Turn torch's error into one sentence; `piece` is the micro-batch in sequences."""
    try:
        yield
    except RuntimeError as error:
        # on a CPU torch raises a plain RuntimeError; where the kernel kills the process instead, launch.py says the same
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        smaller = max((size for size in range(1, piece // 2 + 1) if piece % size == 0), default=0)
        advice = (
            f"set micro_batch_size to {smaller}, which keeps {piece // smaller} times less, or recompute to true"
            if smaller
            else "set recompute to true, zero_stage to 2 or 3, or take a smaller model or shorter sequences"
        )
        raise OutOfMemory(
            f"a micro-batch of {piece} sequences does not fit into memory ({str(error).splitlines()[0]}); {advice}"
        ) from error
