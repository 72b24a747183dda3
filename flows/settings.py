"""Where and how a run works; none of it ever names a result.

CLOZE_HOME     what belongs to this machine (Prefect's database, server state, caches)   .cloze
CLOZE_STORE    where results are kept: a folder or s3://bucket/prefix                    <home>/store
CLOZE_RAY      address of a Ray cluster to use instead of a local one
CLOZE_WORKERS  training processes; more than 1 trains on Ray workers                     1
"""

import os
from dataclasses import dataclass, field
from pathlib import Path


def _home() -> Path:
    return Path(os.environ.get("CLOZE_HOME", ".cloze")).absolute()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Read when it is made, never at import."""

    home: Path = field(default_factory=_home)
    store: str = ""
    ray_address: str | None = field(default_factory=lambda: os.environ.get("CLOZE_RAY") or None)
    workers: int = field(default_factory=lambda: int(os.environ.get("CLOZE_WORKERS", "1")))

    def __post_init__(self) -> None:
        store = self.store or os.environ.get("CLOZE_STORE") or str(self.home / "store")
        if "://" not in store:
            store = str(Path(store).absolute())
        object.__setattr__(self, "store", store)
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; at least one training process is needed")
