"""One writer at a time, on every kind of store."""

import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra import lease as lease_module
from infra import process
from infra.lease import LeaseLost, hold, is_held
from infra.process import Process, this_process
from infra.storage import Folder, StoreUnreachable, open_folder
from tests.infra.racers import race, start
from tests.infra.s3_server import FaultProxy

FILE = "lease.json"


def record(store: Folder) -> dict[str, object]:
    return json.loads(store.read(FILE))


def forge(store: Folder, holder: Process, ttl_seconds: float = 0.3) -> None:
    """Leave the lease as `holder` would have, were it never heard of again."""
    old = lease_module._Record(holder=holder, nonce="forged", beat=7, ttl_seconds=ttl_seconds)
    store.write(FILE, old.to_bytes())


def elsewhere() -> Process:
    return Process(host="far-away", boot="another-boot", namespace="pid:[1]", pid=1, start=1)


def seconds_to_take(store: Folder, **arguments: float) -> float:
    began = time.monotonic()
    with hold(store, **arguments):
        return time.monotonic() - began


def test_the_file_says_who_holds_it(store: Folder) -> None:
    assert not is_held(store)
    with hold(store) as lease:
        lease.check()
        assert is_held(store)
        me = this_process()
        assert record(store)["holder"] == {
            "host": socket.gethostname(), "boot": me.boot, "namespace": me.namespace, "pid": os.getpid(), "start": me.start,
        }  # fmt: skip
    assert not is_held(store)
    with hold(store), pytest.raises(ZeroDivisionError), hold(store, "another.json"):
        raise ZeroDivisionError
    assert not is_held(store, "another.json")


def test_who_comes_second_waits_and_is_told_for_whom(store: Folder) -> None:
    order, told = [], []
    with hold(store, heartbeat_seconds=0.05, ttl_seconds=0.5):

        def second() -> None:
            with hold(store, heartbeat_seconds=0.05, ttl_seconds=0.5, on_wait=told.append):
                order.append("second")

        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(1.5)  # three times the ttl: heartbeats keep it
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert told == [f"process {os.getpid()} on {socket.gethostname()}"]


def test_six_processes_are_never_inside_together(store: Folder, tmp_path: Path) -> None:
    assert race("take_turns", store.url, 6, 3, tmp_path) == [3] * 6


def test_threads_of_one_process_exclude_each_other(store: Folder) -> None:
    inside, worst = [], []

    def work() -> None:
        for _ in range(3):
            with hold(store, heartbeat_seconds=1, ttl_seconds=5):
                inside.append(1)
                worst.append(len(inside))
                time.sleep(0.01)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1] * 9


def test_a_killed_holder_on_this_host_is_followed_at_once(store: Folder) -> None:
    holder = start("keep", store.url, 0, 60.0)
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("go\n")
    holder.stdin.flush()
    assert [holder.stdout.readline() for _ in range(2)] == ["ready\n", "held\n"]
    assert is_held(store)
    holder.send_signal(signal.SIGKILL)
    os.waitid(
        os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT
    )  # dead, but a zombie: its parent has not collected it
    assert not is_held(store)
    assert seconds_to_take(store) < 2.0
    holder.communicate()


def test_a_reused_pid_is_not_its_former_owner(store: Folder) -> None:
    forge(store, replace(this_process(), start=this_process().start - 1), ttl_seconds=60)
    assert not is_held(store)
    assert seconds_to_take(store) < 2.0


def test_a_silent_holder_on_another_host_is_waited_for_by_our_own_clock(store: Folder) -> None:
    forge(store, elsewhere(), ttl_seconds=0.1)
    assert is_held(store)
    assert 0.9 < seconds_to_take(store, heartbeat_seconds=0.1, ttl_seconds=1.0) < 4.0
    forge(store, elsewhere(), ttl_seconds=1.0)  # the holder's own ttl counts too
    assert 0.9 < seconds_to_take(store, heartbeat_seconds=0.05, ttl_seconds=0.1) < 4.0


