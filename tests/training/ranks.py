"""Several processes in one gloo group that run the same function: more than one rank without starting Ray."""

import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Ranks:
    """Started once, used for many calls."""

    def __init__(self, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cloze-ranks-")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "WORLD_SIZE": str(count),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }
        self._ranks = [
            subprocess.Popen(
                [sys.executable, "-c", "from tests.training.ranks import main; main()", self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(count)
        ]

    def __call__(self, function: Any, *arguments: Any) -> list[Any]:
        """What `function(*arguments)` returns on every rank. Raises AssertionError with a rank's traceback."""
        for rank in self._ranks:
            pickle.dump((function, arguments), rank.stdin)
            rank.stdin.flush()
        answers = [pickle.load(rank.stdout) for rank in self._ranks]
        for failed, answer in answers:
            assert not failed, answer
        return [answer for _, answer in answers]

    def close(self) -> None:
        for rank in self._ranks:
            rank.stdin.close()
        for rank in self._ranks:
            rank.wait()
            rank.stdout.close()
        self._folder.cleanup()


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not meet the answers
    import torch.distributed

    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{sys.argv[1]}/group",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = False, function(*arguments)
        except Exception:
            answer = True, traceback.format_exc()
        pickle.dump(answer, out)
        out.flush()
    os._exit(0)
