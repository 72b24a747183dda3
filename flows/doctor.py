"""`cloze doctor`: what this machine has, what is missing, what to do about it."""

import importlib.metadata
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flows import api
from flows import run as runs
from flows.report import human
from flows.server import health, running
from flows.settings import Settings
from infra import hardware

Line = tuple[Literal["ok", "note", "bad"], str, str]
PACKAGES = ("torch", "ray", "deepspeed", "pyarrow", "tokenizers", "prefect", "s3fs")
NEEDED_BYTES = 5_000_000_000  # a quickstart's store, caches and temporary files, with room


def doctor(args: Namespace) -> int:
    """Print one line a fact; exit 1 if something must be mended."""
    settings = Settings(store=args.store)
    bad = 0
    for verdict, what, text in [*machine(), *software(), *services(settings)]:
        bad += verdict == "bad"
        print(f"{verdict:<5} {what:<12} {text}")
    print("ready: try `cloze run quickstart`" if not bad else f"{bad} to mend, see the lines marked 'bad'")
    return 1 if bad else 0


def machine() -> Iterator[Line]:
    cpu = hardware.processor()
    yield "ok", "cores", f"{hardware.cores()} usable of {os.cpu_count()} ({cpu.name})"
    memory = hardware.memory_bytes()
    enough = memory > 6e9
    yield (
        "ok" if enough else "bad",
        "memory",
        f"{human(memory)}B" + ("" if enough else "; the quickstart needs 6 GB"),
    )
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            yield "ok", "GPU", f"{torch.cuda.get_device_name(i)}, {human(free)}B of {human(total)}B free"
    else:
        yield "note", "GPU", "none that torch can use; training runs on the CPU"
    if cpu.bfloat16 or torch.cuda.is_available():
        yield "ok", "bfloat16", "multiplied in hardware: training uses it"
    else:
        yield "note", "bfloat16", "not multiplied in hardware here: training uses float32, about half as fast"
    if cpu.amd and torch._C.has_mkl:
        yield (
            "note",
            "float32",
            (
                "MKL declines its AVX-512 path on AMD processors (float32 products run at about half speed); bfloat16 does not use MKL"
            ),
        )


def software() -> Iterator[Line]:
    right = sys.version_info >= (3, 11)
    yield (
        "ok" if right else "bad",
        "Python",
        sys.version.split()[0] + ("" if right else "; cloze needs 3.11 or newer"),
    )
    for name in PACKAGES:
        try:
            yield "ok", name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield (
                "bad",
                name,
                "is not installed; run `make install` (or `pip install -c requirements.lock .`)",
            )
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    yield (
        "ok" if compiler else "note",
        "compiler",
        compiler or "no C++ compiler; only DeepSpeed's offload and fused GPU optimizers need one",
    )


def services(settings: Settings) -> Iterator[Line]:
    try:
        store = runs.open_store(settings)
        yield "ok", "store", f"{store.url} ({len(store.folders())} folders)"
        yield _conditional(settings)
    except OSError as error:
        yield "bad", "store", str(error)
    near = next(p for p in [settings.home, *settings.home.parents] if p.exists())
    free = shutil.disk_usage(near).free
    yield (
        "ok" if free > NEEDED_BYTES else "bad",
        "disk",
        f"{human(free)}B free at {near}"
        + (
            "" if free > NEEDED_BYTES else f"; {human(NEEDED_BYTES)}B are needed, free some or set CLOZE_HOME"
        ),
    )
    url = api.served(settings.home)
    yield (
        "ok" if url else "note",
        "Prefect UI",
        url.removesuffix("/api") if url else "not running; `cloze up` starts it",
    )
    state = running(settings)
    if state and health(state["url"]):
        yield "ok", "server", f"{state['url']} answers for {', '.join(state['models'])}"
    else:
        yield "note", "server", "not running; `cloze serve --detach` starts it"
    if not state and api.free_port(8000) != 8000:
        yield "note", "port 8000", "is in use by another program; `cloze serve --port N` takes another"
    if Path("/dev/shm").exists() and (shm := shutil.disk_usage("/dev/shm").total) < 3e8:
        yield "note", "/dev/shm", f"{human(shm)}B is small for Ray, which then uses slower files"


def _conditional(settings: Settings) -> Line:
    """Leases and promotions need a store on which exactly one of two writers wins."""
    probe = runs.open_store(settings).child("names")
    name = f"doctor-{os.getpid()}.tmp"
    try:
        first, second = probe.create(name, b"a"), probe.create(name, b"b")
        _, tag = probe.read_tagged(name)
        swapped, stale = probe.replace(name, b"c", tag), probe.replace(name, b"d", tag)
    finally:
        probe.delete(name)
    if (first, second, swapped, stale) == (True, False, True, False):
        return "ok", "conditions", "exactly one of two writers wins (leases and promotion are safe)"
    return "bad", "conditions", "this store ignores conditional writes; use another, or update its server"
