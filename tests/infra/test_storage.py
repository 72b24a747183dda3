"""The store's promises, the same on every kind of store."""

import copy
import errno
import os
import pickle
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import folder_local, folder_s3, s3
from infra.storage import Folder, LocalFolder, S3Folder, StoreFull, StoreUnreachable, open_folder
from tests.infra.racers import race, start


def hidden(store: Folder) -> list[Path]:
    """Files a local store hides, on disk; none for S3, where uploads are invisible until complete."""
    return list(Path(store.url).rglob(".tmp-*")) if isinstance(store, LocalFolder) else []


def write_half(store: Folder, name: str, data: bytes) -> None:
    with store.writer(name) as path:
        path.write_bytes(data)
        raise ZeroDivisionError


def test_a_name_holds_what_was_written(store: Folder) -> None:
    store.write("a/b.txt", b"one")
    store.write("a/b.txt", b"two")
    assert store.read("a/b.txt") == b"two"
    assert store.size("a/b.txt") == 3
    assert store.exists("a/b.txt")
    assert store.local("a/b.txt").read_bytes() == b"two"
    assert store.local("a/b.txt").name.endswith("b.txt")
    store.write("empty", b"")
    assert store.read("empty") == store.local("empty").read_bytes() == b""


def test_an_absent_name_is_a_file_not_found(store: Folder) -> None:
    store.write("folder/file", b"x")
    for name in ("absent", "folder", "folder/absent", "absent/file"):
        for ask in (store.read, store.read_tagged, store.size, store.local):
            with pytest.raises(FileNotFoundError):
                ask(name)
        assert not store.exists(name)
        assert not store.replace(name, b"y", "no-such-tag")
    store.delete("absent")


def test_names_are_every_file_below_sorted(store: Folder) -> None:
    assert store.names() == store.folders() == []
    for name in ("z", "a/2", "a/1", "a/deep/er/file.json", "b/x", "ab"):
        store.write(name, b"-")
    assert store.names() == ["a/1", "a/2", "a/deep/er/file.json", "ab", "b/x", "z"]
    assert store.names("a") == ["a/1", "a/2", "a/deep/er/file.json"]
    assert store.names("a/deep") == ["a/deep/er/file.json"]
    assert store.names("nowhere") == []
    assert store.folders() == ["a", "b"]
    assert store.child("a").names() == ["1", "2", "deep/er/file.json"]
    assert store.child("a", "deep") == store.child("a/deep") == store.child("a").child("deep")


def test_a_url_opens_the_same_folder_again(store: Folder) -> None:
    store.child("x").write("y", b"z")
    assert open_folder(store.child("x").url).read("y") == b"z"
    assert open_folder(f"{store.url}/").child("x").read("y") == b"z"


def test_listings_are_never_stale(store: Folder) -> None:
    other = open_folder(store.url)
    for n in range(3):
        store.write(f"f{n}", b"")
        assert len(other.names()) == n + 1
        assert other.exists(f"f{n}")
    store.delete("f0")
    assert other.names() == ["f1", "f2"]
    assert not other.exists("f0")


def test_delete_all_leaves_nothing(store: Folder) -> None:
    store.write("keep", b"k")
    for n in range(5):
        store.write(f"go/{n}/x", b"-")
    store.child("go").delete_all()
    store.child("never").delete_all()
    assert store.names() == ["keep"]
    assert store.folders() == []
    assert hidden(store) == []


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../../x", "a//b", "a/", ".", "..", ".hidden", "a/.tmp-1", "a\\b", "a\0b"]
)
def test_names_that_could_leave_the_folder_are_refused(store: Folder, name: str) -> None:
    for act in (
        store.read,
        store.delete,
        store.size,
        store.local,
        store.child,
        lambda n: store.write(n, b"x"),
    ):
        with pytest.raises(ValueError, match="is not a name in a store"):
            act(name)


def test_create_has_one_winner_and_replace_needs_the_version(store: Folder) -> None:
    assert store.create("x", b"first")
    assert not store.create("x", b"second")
    assert not store.create("x", b"first")
    data, tag = store.read_tagged("x")
    assert data == b"first"
    assert store.replace("x", b"second", tag)
    assert not store.replace("x", b"third", tag)
    assert store.read("x") == b"second"


