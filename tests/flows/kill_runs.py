"""Kill a whole run again and again, at random moments and in random processes, and compare with an undisturbed run.

    python tests/flows/kill_runs.py --kills 30 [--recipe quickstart-small] [--seed 0] [--undisturbed STORE]

Each round starts `cloze run`, waits until the run has come as far as this kill's share of all its steps and then a random
time, picks a process of its tree at random (the flow, a Ray worker, the raylet, the trainer, Prefect's server) and sends it
SIGKILL; a run that survives its loss goes on. When the kills are used up the run is let finish. Then every artifact of both stores must have the same content digest, byte for byte, and a last run must
find nothing to do. Prints one JSON line a kill and one at the end; exits 1 on any difference.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def children(pid: int) -> list[int]:
    """Every live descendant of `pid`."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    out, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        out += below
        todo += below
    return out


def name_of(pid: int) -> str:
    """A short name of the process for the log."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    text = " ".join(words)
    for mark in (
        "ray::",
        "raylet",
        "gcs_server",
        "prefect",
        "training.child",
        "flows serve",
        "flows run",
        "cloze",
    ):
        if mark in text:
            return mark
    return Path(words[0]).name[:20]


def start(recipe: str, home: Path, command: str = "run", **environment: str) -> "subprocess.Popen[bytes]":
    """Begin `cloze COMMAND RECIPE` with its store in `home`, or where the environment says."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows", command, recipe],
            cwd=ROOT,
            env={**os.environ, "CLOZE_HOME": str(home), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def contents(store: Path) -> dict[str, str]:
    """step/digest -> content digest of every finished artifact."""
    return {
        f"{m.parent.parent.name}/{m.parent.name}": json.loads(m.read_text())["content"]
        for m in store.glob("*/*/manifest.json")
    }


def disturb(
    recipe: str,
    home: Path,
    kills: int,
    rng: random.Random,
    longest: float,
    command: str = "run",
    artifacts: int = 0,
) -> int:
    """Run to the end through `kills` kills, spread over its `artifacts`; returns how often the command was given."""
    starts, done = 0, 0
    while True:
        process = start(recipe, home, command)
        starts += 1
        while process.poll() is None and done < kills:
            due = artifacts * done // kills
            while process.poll() is None and len(contents(home / "store")) < due:
                time.sleep(0.1)
            end = time.monotonic() + rng.uniform(0.0, longest)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            if process.poll() is not None:
                break
            kinds: dict[str, list[int]] = {"flow": [process.pid]}
            for child in children(process.pid):
                kinds.setdefault(name_of(child), []).append(child)
            what = rng.choice(sorted(kinds))  # a kind first: most processes are Ray's idle workers
            victim = rng.choice(kinds[what])
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            done += 1
            print(
                json.dumps({"kill": done, "process": what, "finished": len(contents(home / "store"))}),
                flush=True,
            )
            if victim == process.pid:
                break
        if process.wait() == 0 and (done >= kills or starts > kills):
            return starts
        if process.returncode == 0:  # finished early: everything is there, nothing left to disturb
            return starts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--recipe", default="quickstart-small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=10.0, help="longest random wait before a kill, seconds"
    )
    parser.add_argument("--undisturbed", type=Path, help="the store of a finished run of the same recipe")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="cloze-kills-"))
    homes = {name: base / name for name in ("undisturbed", "disturbed")}
    for home in homes.values():
        home.mkdir()
    try:
        store = args.undisturbed
        if store is None:
            store = homes["undisturbed"] / "store"
            if start(args.recipe, homes["undisturbed"]).wait() != 0:
                print((homes["undisturbed"] / "log").read_text()[-3000:])
                return 1
        expected = contents(store)
        starts = disturb(
            args.recipe,
            homes["disturbed"],
            args.kills,
            random.Random(args.seed),
            args.longest,
            artifacts=len(expected),
        )
        found = contents(homes["disturbed"] / "store")
        differ = sorted(a for a in expected.keys() | found.keys() if expected.get(a) != found.get(a))
        print(
            json.dumps(
                {"kills": args.kills, "starts": starts, "artifacts": len(expected), "different": differ}
            )
        )
        return 1 if differ else 0
    finally:
        for home in homes.values():
            stop = [sys.executable, "-m", "flows", "serve", "--stop"]
            subprocess.run(
                stop, cwd=ROOT, env={**os.environ, "CLOZE_HOME": str(home)}, capture_output=True, check=False
            )
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
