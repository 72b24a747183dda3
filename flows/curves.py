"""`cloze compare RUN RUN ...`: the training curves of several runs laid over each other, by what they cost.

Runs of other batch sizes, lengths or machines do not compare by steps: sequences, tokens of text and seconds do. Seconds
are tokens over the run's measured rate, since the clock is no part of a result.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from infra.artifacts import Artifact

LOSSES = "losses.arrow"
SMOOTH = 50  # a curve's points: means of so many stretches of steps
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run: a figure of every step, and what the run had consumed after it."""

    name: str
    figure: Floats
    steps: Floats
    samples: Floats
    tokens: Floats
    seconds: Floats | None  # None: its rate was not measured

    def by(self, cost: str) -> Floats:
        """Raises ValueError if the cost is not known of this run."""
        found: Floats | None = getattr(self, cost)
        if found is None:
            raise ValueError(f"{self.name} has no measured rate, so not by seconds; compare by tokens")
        return found


def read_curve(artifact: Artifact, figure: str) -> Curve:
    """The curve of a training step's artifact. Raises ValueError if it has none, or not this figure."""
    import pyarrow as pa

    if LOSSES not in artifact.names():
        raise ValueError(
            f"{artifact.short} has no {LOSSES}; give results of the steps pretrain or finetune (`cloze runs`)"
        )
    with pa.memory_map(str(artifact.path(LOSSES))) as source:
        table = pa.ipc.open_file(source).read_all()
    if figure not in table.column_names:
        raise ValueError(f"{artifact.short} has no figure {figure!r}; it has {', '.join(table.column_names)}")
    tokens = np.cumsum(table["tokens"].to_numpy().astype(np.float64))
    steps = np.arange(1, len(table) + 1, dtype=np.float64)
    per_step = artifact.counts.get("sequences", 0) / max(1, artifact.counts["steps"])
    rate = artifact.manifest.made["measured"].get("tokens_per_second", 0.0)
    return Curve(
        name=artifact.short,
        figure=table[figure].to_numpy().astype(np.float64),
        steps=steps,
        samples=steps * per_step,
        tokens=tokens,
        seconds=tokens / rate if rate else None,
    )


def smooth(values: Floats, places: Floats, points: int = SMOOTH) -> tuple[Floats, Floats]:
    """(places, means) of `points` stretches of equal length; fewer values stay as they are."""
    if len(values) <= points:
        return places, values
    edges = np.linspace(0, len(values), points + 1).astype(int)
    return (
        np.array([places[end - 1] for end in edges[1:]]),
        np.array([values[a:b].mean() for a, b in itertools.pairwise(edges)]),
    )


def figure_png(curves: list[Curve], figure: str, cost: str) -> bytes:
    """The curves as one picture."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(picture)
    axis = picture.subplots()
    for curve in curves:
        places, means = smooth(curve.figure, curve.by(cost))
        axis.plot(places, means, label=curve.name)
    axis.set(xlabel=cost, ylabel=figure)
    axis.grid(alpha=0.3)
    axis.legend()
    out = BytesIO()
    picture.savefig(out, format="png", dpi=110)
    return out.getvalue()


def compare(args: Namespace) -> int:
    """`cloze compare`: a table, and the picture in `--out`."""
    from flows import run as runs
    from flows.corpus_terminal import table, terminal
    from flows.settings import Settings
    from flows.show import locate

    store = runs.open_store(Settings(store=args.store))
    curves = [read_curve(locate(store, name), args.figure) for name in args.runs]
    rows = []
    for curve in curves:
        last = float(smooth(curve.figure, curve.steps)[1][-1])
        seconds = None if curve.seconds is None else round(float(curve.seconds[-1]))
        rows.append(
            [curve.name, len(curve.steps), int(curve.samples[-1]), int(curve.tokens[-1]), seconds, last]
        )
    columns = ["steps", "sequences", "tokens", "seconds", f"last {args.figure}"]
    terminal().print(table("run", columns, rows))
    path = Path(args.out)
    path.write_bytes(figure_png(curves, args.figure, args.by))
    print(f"{args.figure} by {args.by}: {path}")
    return 0