def test_a_writer_publishes_at_the_end_or_not_at_all(store: Folder) -> None:
    with store.writer("a/file.txt") as path:
        path.write_bytes(b"whole")
        assert path.suffix == ".txt"
        assert store.names() == []
    assert store.read("a/file.txt") == b"whole"
    with pytest.raises(ZeroDivisionError):
        write_half(store, "a/file.txt", b"half")
    assert store.read("a/file.txt") == b"whole"
    assert store.names() == ["a/file.txt"]
    assert hidden(store) == []


def test_a_killed_writer_leaves_nothing_visible_and_is_tidied(store: Folder) -> None:
    writer = start("write_slowly", store.url, 0)
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()
    assert [writer.stdout.readline() for _ in range(2)] == ["ready\n", "writing\n"]
    assert store.names() == []
    assert len(hidden(store)) == isinstance(store, LocalFolder), "a live writer's file is left alone"
    writer.kill()
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert store.names() == []
    assert hidden(store) == []
    writer.communicate()
    if isinstance(store, S3Folder):
        cache = Path(os.environ["CLOZE_CACHE"])
        assert len(list(cache.glob(".tmp-*"))) == 1
        with store.writer("next") as path:
            path.write_bytes(b"x")
        assert list(cache.glob(".tmp-*")) == []


def test_folders_cross_to_other_processes(store: Folder) -> None:
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"
    assert copy.deepcopy(store) == store
    assert b"test-secret" not in pickle.dumps(store)
    child = os.fork()  # the child of a process with open connections and threads
    if child == 0:
        ok = store.read("x") == b"1" and store.create("from-child", b"2")
        os._exit(0 if ok else 1)
    assert store.read("x") == b"1"
    assert os.waitpid(child, 0)[1] == 0
    assert store.read("from-child") == b"2"


def test_threads_share_a_folder(store: Folder) -> None:
    winners, failures = [], []

    def work(me: int) -> None:
        try:
            for n in range(8):
                if store.create(f"k{n}", str(me).encode()):
                    winners.append((n, me))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(n for n, _ in winners) == list(range(8))
    assert all(store.read(f"k{n}") == str(me).encode() for n, me in winners)


def test_six_processes_create_each_key_once(store: Folder) -> None:
    won = race("create", store.url, 6, 12)
    assert sorted(key for keys in won for key in keys) == list(range(12))
    assert all(store.read(f"keys/{key}") == str(me).encode() for me, keys in enumerate(won) for key in keys)


def test_six_processes_lose_no_increment(store: Folder) -> None:
    store.write("counter", b"0")
    race("increment", store.url, 6, 5)
    assert store.read("counter") == b"30"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "create", "replace", "stale", "delete", "writer", "fail"]),
            st.sampled_from(["a", "b/c", "b/d.json"]),
            st.binary(max_size=20),
        ),
        max_size=25,
    )
)
def test_any_sequence_of_operations_agrees_with_a_dictionary(
    store: Folder, steps: list[tuple[str, str, bytes]]
) -> None:
    store.delete_all()
    model: dict[str, bytes] = {}
    old: dict[str, tuple[bytes, str]] = {}
    for operation, name, data in steps:
        if operation in ("write", "writer"):
            if operation == "write":
                store.write(name, data)
            else:
                with store.writer(name) as path:
                    path.write_bytes(data)
            model[name] = data
        elif operation == "fail":
            with pytest.raises(ZeroDivisionError):
                write_half(store, name, data)
        elif operation == "create":
            assert store.create(name, data) == (name not in model)
            model.setdefault(name, data)
        elif operation == "replace" and name in model:
            old[name] = store.read_tagged(name)
            assert store.replace(name, data, old[name][1])
            model[name] = data
        elif operation == "stale" and name in old:
            fresh = model.get(name) == old[name][0]
            assert store.replace(name, data, old[name][1]) == fresh
            model |= {name: data} if fresh else {}
        elif operation == "delete":
            store.delete(name)
            model.pop(name, None)
    assert {name: store.read(name) for name in store.names()} == model


# -- what a disk does -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)), capture_output=True)
    if done.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(("umount", str(path)), check=True)


