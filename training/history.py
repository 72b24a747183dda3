"""The figures of every step, from step 0: what losses.arrow holds, and what a guard looks back on."""

from collections.abc import Mapping

import pyarrow as pa

SKIPPED = "skipped"  # 1 for a step that was refused and changed nothing, else 0

HeldOutFigures = list[
    dict[str, float]
]  # rows of "step" (how many were done) and figures, of which "loss" is compared


class History:
    """The figures of every step since step 0, one column a figure. The first step decides the names."""

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self.columns: dict[str, list[float]] = dict(columns or {})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def append(self, figures: Mapping[str, float]) -> None:
        if not self.columns:
            self.columns = {name: [] for name in figures}
        for name, values in self.columns.items():
            values.append(float(figures[name]))

    def __getitem__(self, name: str) -> list[float]:
        return self.columns[name]

    def copy(self) -> "History":
        return History({name: list(values) for name, values in self.columns.items()})

    def taken(self, name: str, count: int) -> list[float]:
        """The figures of the last `count` steps that changed the weights, or of all there are; newest first."""
        found: list[float] = []
        for step in range(len(self) - 1, -1, -1):
            if len(found) == count:
                break
            if not self.columns[SKIPPED][step]:
                found.append(self.columns[name][step])
        return found

    def refused_in_a_row(self) -> int:
        """How many steps were refused since the last that was taken."""
        count = 0
        for skipped in reversed(self.columns.get(SKIPPED, [])):
            if not skipped:
                break
            count += 1
        return count

    def to_table(self) -> pa.Table:
        steps = pa.array(range(len(self)), pa.int64())
        return pa.table({"step": steps, **{k: pa.array(v, pa.float64()) for k, v in self.columns.items()}})

    @staticmethod
    def from_table(table: pa.Table) -> "History":
        return History({name: table[name].to_pylist() for name in table.column_names if name != "step"})
