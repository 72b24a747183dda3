"""Few shapes on a CPU in bfloat16: oneDNN compiles a kernel for every new one, and batches of real text are all new.

A compilation takes about a millisecond. The 2 x 128 network of the quickstart meets some twenty new products a step
when each batch has its own number of tokens and of targets: 97 ms a step, of which 77 remain with attention's tiles
rounded and 56 to 60 with these rows rounded too (tests/benchmarks/bench_train_step.py compares whole steps). Filler
rows are zeros behind the last token; nothing reads them, so they change no result and no gradient. In float32, where
nothing is compiled, and on a GPU there are none.

Letters: `T` rows of a matrix (tokens or targets), `D` its columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST = 128  # rows from which on it pays


def round_up(length: int, *, per_octave: int, least: int) -> int:
    """The next of `per_octave` lengths per power of two, all of them multiples of `least`."""
    unit = max(least, (1 << (length - 1).bit_length()) // (2 * per_octave))
    return -(-length // unit) * unit


def filler_rows(rows: int, kind: str) -> int:
    """How many rows of zeros to compute with `rows` real ones on a device of this kind: one in 24 on average."""
    if kind != "cpu" or rows < FEWEST or not torch.is_autocast_enabled("cpu"):
        return 0
    return round_up(rows, per_octave=8, least=16) - rows


def with_filler(x_TD: Tensor) -> Tensor:
    """The rows, then filler."""
    count = filler_rows(len(x_TD), x_TD.device.type)
    return F.pad(x_TD, (0, 0, 0, count)) if count else x_TD
