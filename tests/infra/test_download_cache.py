"""What is held stays, what is let go may leave, and a copy that was verified is not hashed again."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra import download_cache

SIZE = 1000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Room for three copies."""
    monkeypatch.setenv("CLOZE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLOZE_CACHE_GB", str(3 * SIZE / 1e9))
    monkeypatch.setattr(download_cache, "GRACE_SECONDS", 0.0)
    return tmp_path / "cache"


def keep(name: str, *, used_seconds_ago: float = 0.0) -> Path:
    with download_cache.temporary(name) as path:
        path.write_bytes(name.encode() * (SIZE // len(name)))
        kept = download_cache.keep(path, name, name, in_use=True)
    os.utime(kept, (time.time() - used_seconds_ago,) * 2)
    return kept


def test_the_least_recently_used_leave_first() -> None:
    a, b, c = (keep(name, used_seconds_ago=5000 - n) for n, name in enumerate("abc"))
    assert download_cache.find("a", "a", SIZE) == a
    d = keep("d", used_seconds_ago=4000)
    assert [path.exists() for path in (a, b, c, d)] == [True, False, True, True]


def test_what_is_held_stays_over_the_limit_and_then_makes_room() -> None:
    with ExitStack() as stack:
        paths = []
        for n in range(5):
            paths.append(keep(str(n), used_seconds_ago=5000 - n))
            stack.enter_context(download_cache.held(paths[-1]))
        assert all(path.exists() for path in paths)
        x = keep("x")
        assert all(path.exists() for path in paths)
    y = keep("y")
    assert [path.exists() for path in (*paths, x, y)] == [True, *[False] * 4, True, True], "0 was let go last"


def test_two_holders_both_count() -> None:
    a = keep("a", used_seconds_ago=5000)
    with download_cache.held(a):
        with download_cache.held(a):
            pass
        for name in "bcde":
            keep(name)
        assert a.exists()
    keep("f")
    assert not a.exists()


def test_a_holder_in_another_process_counts_until_it_dies(cache: Path) -> None:
    a = keep("a", used_seconds_ago=5000)
    code = (
        "import sys, time; from pathlib import Path; from infra import download_cache\n"
        "with download_cache.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        (sys.executable, "-c", code, str(a)), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for name in "bcde":
            keep(name)
        assert a.exists()
    finally:
        holder.kill()
        holder.communicate()
    keep("f")
    assert not a.exists()


def test_whoever_has_just_asked_for_a_path_may_open_it_though_another_lets_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download_cache, "GRACE_SECONDS", 10.0)
    a = keep("a")
    assert download_cache.find("a", "a", SIZE) == a
    with download_cache.held(a):
        pass
    for name in "bcde":
        keep(name)
    assert a.exists()
    monkeypatch.setattr(download_cache, "GRACE_SECONDS", 0.0)
    with download_cache.held(a):
        pass
    keep("f")
    assert not a.exists()


def test_a_copy_that_is_gone_cannot_be_held_and_other_files_are_nobodys_business(tmp_path: Path) -> None:
    a = keep("a")
    download_cache.drop("a", "a")
    with pytest.raises(FileNotFoundError), download_cache.held(a):
        raise AssertionError
    other = tmp_path / "other"
    other.write_bytes(b"x")
    before = other.stat()
    with download_cache.held(other):
        pass
    assert other.stat() == before


def test_using_a_copy_does_not_make_it_look_changed() -> None:
    a = keep("a")
    before = a.stat().st_mtime_ns
    assert download_cache.find("a", "a", SIZE) == a
    with download_cache.held(a):
        pass
    assert a.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CLOZE_CACHE_GB", text)
    with pytest.raises(ValueError, match=f"CLOZE_CACHE_GB is '{text}'; give the cache's size in GB"):
        download_cache.limit_bytes()
