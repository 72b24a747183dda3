"""What a chain would do, without doing it: every step, whether it is finished, and why it would run."""

from collections.abc import Callable
from typing import Any

from flows import run as runs
from flows.settings import Settings
from infra.materialize import Plan, explain


def plan_of(work: Callable[[], Any], settings: Settings, name: str) -> list[Plan]:
    """Every step of a chain with its digest, without running any."""
    dry = runs.new_run(settings, name, dry=True)
    with runs.using(dry):
        work()
    return dry.plans


def plan_lines(plans: list[Plan]) -> list[str]:
    """One line a step: would it run, and why."""
    lines = []
    for p in plans:
        done = p.artifact.finished
        why = f"finished {p.artifact.manifest.made.get('at', '')}" if done else explain(p)
        lines.append(f"{'reuse' if done else 'run  '}  {p.artifact.step:<22} {p.artifact.digest[:12]}  {why}")
    left = sum(not p.artifact.finished for p in plans)
    return [
        *lines,
        f"{left} of {len(plans)} steps to run" if left else f"all {len(plans)} steps are finished",
    ]
