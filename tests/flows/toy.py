"""A two-step pipeline for tests of the shell: no text, no model."""

from dataclasses import dataclass, field

from flows.step import chain, step
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    numbers: int = 3
    fail: bool = False


@dataclass(frozen=True, kw_only=True)
class ToyRecipe:
    name: str = "toy"
    write: WriteConfig = field(default_factory=WriteConfig)


def write_one(number: int, *, out: PartitionOutput) -> Counts:
    out.write(f"{out.id}.txt", f"{number}\n".encode())
    return {"numbers": 1}


def write_numbers(config: WriteConfig, *, out: Output) -> Counts:
    if config.fail:
        raise ValueError("fail is true; set it to false")
    out.report.note("about to write")
    out.report.metrics(1, {"loss": 2.0})
    out.report.metrics(2, {"loss": 1.0})
    counts = out.map(write_one, {f"n{i}": i for i in range(config.numbers)})
    return {"numbers": len(counts)}


def add_numbers(config: WriteConfig, *, numbers: Artifact, out: Output) -> Counts:
    total = sum(int(numbers.read(name)) for name in numbers.names("n"))
    out.write_json("sum.json", total)
    return {"sum": total}


write_step = step(write_numbers)
add_step = step(add_numbers)


@chain
def toy_numbers(recipe: ToyRecipe) -> Artifact:
    """The inner station."""
    return write_step(recipe.write)


@chain
def toy(recipe: ToyRecipe) -> Artifact:
    """The whole."""
    return add_step(recipe.write, numbers=toy_numbers(recipe))
