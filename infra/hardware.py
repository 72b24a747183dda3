"""What this machine has: cores (as the cgroup allows), memory, accelerator, fast number formats.

`os.cpu_count()` counts the host's cores, not ours: a container with 2 of 64 cores that starts 64 threads runs slower
than with 2, so every thread count in cloze comes from `cores()`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = CGROUP) -> int:
    """Cores this process may use: the least of its affinity mask and its cgroup's CPU quota (v2, then v1)."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(allowed, quota) if quota else allowed)


def _quota(cgroup: Path) -> int | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else max(1, round(int(limit) / int(period)))
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
        return None if limit_us <= 0 else max(1, round(limit_us / period_us))
    except (OSError, ValueError):
        return None


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Memory this process may use: the least of the machine's and the cgroup's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return min(total, int((cgroup / name).read_text()))
        except (OSError, ValueError):
            continue
    return total


@dataclass(frozen=True, kw_only=True)
class Processor:
    """name as the kernel gives it, and whether it multiplies bfloat16 in hardware."""

    name: str
    bfloat16: bool
    amd: bool


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """Read from /proc/cpuinfo; unknown processors count as having no bfloat16."""
    try:
        lines = cpuinfo.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return Processor(name="unknown", bfloat16=False, amd=False)
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    fast = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    name = fields.get("model name", "unknown")
    return Processor(name=name, bfloat16=fast, amd="AMD" in fields.get("vendor_id", "") + name)


def device() -> str:
    """`cuda` where torch can use one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision() -> Literal["float32", "bfloat16"]:
    """The fastest safe training precision here: bfloat16 where the hardware multiplies it, else float32."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if processor().bfloat16 else "float32"
