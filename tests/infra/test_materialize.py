"""Steps: made once, reused, continued after a kill, explained, adopted, repaired, collected."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.artifacts import Artifact, CorruptFile, Counts
from infra.collect import garbage, names, point, repair, sweep, verify
from infra.materialize import Step, explain, find, materialize, plan, run_step
from infra.output import Output, PartitionFailed, PartitionOutput
from infra.storage import Folder, open_folder


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    parts: int = 6
    text: str = "text"
    log: str = ""  # a file outside the store in which each partition that really runs leaves a line


def write_part(number: int, *, config: WriteConfig, out: PartitionOutput) -> Counts:
    if config.log:
        with Path(config.log).open("a") as f:
            f.write(f"{out.id}\n")
    if config.text == "fails" and number == 3:
        raise ValueError("number 3 is not welcome")
    if config.text == "slow":
        time.sleep(0.15)
    out.write(f"{out.id}.txt", f"{config.text} {number}\n".encode() * 1000)
    return {"lines": 1000}


def write_parts(config: WriteConfig, *, out: Output) -> Counts:
    counts = out.map(write_part, {f"p{i}": i for i in range(config.parts)}, config=config)
    out.write_json("sums.json", counts)
    out.measure(seconds=time.time())
    return {"lines": sum(c["lines"] for c in counts.values())}


def join(config: WriteConfig, *, parts: Artifact, out: Output) -> Counts:
    data = b"".join(parts.read(name) for name in parts.names("p"))
    out.write("joined.txt", data)
    return {"bytes": len(data)}


def ran(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def test_a_finished_step_is_not_run_again(store: Folder, tmp_path: Path) -> None:
    config = WriteConfig(log=str(tmp_path / "log"))
    first = run_step(write_parts, config, store=store)
    again = run_step(write_parts, config, store=store)
    assert first.address == again.address
    assert len(ran(tmp_path / "log")) == config.parts
    assert first.counts == {"lines": 6000}


def test_inputs_version_and_config_name_a_result_and_nothing_else(store: Folder) -> None:
    parts = run_step(write_parts, WriteConfig(), store=store)
    other = run_step(write_parts, WriteConfig(text="other"), store=store)
    joined = [
        run_step(join, WriteConfig(), store=store, parts=parts),
        run_step(join, WriteConfig(), store=store, parts=other),
        run_step(join, WriteConfig(), store=store, parts=parts, version=2),
    ]
    assert len({j.digest for j in joined}) == 3
    assert joined[0].manifest.content == joined[2].manifest.content


def test_two_runs_agree_byte_for_byte_but_not_in_how_they_were_made(tmp_path: Path) -> None:
    a, b = (run_step(write_parts, WriteConfig(), store=open_folder(tmp_path / s)) for s in "ab")
    assert a.manifest.content == b.manifest.content
    assert a.manifest.made["measured"] != b.manifest.made["measured"]


def test_a_failed_partition_is_named_and_the_others_are_kept(store: Folder, tmp_path: Path) -> None:
    config = WriteConfig(text="fails", log=str(tmp_path / "log"))
    with pytest.raises(PartitionFailed, match="partition p3: ValueError: number 3 is not welcome"):
        run_step(write_parts, config, store=store)
    planned = plan(store, Step(function=write_parts), config, {})
    assert not planned.artifact.finished
    assert explain(planned) == "continues an unfinished run (3 partitions finished)"
    with pytest.raises(PartitionFailed):
        run_step(write_parts, config, store=store)
    assert ran(tmp_path / "log") == ["p0", "p1", "p2", "p3", "p3"]


def _run_slowly(url: str, log: str) -> None:
    run_step(write_parts, WriteConfig(text="slow", log=log), store=open_folder(url))


def test_a_killed_step_keeps_its_finished_partitions(tmp_path: Path) -> None:
    log, url = tmp_path / "log", str(tmp_path / "store")
    config = WriteConfig(text="slow", log=str(log))
    process = multiprocessing.get_context("spawn").Process(target=_run_slowly, args=(url, str(log)))
    process.start()
    while len(ran(log)) < 3:
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = ran(log)
    done = run_step(write_parts, config, store=open_folder(url))
    redone = ran(log)[len(before) :]
    assert set(before[:-1]).isdisjoint(redone), "a finished partition ran again"
    assert sorted({*before, *redone}) == [f"p{i}" for i in range(6)]
    undisturbed = run_step(write_parts, config, store=open_folder(tmp_path / "other"))
    assert done.manifest.content == undisturbed.manifest.content
    assert done.folder.names() == undisturbed.folder.names()


def test_two_identical_runs_started_together_do_the_work_once(tmp_path: Path) -> None:
    log, url = tmp_path / "log", str(tmp_path / "store")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_run_slowly, args=(url, str(log))) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert sorted(ran(log)) == [f"p{i}" for i in range(6)]


def test_leftovers_of_an_interrupted_attempt_do_not_reach_the_result(store: Folder) -> None:
    planned = plan(store, Step(function=write_parts), WriteConfig(), {})
    folder = store.child("write_parts", planned.artifact.digest)
    folder.write("stray.txt", b"from a run that was killed")
    folder.write("work/scratch.bin", b"scratch")
    artifact = materialize(planned).artifact
    assert "stray.txt" not in artifact.folder.names()
    assert not [n for n in artifact.folder.names() if n.startswith("work/")]


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damage_is_named_on_reading_and_only_the_damaged_partition_is_rebuilt(
    store: Folder, tmp_path: Path, damage: str
) -> None:
    log = tmp_path / "log"
    config = WriteConfig(log=str(log))
    artifact = run_step(write_parts, config, store=store)
    good = artifact.read("p2.txt")
    if damage == "missing":
        artifact.folder.delete("p2.txt")
    else:
        artifact.folder.write("p2.txt", good[:-1] if damage == "truncated" else good[:-1] + b"x")
    with pytest.raises(CorruptFile, match=r"p2\.txt of write_parts/.* run `cloze verify"):
        run_step(join, config, store=store, parts=Artifact(store, artifact.step, artifact.digest))
    damages = verify(Artifact(store, artifact.step, artifact.digest))
    assert [d.name for d in damages] == ["p2.txt"]
    repair(artifact, damages)
    rebuilt = run_step(write_parts, config, store=store)
    assert ran(log)[config.parts :] == ["p2"]
    assert rebuilt.manifest.content == artifact.manifest.content
    assert rebuilt.read("p2.txt") == good


def test_explain_names_the_field_that_differs_from_the_nearest_result(store: Folder) -> None:
    run_step(write_parts, WriteConfig(parts=2, text="far"), store=store)
    run_step(write_parts, WriteConfig(parts=6), store=store)
    planned = plan(store, Step(function=write_parts), WriteConfig(parts=7), {})
    assert explain(planned) == "differs from the nearest result in config.parts: 6 -> 7"
    first = plan(store, Step(function=join), WriteConfig(), {"parts": planned.artifact})
    assert explain(first) == "first run of this step in this store"
    with pytest.raises(FileNotFoundError, match=r"needs write_parts/.*not finished"):
        materialize(first)


def test_an_existing_folder_can_be_adopted(store: Folder, tmp_path: Path) -> None:
    log = tmp_path / "log"
    old = run_step(write_parts, WriteConfig(log=str(log)), store=store)
    planned = plan(store, Step(function=write_parts, version=2), WriteConfig(log=str(log)), {})
    outcome = materialize(planned, adopt_from=old.short)
    assert outcome.action == "reused"
    assert len(ran(log)) == 6
    assert outcome.artifact.read("p1.txt") == old.read("p1.txt")
    point(store, "parts", outcome.artifact)
    assert old.address not in {g.artifact.address for g in garbage(store, [])}
    with pytest.raises(ValueError, match="adopt a folder of the same step"):
        materialize(plan(store, Step(function=join), WriteConfig(), {"parts": old}), adopt_from=old.short)


def test_only_what_nothing_names_is_collected(store: Folder) -> None:
    parts = run_step(write_parts, WriteConfig(), store=store)
    joined = run_step(join, WriteConfig(), store=store, parts=parts)
    loose = run_step(write_parts, WriteConfig(text="loose"), store=store)
    point(store, "docs/joined@latest", joined)
    assert names(store)["docs/joined@latest"].address == joined.address
    items = garbage(store, [])
    assert [g.artifact.address for g in items] == [loose.address]
    assert sweep(items) > 0
    assert garbage(store, []) == []
    assert not Artifact(store, loose.step, loose.digest).finished


def test_an_artifact_is_found_by_a_few_digits(store: Folder) -> None:
    artifact = run_step(write_parts, WriteConfig(), store=store)
    assert find(store, artifact.digest[:5]).address == artifact.address
    assert find(store, artifact.short).address == artifact.address
    with pytest.raises(ValueError, match="no artifact 'write_parts/zz'"):
        find(store, "write_parts/zz")


def test_an_edited_manifest_is_not_believed(store: Folder) -> None:
    artifact = run_step(write_parts, WriteConfig(), store=store)
    manifest = artifact.folder.read("manifest.json").replace(b'"lines": 6000', b'"lines": 6001')
    artifact.folder.write("manifest.json", manifest)
    with pytest.raises(CorruptFile, match="does not match its own checksum"):
        _ = Artifact(store, artifact.step, artifact.digest).counts
