"""A training process that is a child of this one: what kills it does not kill us, and it never outlives us.

It dies with us (PR_SET_PDEATHSIG), so there is never a second writer; it gets its job as a pickle on standard input and
answers in JSON lines through a pipe of its own; what libraries print goes to the debug log.
"""

import ctypes
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from training.events import Event, perform

PR_SET_PDEATHSIG = 1
# How long an idle OpenMP thread spins before it sleeps: a compromise. BERT-mini on two cores, tokens/s: 1,000 spins 5,240, 30,000
# 6,340, 100,000 7,000, libgomp's default (300,000) 6,830, but that falls to 630 beside busy processes, 1,000 to 3,280 only.
SPINS = "30000"

log = logging.getLogger("cloze.training")


def run_child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    *,
    threads: int,
    hide_gpus: bool,
    listener: Callable[[Event], None],
) -> tuple[int, str]:
    """Run one child to its end; its exit code (negative: the signal) and the last line it printed."""
    job = pickle.dumps((os.getpid(), threads, function, arguments))
    reading, writing = os.pipe()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(threads),
        # the rounded shapes of a training need some hundred kernels (models/layers/shapes.py); 1024 (the default) held 1 GB
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256"),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS),
        **({"CUDA_VISIBLE_DEVICES": ""} if hide_gpus else {}),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", f"from training.child import main; main({writing})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        env=environment,
    )
    os.close(writing)
    last_words: deque[str] = deque(maxlen=1)
    assert child.stdin is not None
    assert child.stdout is not None
    output = threading.Thread(target=_collect, args=(child.stdout, last_words), daemon=True)
    output.start()
    try:
        with os.fdopen(reading, "r", encoding="utf-8") as events:
            try:
                with child.stdin:
                    child.stdin.write(job)
            except BrokenPipeError:
                pass  # it died before it read its job; the exit code tells
            for line in events:
                if line.endswith("\n"):  # a killed child may leave half an event
                    listener(json.loads(line))
        child.wait()
    finally:
        child.kill()
        child.wait()
        output.join()
        child.stdout.close()
    return child.returncode, "".join(last_words)


def _collect(stream: Any, last_words: "deque[str]") -> None:
    """What libraries print goes to the debug log."""
    for line in stream:
        if text := line.decode(errors="replace").rstrip():
            log.debug("%s", text)
            last_words.append(text)


def main(pipe: int) -> None:
    """The child's main: bound to its parent's life, deaf to the terminal's Ctrl-C (the parent decides)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent, threads, function, arguments = pickle.load(sys.stdin.buffer)
    if os.getppid() != parent:  # it died before we asked to die with it
        os._exit(1)
    set_threads(threads)
    lock = threading.Lock()

    def send(event: Event) -> None:
        data = (json.dumps(event) + "\n").encode()
        with lock:
            while data:
                data = data[os.write(pipe, data) :]

    succeeded = perform(function, arguments, send)
    sys.stdout.flush()
    os._exit(0 if succeeded else 1)  # nothing left to do: threads of libraries may not want to end


def set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
