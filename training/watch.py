"""What a running training says of itself, and what it measured: seconds may differ between equal runs, results may not.

    matrix FLOP/s = 6 x parameters in matrices x tokens / seconds      MFU = that / the accelerator's peak

Six because every weight of a matrix costs a multiplication and an addition forward and twice as many backward (Kaplan et
al. 2020, section 2.1). Tables that are only looked up are not counted, nor are attention's own products and a vocabulary
head tied to such a table, so the figure is a floor: 4 % below at BERT-base with 15 % predicted at length 128.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from infra.report import Report
from training.history import SKIPPED, History

PEAKS = {  # dense bfloat16 FLOP/s, from NVIDIA's data sheets, by a part of the device's name
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


def matrix_parameters(model: nn.Module) -> int:
    """How many weights are multiplied with every token."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in looked_up)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """What the accelerator could do at best; None where we do not know it (a CPU, another precision, another name)."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


@dataclass(frozen=True)
class Meter:
    """Turns tokens and seconds into rates."""

    flops_per_token: int  # 6 x parameters in matrices
    peak_flops: float | None  # of all processes together

    def rates(self, tokens: float, seconds: float) -> dict[str, float]:
        rate = tokens / max(1e-9, seconds)
        flops = self.flops_per_token * rate
        known = {} if self.peak_flops is None else {"mfu": flops / self.peak_flops}
        return {"tokens_per_second": rate, "matrix_flops_per_second": flops, **known}


class Watch:
    """Reports at most every `every_seconds` and after the last step."""

    def __init__(self, report: Report, meter: Meter, *, done: int, every_seconds: float) -> None:
        self._report, self._meter, self._every = report, meter, every_seconds
        self._last, self._last_done, self._last_waited, self._last_paused = time.monotonic(), done, 0.0, 0.0

    def note(self, message: str) -> None:
        self._report.note(message)

    def step(self, history: History, steps: int, *, waited: float, paused: float) -> None:
        """`steps` in all; `waited` and `paused`: seconds spent so far on waiting for batches and for checkpoints."""
        now, done = time.monotonic(), len(history)
        if now - self._last < self._every and done < steps:
            return
        seconds = max(1e-9, now - self._last)
        figures = {name: values[-1] for name, values in history.columns.items() if name != SKIPPED}
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        rates = self._meter.rates(sum(history["tokens"][self._last_done :]), seconds)
        shown = {name: figures[name] for name in ("loss",) if name in figures}
        shown |= {name: rates[name] for name in ("tokens_per_second", "mfu") if name in rates}
        shown["loader_wait_share"] = (waited - self._last_waited) / seconds
        if paused > self._last_paused:
            shown["checkpoint_pause_seconds"] = paused - self._last_paused
        self._report.progress(done, steps, "steps", **shown)
        self._report.metrics(done, figures)
        self._last, self._last_done, self._last_waited, self._last_paused = now, done, waited, paused

    def held_out(self, row: Mapping[str, float]) -> None:
        """A measurement, `step` among its figures."""
        figures = {f"held_out_{n}": v for n, v in row.items() if n != "step" and math.isfinite(v)}
        self._report.metrics(int(row["step"]), figures)

    def gone_back(self, done: int, message: str) -> None:
        """The history was cut to `done` steps."""
        self._report.note(message)
        self._last_done = min(self._last_done, done)
