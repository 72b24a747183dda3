"""A replica follows the pointer, and never gives up what answers for what might not."""

import time

from infra.storage import Folder
from serving import rollout
from serving.follow import FIRST_RETRY_SECONDS, Follower, Watch
from tests.serving.kit import WHEN, fake_load, promote, register


def test_a_promotion_and_a_rollback_are_followed(store: Folder) -> None:
    register(store, "m", "aa")
    register(store, "m", "bb")
    promote(store, "m", 1)
    follower = Follower(store, "m", fake_load)
    assert follower.look(0.0)
    held = follower.current
    assert not follower.look(1.0)
    assert follower.current is held
    promote(store, "m", 2)
    assert follower.look(2.0)
    assert follower.current.version.digest == "bb"
    assert held.version.digest == "aa"  # a request that took it still has it whole
    rollout.rollback(store, "m", who="ada", why="x", when=WHEN)
    assert follower.look(3.0)
    assert follower.current.version.digest == "aa"


def test_a_bad_version_leaves_the_old_one_serving_and_is_retried_ever_less_often(store: Folder) -> None:
    register(store, "m", "aa")
    register(store, "m", "bad")
    promote(store, "m", 1)
    tries: list[int] = []

    def load(folder, version):
        tries.append(version.number)
        return fake_load(folder, version)

    follower = Follower(store, "m", load)
    follower.look(0.0)
    promote(store, "m", 2)
    for tenth in range(10, 1000):
        follower.look(tenth / 10)
    assert follower.current.version.number == 1
    assert follower.problem == "m@v2 was not loaded: probe answers are not finite; m@v1 goes on"
    # At 1, then after 2, 4, 8, 16, 32 seconds more.
    assert tries == [1, 2, 2, 2, 2, 2, 2]
    assert FIRST_RETRY_SECONDS == 2.0
    rollout.rollback(store, "m", who="ada", why="it is bad", when=WHEN)
    follower.look(100.0)
    assert (follower.problem, follower.current.version.number) == (None, 1)


def test_a_store_that_cannot_be_read_changes_nothing(store: Folder) -> None:
    register(store, "m", "aa")
    promote(store, "m", 1)
    follower = Follower(store, "m", fake_load)
    follower.look(0.0)
    pointer = store.child("models", "m", "aliases")
    content = pointer.read("production.json")
    pointer.write("production.json", b"half of")
    follower.look(1.0)
    assert follower.current.version.number == 1
    assert "not a readable pointer" in follower.problem
    pointer.write("production.json", content)
    follower.look(2.0)
    assert follower.problem is None


def test_what_is_not_there_yet_is_loaded_when_it_comes(store: Folder) -> None:
    follower = Follower(store, "m", fake_load)
    watch = Watch([follower], poll_seconds=0.01).start()
    assert follower.current is None
    assert "no model 'm' is registered" in follower.problem
    register(store, "m", "aa")
    promote(store, "m", 1)
    deadline = time.monotonic() + 10
    while follower.current is None and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.stop()
    assert follower.current.version.digest == "aa"
