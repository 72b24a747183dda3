"""AdamW without bias correction, as BERT was trained (`optimization.py`): early steps are up to three times as long.

It is torch's fused AdamW with its step counter where 1 - beta^step is exactly one, so it is as fast as the other; the
ten lines of it in torch operations took 69 instead of 9.8 ms for 20 million parameters.
"""

from typing import Any

import torch

FAR = 1e8  # beta^1e8 is below the smallest double for every beta below 1 - 7.5e-6


class UncorrectedAdamW(torch.optim.AdamW):
    def _init_group(self, group: Any, *lists: Any) -> Any:
        """Called by torch before each update: it makes missing state and gathers the counters, the last of the lists."""
        result = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        for counter in lists[-1]:
            counter.fill_(FAR)
        return result
