"""Promotion: gated, recorded, and decided once, however many want it."""

import json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import pytest

from infra.storage import Folder, open_folder
from serving import rollout
from serving.rollout import BrokenRecord, Gate, GateRefused, PointerMoved, UnknownModel
from tests.serving.kit import WHEN, promote, register


def test_versions_count_up_and_the_same_artifact_keeps_its_version(store: Folder) -> None:
    assert [register(store, "m", digest).number for digest in ("aa", "bb", "aa", "cc", "bb")] == [
        1,
        2,
        1,
        3,
        2,
    ]
    assert [v.artifact for v in rollout.versions(store, "m")] == ["export/aa", "export/bb", "export/cc"]
    assert rollout.models(store) == ["m"]


def test_registering_at_once_gives_every_artifact_one_number(store: Folder) -> None:
    digests = [f"d{i % 5}" for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        numbers = dict(zip(digests, pool.map(lambda d: register(store, "m", d).number, digests), strict=True))
    assert sorted(numbers.values()) == [1, 2, 3, 4, 5]
    assert {v.digest: v.number for v in rollout.versions(store, "m")} == numbers


def test_a_pointer_moves_and_remembers_who_when_why_and_the_gate(store: Folder) -> None:
    register(store, "m", "aa", accuracy=0.5)
    register(store, "m", "bb", accuracy=0.6)
    promote(store, "m", 1, gate=Gate(metric="accuracy"))
    promote(
        store, "m", 2, gate=Gate(metric="accuracy"), who="grace", why="better", when="2026-02-01T00:00:00Z"
    )
    first, second = rollout.history(store, "m")
    assert (first.version, first.previous, first.who) == (1, None, "ada")
    assert (second.version, second.previous, second.who, second.why, second.when) == (
        2,
        1,
        "grace",
        "better",
        "2026-02-01T00:00:00Z",
    )
    assert second.gate == {
        "metric": "accuracy",
        "floor": None,
        "reason": "accuracy 0.6000 reaches 0.5000 of m@v1",
    }
    assert second.prev_sha256 == first.sha256
    assert rollout.resolve(store, "m@production").digest == "bb"
    assert rollout.resolve(store, "m").digest == "bb"
    assert rollout.resolve(store, "m@v1").digest == "aa"


def test_promoting_what_is_already_there_writes_nothing(store: Folder) -> None:
    register(store, "m", "aa")
    first = promote(store, "m", 1)
    assert promote(store, "m", 1, who="somebody else") == first
    assert len(rollout.history(store, "m")) == 1


@pytest.mark.parametrize(
    ("candidate", "current", "gate", "says"),
    [
        ({"accuracy": 0.4}, {"accuracy": 0.5}, Gate(metric="accuracy"), "is below 0.5000 of m@v1"),
        ({}, {"accuracy": 0.5}, Gate(metric="accuracy"), "has no score 'accuracy'"),
        ({"f1": 1.0}, {"accuracy": 0.5}, Gate(metric="accuracy"), "it has: f1"),
        ({"accuracy": 0.9}, {}, Gate(metric="accuracy"), "state a floor"),
        (
            {"accuracy": 0.9},
            {"accuracy": 0.5},
            Gate(metric="accuracy", floor=0.95),
            "is below the floor 0.9500",
        ),
        ({}, {}, Gate(metric="accuracy", floor=0.0), "has no score"),
    ],
)
def test_a_candidate_that_does_not_pass_moves_nothing(store, candidate, current, gate, says) -> None:
    register(store, "m", "aa", **current)
    register(store, "m", "bb", **candidate)
    promote(store, "m", 1)
    before = store.child("models", "m", "aliases").read("production.json")
    with pytest.raises(GateRefused, match=says):
        promote(store, "m", 2, gate=gate)
    assert store.child("models", "m", "aliases").read("production.json") == before


def test_an_equal_score_a_reached_floor_and_a_first_version_pass(store: Folder) -> None:
    for digest in ("aa", "bb", "cc"):
        register(store, "m", digest, accuracy=0.5)
    register(store, "m", "dd", accuracy=0.3)
    promote(store, "m", 1, gate=Gate(metric="accuracy"))
    promote(store, "m", 2, gate=Gate(metric="accuracy"))
    promote(store, "m", 4, gate=Gate(metric="accuracy", floor=0.3))
    assert rollout.resolve(store, "m").number == 4


def test_a_score_that_is_not_finite_is_refused_at_registration(store: Folder) -> None:
    with pytest.raises(ValueError, match="'accuracy' is nan"):
        register(store, "m", "aa", accuracy=float("nan"))


def test_rollback_goes_back_step_by_step_and_is_recorded(store: Folder) -> None:
    for digest in ("aa", "bb", "cc"):
        register(store, "m", digest)
    for number in (1, 2, 3):
        promote(store, "m", number)
    who = {"who": "ada", "why": "wrong answers", "when": WHEN}
    assert rollout.rollback(store, "m", **who).version == 2
    assert rollout.rollback(store, "m", **who).version == 1
    with pytest.raises(UnknownModel, match="cannot be rolled back"):
        rollout.rollback(store, "m", **who)
    promote(store, "m", 3)
    assert rollout.rollback(store, "m", **who).version == 1
    assert [(e.action, e.version) for e in rollout.history(store, "m")] == [
        ("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2), ("rollback", 1), ("promote", 3), ("rollback", 1),
    ]  # fmt: skip


def test_rollback_to_a_version_that_served_before(store: Folder) -> None:
    for number, digest in enumerate(("aa", "bb", "cc", "dd"), 1):
        register(store, "m", digest)
        if number < 4:
            promote(store, "m", number)
    assert rollout.rollback(store, "m", to=1, who="ada", why="x", when=WHEN).version == 1
    with pytest.raises(UnknownModel, match="rolled back to v4"):
        rollout.rollback(store, "m", to=4, who="ada", why="x", when=WHEN)


def test_of_promoters_that_race_one_wins_and_the_others_are_told(store: Folder) -> None:
    count = 6
    for i in range(count + 1):
        register(store, "m", f"d{i}")
    promote(store, "m", 1)
    barrier = Barrier(count)

    def race(number: int) -> str:
        class AtTheSameMoment(type(store)):
            """Everybody has read the pointer before anybody writes it."""

            def replace(self, name: str, data: bytes, tag: str) -> bool:
                barrier.wait()
                return super().replace(name, data, tag)

            def child(self, *parts: str) -> "Folder":
                return AtTheSameMoment(super().child(*parts).url)

        try:
            promote(AtTheSameMoment(store.url), "m", number, who=f"promoter {number}")
        except PointerMoved as lost:
            return str(lost)
        return "won"

    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(race, range(2, count + 2)))
    assert results.count("won") == 1
    winner = results.index("won") + 2
    assert rollout.resolve(store, "m").number == winner
    assert [e.version for e in rollout.history(store, "m")] == [1, winner]
    loser = next(r for r in results if r != "won")
    assert f"was moved to v{winner} by promoter {winner}" in loser
    assert "nothing was changed" in loser


def test_the_first_promotion_can_be_raced_too(store: Folder) -> None:
    register(store, "m", "aa")
    register(store, "m", "bb")
    pointer = rollout.read_pointer(store, "m", "production")
    promote(store, "m", 1)
    with pytest.raises(PointerMoved, match="was moved to v1 by ada"):
        rollout._move(
            store,
            pointer,
            action="promote",
            target=rollout.version_of(store, "m", 2),
            who="b",
            why="b",
            when=WHEN,
            gate=None,
        )


def _promote_many(url: str, numbers: list[int]) -> list[int]:
    folder, won = open_folder(url), []
    for number in numbers:
        try:
            promote(folder, "m", number)
        except PointerMoved:
            continue
        won.append(number)
    return won


def test_processes_that_promote_leave_exactly_the_moves_that_were_acknowledged(store: Folder) -> None:
    numbers = [register(store, "m", f"d{i}").number for i in range(30)]
    with get_context("spawn").Pool(3) as pool:
        won = pool.starmap(_promote_many, [(store.url, numbers[i::3]) for i in range(3)])
    recorded = [e.version for e in rollout.history(store, "m")]
    assert sorted(recorded) == sorted(number for numbers in won for number in numbers)
    assert [e.previous for e in rollout.history(store, "m")] == [None, *recorded[:-1]]


def test_an_edited_history_is_noticed(store: Folder) -> None:
    register(store, "m", "aa")
    register(store, "m", "bb")
    promote(store, "m", 1)
    promote(store, "m", 2)
    folder = store.child("models", "m", "aliases")
    honest = json.loads(folder.read("production.json"))

    def tampered(change) -> None:
        body = json.loads(json.dumps(honest))
        change(body)
        folder.write("production.json", json.dumps(body).encode())
        with pytest.raises(BrokenRecord):
            rollout.resolve(store, "m")

    tampered(lambda body: body["history"][0].update(who="nobody"))
    tampered(lambda body: body["history"].pop(0))
    tampered(lambda body: body.update(version=1))
    tampered(lambda body: body["history"].pop())
    folder.write("production.json", b"{")
    with pytest.raises(BrokenRecord, match="not a readable pointer"):
        rollout.resolve(store, "m")


def test_what_does_not_exist_is_said_with_what_does(store: Folder) -> None:
    with pytest.raises(UnknownModel, match=r"no model 'm' is registered .*registered: none"):
        rollout.resolve(store, "m")
    register(store, "m", "aa")
    with pytest.raises(UnknownModel, match=r"m@production points nowhere; promote one of m@v1"):
        rollout.resolve(store, "m@production")
    with pytest.raises(UnknownModel, match=r"no version 7 .*it has: 1"):
        rollout.resolve(store, "m@v7")
    with pytest.raises(UnknownModel, match="no version 2"):
        promote(store, "m", 2)


@pytest.mark.parametrize("reference", ["", "M", "a/b", "../x", "m@", "m@A", "m@../x", "-m"])
def test_names_that_could_leave_the_folder_are_refused(store: Folder, reference: str) -> None:
    with pytest.raises(ValueError, match=r"must be|write name@production"):
        rollout.resolve(store, reference)


def test_a_move_without_a_reason_is_refused(store: Folder) -> None:
    register(store, "m", "aa")
    with pytest.raises(ValueError, match="why is empty"):
        promote(store, "m", 1, why=" ")
