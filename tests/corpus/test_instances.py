"""Instances survive the file exactly, and are gathered across files as if they were one list of rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpus.corruption.bert import BertObjective
from corpus.instances import Instances, open_instances
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from tests.corpus.in_memory import MARKS, documents, shard_of

OBJECTIVE = BertObjective(max_seq_len=64, max_predictions=10)
PARTS = [OBJECTIVE.corrupt(shard_of(documents(n, seed=n)), MARKS, seed=0, pass_number=n) for n in (40, 3, 90)]
EMPTY = OBJECTIVE.corrupt(shard_of([[]]), MARKS, seed=0, pass_number=0)


def prepare_instances(config: None, *, out: Output) -> Counts:
    for name, part in zip("adbc", [PARTS[0], EMPTY, PARTS[1], PARTS[2]], strict=True):
        with out.writer(f"{name}.arrow") as path:
            part.write(path)
    return {}


@pytest.fixture
def prepared(store: Folder) -> Artifact:
    return run_step(prepare_instances, None, store=store)


@pytest.mark.parametrize("part", [*PARTS, EMPTY])
def test_a_file_gives_back_every_column_and_is_byte_deterministic(part, tmp_path: Path):
    part.write(tmp_path / "one.arrow")
    part.write(tmp_path / "two.arrow")
    assert open_instances(tmp_path / "one.arrow").same_as(part)
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()


def test_the_file_is_one_record_batch_that_other_programs_can_read(tmp_path: Path):
    PARTS[1].write(tmp_path / "one.arrow")
    table = pa.ipc.open_file(tmp_path / "one.arrow").read_all()
    assert table.schema.field("tokens").type == pa.large_list(pa.uint16())
    assert table.schema.field("target_positions").type == pa.large_list(pa.int32())
    assert table["tokens"][0].as_py() == PARTS[1].tokens[: PARTS[1].offsets[1]].tolist()
    assert table.num_rows == len(PARTS[1])


def test_gathered_rows_are_the_rows_of_the_files_in_the_order_asked(prepared):
    instances = Instances(prepared)
    parts = [PARTS[0], PARTS[1], PARTS[2]]  # by file name a, b, c; the empty one is d
    rows = [(part, row) for part in parts for row in range(len(part))]
    assert len(instances) == len(rows)
    asked = np.random.default_rng(0).integers(0, len(rows), 50)
    asked[:3] = 0, len(rows) - 1, 0
    batch = instances.gather(asked)
    for i, index in enumerate(asked):
        part, row = rows[index]
        begin, end = part.offsets[row], part.offsets[row + 1]
        assert (
            batch.tokens[batch.offsets[i] : batch.offsets[i + 1]].tolist() == part.tokens[begin:end].tolist()
        )
        for name in ("segment_b", "pair_label", "instance_id", "document"):
            assert getattr(batch, name)[i] == getattr(part, name)[row]
        mine = slice(batch.target_offsets[i], batch.target_offsets[i + 1])
        targets = slice(part.target_offsets[row], part.target_offsets[row + 1])
        assert batch.target_positions[mine].tolist() == part.target_positions[targets].tolist()
        assert batch.target_tokens[mine].tolist() == part.target_tokens[targets].tolist()
    assert {a.dtype for a in (batch.tokens, batch.segment_b, batch.target_positions)} == {np.dtype(np.int64)}


def test_an_empty_batch_and_a_wrong_index(prepared):
    instances = Instances(prepared)
    batch = instances.gather(np.zeros(0, np.int64))
    assert (len(batch), len(batch.tokens), batch.offsets.tolist()) == (0, 0, [0])
    for wrong in (-1, len(instances)):
        with pytest.raises(IndexError, match="asked for"):
            instances.gather(np.array([wrong]))


def test_a_file_that_holds_something_else_is_named(tmp_path: Path):
    path = tmp_path / "noise.arrow"
    path.write_bytes(b"not arrow at all")
    with pytest.raises(ValueError, match=r"noise.arrow is not a file of instances"):
        open_instances(path)
    batch = pa.record_batch({"tokens": [1, 2]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as file:
        file.write_batch(batch)
    with pytest.raises(ValueError, match=r"noise.arrow is not a file of instances"):
        open_instances(path)
