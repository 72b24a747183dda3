"""Ways to attend over a flat stream on a CPU, side by side: one JSON line per figure, CPU-milliseconds of
forward + backward.

    python tests/benchmarks/bench_attention.py [--rounds 9] [--threads 1] [--heads 4] [--dropouts 0,0.1]

All take the projected stream (T, 3, N, 64) and give (T, N, 64), so what each spends on gathering and padding
is counted. Every round runs all of them in turn; the least time of each is printed, which neighbours disturb
least.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.layers.attention import attend, attend_padded, find_spans

SIZE = 64
Attention = Callable[[Tensor, list[int], float], Tensor]


def tiles(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    return attend(qkv, _spans(lengths), dropout)


def one_padded_batch(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    return attend_padded(qkv, _spans(lengths), dropout)


def each_alone(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    rows = []
    for part in qkv.split(lengths):
        q, k, v = part.permute(1, 2, 0, 3).unsqueeze(1).unbind()
        rows.append(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).squeeze(0).transpose(0, 1))
    return torch.cat(rows)


def equal_lengths(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    """One unpadded batch for each length that occurs."""
    groups = [np.flatnonzero(np.array(lengths) == length) for length in sorted(set(lengths))]
    return _grouped(qkv, lengths, dropout, groups)


def sorted_padded(qkv: Tensor, lengths: list[int], dropout: float, size: int) -> Tensor:
    """Sorted by length, `size` sequences at a time padded to their longest."""
    order = np.argsort(lengths, kind="stable")
    return _grouped(qkv, lengths, dropout, np.split(order, range(size, len(order), size)))


def _grouped(qkv: Tensor, lengths: list[int], dropout: float, groups: list[np.ndarray]) -> Tensor:
    offsets, rows, places = np.cumsum([0, *lengths]), [], []
    for group in groups:
        own = np.array(lengths)[group]
        real_BL = np.arange(own.max()) < own[:, None]
        index_BL = np.where(real_BL, offsets[group][:, None] + np.arange(own.max()), 0)
        q, k, v = qkv[torch.from_numpy(index_BL)].permute(2, 0, 3, 1, 4).unbind()
        real = torch.from_numpy(real_BL)
        mask = None if real_BL.all() else real[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)
        rows.append(mixed[real])
        places.append(index_BL[real_BL])
    place = torch.from_numpy(np.concatenate(places))
    return torch.cat(rows)[torch.argsort(place)]


def _spans(lengths: list[int]):
    return find_spans(torch.tensor([0, *lengths]).cumsum(0).int(), max(lengths))


WAYS: dict[str, Attention] = {
    "one padded batch, SDPA": one_padded_batch,
    "sorted, padded by 8, SDPA": partial(sorted_padded, size=8),
    "sorted, padded by 4, SDPA": partial(sorted_padded, size=4),
    "groups of equal length, SDPA": equal_lengths,
    "each sequence alone, SDPA": each_alone,
    "tiles (ours)": tiles,
}


def milliseconds(way: Attention, qkv: Tensor, lengths: list[int], dropout: float, grad: Tensor) -> float:
    qkv = qkv.clone().requires_grad_()
    began = time.process_time()
    way(qkv, lengths, dropout).backward(grad)
    return 1000 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropouts", default="0,0.1")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    noise = np.random.default_rng(0)
    shapes = {
        "32 x 5..128": noise.integers(5, 129, 32).tolist(),
        "32 x about 25": np.clip(noise.lognormal(3.1, 0.6, 32), 4, 128).astype(int).tolist(),
        "32 x 128": [128] * 32,
        "8 x 512": [512] * 8,
    }
    for shape, lengths in shapes.items():
        for dtype in (torch.float32, torch.bfloat16):
            qkv = torch.randn(sum(lengths), 3, given.heads, SIZE).to(dtype)
            grad = torch.randn(sum(lengths), given.heads, SIZE).to(dtype)
            for dropout in map(float, given.dropouts.split(",")):
                times: dict[str, list[float]] = {name: [] for name in WAYS}
                for _ in range(given.rounds):
                    for name, way in WAYS.items():
                        times[name].append(milliseconds(way, qkv, lengths, dropout, grad))
                for name, values in times.items():
                    line = {
                        "bench": "attention",
                        "figure": f"{shape} {str(dtype).removeprefix('torch.')} dropout {dropout}",
                        "way": name,
                        "metric": "cpu_ms",
                        "value": round(min(values), 1),
                        "ratio": round(min(values) / min(times["tiles (ours)"]), 2),
                        "n": given.rounds,
                        "threads": given.threads,
                        "load1": round(os.getloadavg()[0], 1),
                    }
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