def test_a_full_disk_is_named_and_publishes_nothing(small_disk: Path) -> None:
    store = open_folder(small_disk / "store")
    store.write("small", b"fits")
    attempts: list[Callable[[], object]] = [
        lambda: store.write("big", bytes(2_000_000)),
        lambda: store.create("big", bytes(2_000_000)),
        lambda: store.replace("small", bytes(2_000_000), store.read_tagged("small")[1]),
    ]
    for attempt in attempts:
        with pytest.raises(
            StoreFull, match=r"cannot write .*/(big|small) \(no space left on device\).*free some space"
        ) as caught:
            attempt()
        assert caught.value.errno == errno.ENOSPC
    assert store.names() == ["small"]
    assert store.read("small") == b"fits"
    assert hidden(store) == []
    store.write("after", b"there is room again")


def test_a_full_disk_under_a_library_that_writes_is_named_too(small_disk: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = open_folder(small_disk / "store")
    table = pa.table({"x": np.random.default_rng(0).integers(0, 2**62, 400_000)})
    with pytest.raises(StoreFull, match="no space left"), store.writer("big.parquet") as path:
        pq.write_table(table, path)
    assert store.names() == []


def test_a_full_cache_disk_is_named(
    s3_store: Folder, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("big", bytes(2_000_000))
    monkeypatch.setenv("CLOZE_CACHE", str(small_disk))
    with pytest.raises(StoreFull, match="CLOZE_CACHE"):
        s3_store.local("big")
    with pytest.raises(StoreFull, match="CLOZE_CACHE"), s3_store.writer("other") as path:
        path.write_bytes(bytes(2_000_000))
    assert s3_store.names() == ["big"]


def test_create_works_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = open_folder(tmp_path)
    assert store.create("x", b"1")
    assert not store.create("x", b"2")
    assert store.names() == ["x"]


def test_leftovers_of_another_host_go_after_a_day(tmp_path: Path) -> None:
    store = open_folder(tmp_path)
    foreign = tmp_path / ".tmp-00000000-1-1-abcd-file"
    foreign.write_bytes(b"x")
    assert store.names() == []
    assert foreign.exists()
    yesterday = time.time() - folder_local.STALE_SECONDS - 60
    os.utime(foreign, (yesterday, yesterday))
    assert store.names() == []
    assert not foreign.exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [("gs://bucket/x", "of no kind we know"), ("file://host/x", "of no kind we know"), ("", "is not a folder"),
     ("s3://Bad_Bucket/x", "not an S3 bucket name"), ("s3://bucket/../x", "is not a name in a store")],
)  # fmt: skip
def test_a_store_that_cannot_be_is_refused_in_one_sentence(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_folder(url)


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        open_folder(tmp_path / "file")


def test_file_urls_and_paths_are_the_same_place(tmp_path: Path) -> None:
    assert open_folder(f"file://{tmp_path}") == open_folder(tmp_path) == open_folder(str(tmp_path))


@pytest.mark.usefixtures("s3_settings")
def test_a_bucket_without_a_prefix_is_a_store() -> None:
    s3.client().create_bucket(Bucket="whole-bucket")
    store = open_folder("s3://whole-bucket")
    store.write("a/b", b"1")
    assert store.names() == ["a/b"]
    assert store.folders() == ["a"]
    assert store.child("a").read("b") == b"1"
    store.delete_all()
    assert store.names() == []


def test_files_larger_than_a_part_travel_in_parts(s3_store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_s3, "PART_BYTES", 5 << 20)
    content = os.urandom(11_000_001)
    with s3_store.writer("big.bin") as path:
        path.write_bytes(content)
    assert s3_store.size("big.bin") == len(content)
    assert s3_store.read("big.bin") == content
    assert s3_store.local("big.bin").read_bytes() == content
    for copy_ in Path(os.environ["CLOZE_CACHE"]).iterdir():
        copy_.unlink()
    assert s3_store.local("big.bin").read_bytes() == content


def test_the_bucket_has_no_such_name_is_an_error_of_the_store(s3_settings: object) -> None:
    store = open_folder("s3://no-such-bucket-here/x")
    for act in (lambda: store.write("x", b""), store.names, store.folders, lambda: store.read("x")):
        with pytest.raises(StoreUnreachable, match="no bucket 'no-such-bucket-here'"):
            act()