def test_what_is_no_lease_is_waited_out(store: Folder) -> None:
    store.write(FILE, b"\x00 not a lease")
    told: list[str] = []
    assert is_held(store)
    with hold(store, heartbeat_seconds=0.1, ttl_seconds=0.5, on_wait=told.append) as lease:
        lease.check()
    assert "is not a lease we can read" in told[0]


def test_a_stopped_holder_on_another_host_is_taken_over_and_finds_out(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = start("keep", store.url, 0, 1.0)
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("go\n")
    holder.stdin.flush()
    assert [holder.stdout.readline() for _ in range(2)] == ["ready\n", "held\n"]
    holder.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(process, "_ground", lambda: ("another-boot", "pid:[2]"))  # we are another host
    process.process_of.cache_clear()
    try:
        with hold(store, heartbeat_seconds=0.25, ttl_seconds=1.0) as lease:
            holder.send_signal(signal.SIGCONT)
            assert holder.wait(timeout=30) == 1
            time.sleep(0.6)
            lease.check()  # its last heartbeat, if it tried one, did not hurt us
    finally:
        process.process_of.cache_clear()
    holder.communicate()


def test_a_live_but_silent_holder_on_this_host_is_given_ten_times_as_long(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(store, this_process(), ttl_seconds=0.2)
    assert is_held(store)
    assert 1.9 < seconds_to_take(store, heartbeat_seconds=0.1, ttl_seconds=0.2) < 6.0


def test_check_raises_once_the_lease_is_taken_or_gone(store: Folder) -> None:
    with hold(store, heartbeat_seconds=0.05, ttl_seconds=0.5) as lease:
        forge(store, elsewhere())
        time.sleep(0.5)
        with pytest.raises(
            LeaseLost, match=r"lease.json was taken over by process 1 on far-away; this run stops"
        ):
            lease.check()
    assert record(store)["nonce"] == "forged", "leaving the block does not touch another's lease"
    store.delete(FILE)
    with hold(store, heartbeat_seconds=0.05, ttl_seconds=0.5) as lease:
        store.delete_all()
        time.sleep(0.5)
        with pytest.raises(LeaseLost, match="removed it"):
            lease.check()


def test_an_overdue_lease_nobody_took_is_still_ours(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a suspended laptop or a stopped process: the heartbeat came late, but in time."""
    with hold(store, heartbeat_seconds=10, ttl_seconds=30) as lease:
        lease._confirmed -= 31
        lease.check()
        beat = record(store)["beat"]
        assert beat == 1
        lease._confirmed -= 31
        forge(store, elsewhere())
        with pytest.raises(LeaseLost, match="far-away"):
            lease.check()


def test_a_lease_that_cannot_be_renewed_in_time_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_folder(tmp_path)

    def unreachable(*_: object) -> bool:
        raise StoreUnreachable("the store does not answer")

    with hold(store, heartbeat_seconds=0.05, ttl_seconds=0.3) as lease:
        monkeypatch.setattr(type(store), "replace", unreachable)
        time.sleep(0.15)
        lease.check()  # one lost heartbeat is nothing
        time.sleep(0.3)
        with pytest.raises(LeaseLost, match="could not be renewed in time"):
            lease.check()
        monkeypatch.undo()
        lease.check()  # the store is back and nobody took it


def test_a_forked_child_does_not_release_its_parents_lease(store: Folder) -> None:
    with hold(store) as lease:
        child = os.fork()
        if child == 0:
            lease._release()
            os._exit(0)
        os.waitpid(child, 0)
        assert is_held(store)


def test_times_that_cannot_work_are_refused(store: Folder) -> None:
    with pytest.raises(ValueError, match="at least twice"), hold(store, heartbeat_seconds=5, ttl_seconds=8):
        pass


def test_the_lease_holds_over_a_line_that_breaks(s3_store: Folder, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.at_random(1, 0.25)
    proxy.slow_seconds = 0.05
    assert race("take_turns", s3_store.url, 3, 3, tmp_path) == [3] * 3
