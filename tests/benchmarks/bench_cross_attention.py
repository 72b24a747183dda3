"""Ways to attend from one flat stream to another on a CPU, side by side: one JSON line per figure, CPU-milliseconds of
forward + backward.

    python tests/benchmarks/bench_cross_attention.py [--rounds 9] [--heads 4] [--dropouts 0,0.1]

All take queries (T, N, 64) and keys with values (S, 2, N, 64) and give (T, N, 64). Every round runs all of them in turn;
the least time of each is printed, which neighbours disturb least.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.layers.cross_attention import attend_across, attend_across_padded, find_cross_spans

SIZE = 64
Lengths = list[int]
Attention = Callable[[Tensor, Tensor, Lengths, Lengths, float], Tensor]


def tiles(q: Tensor, kv: Tensor, lengths: Lengths, there: Lengths, dropout: float) -> Tensor:
    return attend_across(q, kv, _spans(lengths, there), dropout)


def one_padded_batch(q: Tensor, kv: Tensor, lengths: Lengths, there: Lengths, dropout: float) -> Tensor:
    return attend_across_padded(q, kv, _spans(lengths, there), dropout)


def each_alone(q: Tensor, kv: Tensor, lengths: Lengths, there: Lengths, dropout: float) -> Tensor:
    rows = []
    for one, other in zip(q.split(lengths), kv.split(there), strict=True):
        k, v = other.permute(1, 2, 0, 3).unsqueeze(1).unbind()
        mixed = F.scaled_dot_product_attention(one.transpose(0, 1)[None], k, v, dropout_p=dropout)
        rows.append(mixed.squeeze(0).transpose(0, 1))
    return torch.cat(rows)


def _spans(lengths: Lengths, there: Lengths):
    edges, edges_there = (torch.tensor([0, *side]).cumsum(0).int() for side in (lengths, there))
    return find_cross_spans(edges, max(lengths), edges_there, max(there))


WAYS: dict[str, Attention] = {
    "one padded batch, SDPA": one_padded_batch,
    "each sequence alone, SDPA": each_alone,
    "tiles (ours)": tiles,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropouts", default="0,0.1")
    given = parser.parse_args()
    torch.set_num_threads(1)
    noise = np.random.default_rng(0)
    mixed = noise.integers(5, 129, 32)
    shapes = {  # BART's source is shorter than its target; MASS's target is half its source
        "32 x 5..128, source 0.8": (mixed.tolist(), np.maximum(1, mixed * 8 // 10).tolist()),
        "32 x 5..128, target 0.5": (np.maximum(1, mixed // 2).tolist(), mixed.tolist()),
        "32 x 128": ([128] * 32, [128] * 32),
        "8 x 512": ([512] * 8, [512] * 8),
    }
    for shape, (lengths, there) in shapes.items():
        for dtype in (torch.float32, torch.bfloat16):
            q = torch.randn(sum(lengths), given.heads, SIZE).to(dtype)
            kv = torch.randn(sum(there), 2, given.heads, SIZE).to(dtype)
            grad = torch.randn_like(q)
            for dropout in map(float, given.dropouts.split(",")):
                least = dict.fromkeys(WAYS, float("inf"))
                for _ in range(given.rounds):
                    for name, way in WAYS.items():
                        leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
                        began = time.process_time()
                        way(*leaves, lengths, there, dropout).backward(grad)
                        least[name] = min(least[name], 1000 * (time.process_time() - began))
                for name, found in least.items():
                    figure = {"shape": shape, "dtype": str(dtype).removeprefix("torch."), "dropout": dropout}
                    print(json.dumps({**figure, "way": name, "cpu_ms": round(found, 2)}), flush=True)


if __name__ == "__main__":
    main()
