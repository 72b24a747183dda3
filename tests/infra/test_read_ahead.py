"""Files arrive in order, fetched and verified ahead, over a line that breaks and through a cache that is too small."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from infra import artifacts, download_cache, read_ahead, s3
from infra.artifacts import Artifact, CorruptFile, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder, StoreUnreachable
from tests.infra.s3_server import FaultProxy

SIZE, COUNT = 100_000, 12
NAMES = [f"f{n:02d}.bin" for n in range(COUNT)]


def content(n: int) -> bytes:
    return bytes([n]) * SIZE


def write_files(config: int, *, out: Output) -> Counts:
    for n in range(config):
        out.write(NAMES[n], content(n))
    return {}


@pytest.fixture
def made(store: Folder) -> Artifact:
    """A finished result of which this machine has no copies."""
    artifact = run_step(write_files, COUNT, store=store)
    empty_cache()
    return Artifact(store, artifact.step, artifact.digest)


@pytest.fixture
def remote(s3_store: Folder) -> Artifact:
    artifact = run_step(write_files, COUNT, store=s3_store)
    empty_cache()
    return Artifact(s3_store, artifact.step, artifact.digest)


def copies() -> dict[str, int]:
    found = {}
    for path in download_cache.directory().glob("[!.]*"):
        with suppress(FileNotFoundError):  # removed while we look
            found[path.name[-7:]] = path.stat().st_size
    return found


def empty_cache() -> None:
    if "CLOZE_CACHE" in os.environ:
        for path in Path(os.environ["CLOZE_CACHE"]).glob("*"):
            path.unlink()


def for_each(files: Iterator[tuple[str, Path]], use: Callable[[str], object]) -> None:
    for name, _ in files:
        use(name)


def until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_files_come_in_the_order_asked_for(made: Artifact) -> None:
    order = [7, 0, 11, 3, 3, 5]
    found = list(read_ahead.read_ahead(made, [NAMES[n] for n in order]))
    assert [name for name, _ in found] == [NAMES[n] for n in order]
    assert [path.read_bytes() for _, path in found] == [content(n) for n in order]
    assert list(read_ahead.read_ahead(made, [])) == []


def test_an_endless_order_is_only_asked_for_what_comes_next(made: Artifact) -> None:
    asked = []

    def endless() -> Iterator[str]:
        while True:
            asked.append(NAMES[len(asked) % COUNT])
            yield asked[-1]

    reader = read_ahead.read_ahead(made, endless(), ahead=3)
    for n in range(30):
        name, path = next(reader)
        assert name == NAMES[n % COUNT]
        assert path.read_bytes() == content(n % COUNT)
        assert len(asked) <= n + 1 + 3 + 1
    reader.close()


def test_the_next_files_are_fetched_while_one_is_used_and_no_more(remote: Artifact) -> None:
    reader = read_ahead.read_ahead(remote, NAMES, ahead=2)
    next(reader)
    until(lambda: {"f00.bin", "f01.bin", "f02.bin"} <= set(copies()))
    time.sleep(0.1)
    assert len([name for name in copies() if name.startswith("f")]) == 3
    reader.close()


def test_bytes_ahead_are_bounded(remote: Artifact) -> None:
    reader = read_ahead.read_ahead(remote, NAMES, ahead=8, ahead_bytes=3 * SIZE + 1)
    next(reader)
    until(lambda: "f03.bin" in copies())
    time.sleep(0.1)
    assert "f04.bin" not in copies()
    reader.close()
    one_by_one = read_ahead.read_ahead(remote, NAMES[5:8], ahead_bytes=0)
    assert [path.read_bytes() for _, path in one_by_one] == [content(n) for n in (5, 6, 7)]


def test_a_corpus_larger_than_the_cache_streams_through_it(
    remote: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_cache, "GRACE_SECONDS", 0.0)
    monkeypatch.setenv("CLOZE_CACHE_GB", str(4.5 * SIZE / 1e9))
    largest = 0
    with ExitStack() as stack:
        opened = []
        for _ in range(2):  # in the second pass, what was evicted is fetched again
            for n, (_, path) in enumerate(read_ahead.read_ahead(remote, NAMES, ahead=2)):
                opened.append(stack.enter_context(path.open("rb")))
                largest = max(largest, sum(copies().values()))
                assert opened[-1].read() == content(n)
        assert 3 * SIZE < largest <= 4.5 * SIZE
        assert len(opened) == 2 * COUNT
        for n, file in enumerate(opened):
            file.seek(0)
            assert file.read() == content(n % COUNT), "what is open stays readable"


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_over_a_line_that_breaks(remote: Artifact, proxy: FaultProxy, seed: int) -> None:
    proxy.at_random(seed, 0.25, ("error", "cut_answer", "lose_answer", "error_after"))
    found = [path.read_bytes() for _, path in read_ahead.read_ahead(remote, NAMES, ahead=3)]
    assert found == [content(n) for n in range(COUNT)]
    assert sum(fault is not None for *_, fault in proxy.seen) > 3


def test_what_fails_is_raised_at_its_turn(
    remote: Artifact, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.plan = lambda method, path: "error" if NAMES[2] in path else None
    seen = []
    with pytest.raises(StoreUnreachable, match=r"f02\.bin cannot be reached .* 2 attempts failed"):
        for_each(read_ahead.read_ahead(remote, NAMES, ahead=4), seen.append)
    assert seen == NAMES[:2]


def test_a_damaged_file_and_a_missing_one_are_named_at_their_turn(made: Artifact) -> None:
    made.folder.write(NAMES[1], content(1)[:-1] + b"x")
    made.folder.delete(NAMES[3])
    for bad, says in ((1, "f01.bin .* does not match its checksum"), (3, "f03.bin .* is missing")):
        reader = read_ahead.read_ahead(made, [NAMES[0], NAMES[bad], NAMES[2]])
        assert next(reader)[1].read_bytes() == content(0)
        with pytest.raises(CorruptFile, match=says):
            next(reader)
    reader = read_ahead.read_ahead(made, [NAMES[0], "other.bin"])
    assert next(reader)[0] == NAMES[0]
    with pytest.raises(FileNotFoundError, match=r"has no file 'other\.bin'"):
        next(reader)


def test_each_file_is_hashed_once_per_process_and_not_by_the_reader(
    made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[tuple[str, str]] = []
    real = artifacts.FileEntry.of

    def counted(name: str, path: Path) -> artifacts.FileEntry:
        hashed.append((name, threading.current_thread().name))
        return real(name, path)

    monkeypatch.setattr(artifacts.FileEntry, "of", staticmethod(counted))
    for _ in range(3):
        assert len(list(read_ahead.read_ahead(made, NAMES))) == COUNT
    assert sorted(name for name, _ in hashed) == NAMES
    assert all(thread.startswith("read-ahead") for _, thread in hashed)


def test_closing_begins_nothing_more_and_holds_nothing(
    remote: Artifact, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.slow_seconds = 0.3
    proxy.at_random(0, 1.0, ("slow",))
    reader = read_ahead.read_ahead(remote, NAMES, ahead=1)
    began = time.monotonic()
    next(reader)
    one = time.monotonic() - began
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < one / 2, "closing waits for no download"
    until(lambda: not any(t.name.startswith("read-ahead") for t in threading.enumerate()))
    assert "f02.bin" not in copies()
    monkeypatch.setattr(download_cache, "IN_USE_SECONDS", 0.0)
    monkeypatch.setenv("CLOZE_CACHE_GB", "0")
    proxy.plan = lambda method, path: None
    with remote.folder.writer("other") as path:
        path.write_bytes(b"room is made for this")
    assert not [name for name in copies() if name.startswith("f")], "nobody holds what was left"


def test_files_of_several_results_come_in_one_stream(store: Folder, made: Artifact) -> None:
    other = run_step(write_files, 2, store=store)
    files = [(made, NAMES[4]), (other, NAMES[1]), (made, NAMES[0])]
    found = [(a, name, path.read_bytes()) for a, name, path in read_ahead.read_files_ahead(files)]
    assert found == [(a, name, content(int(name[1:3]))) for a, name in files]


def test_no_file_ahead_is_not_reading_ahead(made: Artifact) -> None:
    with pytest.raises(ValueError, match="ahead is 0; give at least 1"):
        next(read_ahead.read_ahead(made, NAMES, ahead=0))
