"""Ways to run a projected LSTM in both directions over rows of different length: CPU-milliseconds
of forward + backward, one JSON line per shape.

    python tests/benchmarks/bench_lstm.py [--rounds 5] [--threads 1] [--shapes 32x128x32,128x1024x32]

A shape is projection x cells x rows; rows have 6 to 40 tokens. The first three clip (torch's LSTM cannot).
Every round runs all of them in turn; the least time of each is printed, which neighbours disturb least.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from training.models.initialize import generator_for
from training.models.layers.projected_lstm import Packed, ProjectedLSTM, pack

CLIP = 3.0


def by_autograd(layer: ProjectedLSTM, x_KTD: Tensor, packed: Packed) -> Tensor:
    """The same steps, their backward left to torch."""
    gates = torch.baddbmm(layer.bias.view(2, 1, -1), x_KTD, layer.input.transpose(1, 2))
    h = x_KTD.new_zeros(2, len(packed.row_B), layer.projection.shape[1])
    c, out = x_KTD.new_zeros(2, len(packed.row_B), layer.projection.shape[2]), []
    for begin, end in packed.steps:
        rows = end - begin
        step = torch.baddbmm(gates[:, begin:end], h[:, :rows], layer.recurrent.transpose(1, 2))
        g, i, f, o = step.chunk(4, -1)
        c = (f.sigmoid() * c[:, :rows] + i.sigmoid() * g.tanh()).clamp(-CLIP, CLIP)
        h = torch.bmm(o.sigmoid() * c.tanh(), layer.projection.transpose(1, 2)).clamp(-CLIP, CLIP)
        out.append(h)
    return torch.cat(out, 1)


def runs(size: int, cells: int, rows: int) -> dict[str, Callable[[], Tensor]]:
    lengths = torch.randint(6, 41, (rows,))
    packed = pack(torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    layer = ProjectedLSTM(
        input_size=size, cell_size=cells, projection_size=size, cell_clip=CLIP, projection_clip=CLIP
    )
    layer.first_weights(lambda name: generator_for(0, name))
    x_KTD = torch.randn(2, int(lengths.sum()), size, requires_grad=True)
    theirs = nn.LSTM(size, cells, proj_size=size, bidirectional=True)
    sequence = nn.utils.rnn.pack_sequence(
        [torch.randn(n, size, requires_grad=True) for n in lengths.tolist()], enforce_sorted=False
    )
    padded = torch.randn(int(lengths.max()), rows, size, requires_grad=True)

    def ours(bfloat16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return layer(x_KTD, packed)[0].float()

    return {
        "ours": lambda: ours(False),
        "ours_bf16": lambda: ours(True),
        "autograd": lambda: by_autograd(layer, x_KTD, packed),
        "torch_packed": lambda: theirs(sequence)[0].data,
        "torch_padded": lambda: theirs(padded)[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default="32x128x32,128x1024x32,512x4096x16")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
    for shape in asked.shapes.split(","):
        torch.manual_seed(0)
        ways = runs(*map(int, shape.split("x")))
        least = dict.fromkeys(ways, float("inf"))
        for _ in range(asked.rounds + 1):  # the first warms up
            for name, way in ways.items():
                began = time.process_time()
                way().sum().backward(retain_graph=True)
                least[name] = min(least[name], (time.process_time() - began) * 1e3)
        print(
            json.dumps({"shape": shape, **{name: round(value, 1) for name, value in least.items()}}),
            flush=True,
        )


if __name__ == "__main__":
    main()
