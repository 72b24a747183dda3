"""Instances prepared ahead are those made on the fly, and neither a kill nor the order of work changes a
byte.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.corrupt import CorruptConfig, corrupt
from corpus.corruption.bert import BertObjective
from corpus.corruption.masking import Marks
from corpus.instances import Instances, open_instances
from corpus.order import Order
from corpus.shards import TokenShard, encode_documents, write_shard
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output, PartitionFailed, run_partition
from infra.storage import Folder, open_folder

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
WORDS = ["mask", "the", "token", "and", "guess", "##ing", "it", "again"]
CONFIG = CorruptConfig(
    objective=BertObjective(max_seq_len=32, max_predictions=5, whole_word=True), passes=3, seed=7
)
SHARDS = ("0a", "1b", "2c")


def make_vocabulary(config: tuple[str, ...], *, out: Output) -> Counts:
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS), "."]
    for name, content in vocabulary_files([*config, *letters, *WORDS], lowercase=True).items():
        out.write(name, content)
    return {}


def make_shards(config: int, *, vocabulary: Artifact, out: Output) -> Counts:
    """Three shards of made-up documents: `config` is the number of sentences at most, 0 gives empty
    documents.
    """
    rng = np.random.default_rng(0)
    encoder = Encoder.from_artifact(vocabulary)
    for name in SHARDS:
        texts = ["", "Mask.", *(_text(rng, config) for _ in range(20))] if config else ["", ""]
        ids = pa.array([rng.bytes(16) for _ in texts], pa.binary(16))
        with out.writer(f"{name}.arrow") as path:
            write_shard(path, encode_documents(encoder, ids, pa.array(texts, pa.large_string())))
    return {}


def _text(rng: np.random.Generator, sentences: int) -> str:
    words = ["mask", "the", "tokens", "and", "guessing", "it", "again", "query"]
    lines = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(rng.integers(1, sentences + 1))]
    return "\n".join(lines)


@pytest.fixture
def vocabulary(store: Folder) -> Artifact:
    return run_step(make_vocabulary, SPECIAL_TOKENS, store=store)


@pytest.fixture
def shards(store: Folder, vocabulary: Artifact) -> Artifact:
    return run_step(make_shards, 12, store=store, vocabulary=vocabulary)


def files_of(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.read(name) for name in artifact.names()}


def test_prepared_ahead_equals_on_the_fly(store, vocabulary, shards):
    made = run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=vocabulary)
    assert made.names() == [f"{name}-{p:03d}.arrow" for name in SHARDS for p in range(3)]
    encoder = Encoder.from_artifact(vocabulary)
    marks = Marks(
        vocab_size=encoder.vocab_size, cls_id=encoder.cls_id, sep_id=encoder.sep_id, mask_id=encoder.mask_id
    )
    for name in SHARDS:
        shard = TokenShard.open(shards.path(f"{name}.arrow"))
        for number in range(3):
            ahead = open_instances(made.path(f"{name}-{number:03d}.arrow"))
            assert CONFIG.objective.corrupt(shard, marks, seed=7, pass_number=number).same_as(ahead)
            at = 0
            for document in range(len(shard)):
                one = CONFIG.objective.corrupt(
                    shard, marks, seed=7, pass_number=number, documents=np.array([document])
                )
                tokens = ahead.tokens[ahead.offsets[at] : ahead.offsets[at + len(one)]]
                assert np.array_equal(one.tokens, tokens)
                at += len(one)
            assert at == len(ahead)


def test_counts_say_what_was_met(store, vocabulary, shards):
    made = run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=vocabulary)
    opened = [open_instances(made.path(name)) for name in made.names()]
    assert made.counts["documents"] == 3 * 22
    assert made.counts["empty_documents"] == 3
    assert made.counts["one_sentence_documents"] >= 3
    assert made.counts["instances"] == sum(len(one) for one in opened)
    assert made.counts["tokens"] == sum(len(one.tokens) for one in opened)
    assert made.counts["targets"] == sum(len(one.target_tokens) for one in opened)
    assert made.counts["random_next"] == sum(int(one.pair_label.sum()) for one in opened)


def test_an_epoch_gathers_every_instance_once(store, vocabulary, shards):
    instances = Instances(run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=vocabulary))
    order = Order(seed=1, count=len(instances))
    seen = [instances.gather(order.index(range(n, n + 7))) for n in range(0, 7 * (len(instances) // 7), 7)]
    last = instances.gather(order.index(range(7 * len(seen), len(instances))))
    ids = np.concatenate([batch.instance_id for batch in [*seen, last]])
    assert len(ids) == len(set(ids)) == len(instances)


def test_a_killed_step_redoes_only_what_is_unfinished_and_ends_in_the_same_bytes(
    tmp_path: Path, store, vocabulary, shards
):
    whole = run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=vocabulary)
    other = open_folder(tmp_path / "other")
    ran: list[str] = []

    def dies_after(count):
        def mapper(tasks):
            for task in reversed(list(tasks)):  # the order of work is not the order of names
                if len(ran) == count:
                    raise PartitionFailed("killed")
                ran.append(task.id)
                yield run_partition(task)

        return mapper

    words = run_step(make_vocabulary, SPECIAL_TOKENS, store=other)
    same = run_step(make_shards, 12, store=other, vocabulary=words)
    with pytest.raises(PartitionFailed):
        run_step(corrupt, CONFIG, store=other, mapper=dies_after(4), shards=same, vocabulary=words)
    resumed = run_step(corrupt, CONFIG, store=other, mapper=dies_after(99), shards=same, vocabulary=words)
    assert sorted(ran) == [f"{name}-{p:03d}" for name in SHARDS for p in range(3)]
    assert resumed.digest == whole.digest
    assert resumed.manifest.content == whole.manifest.content
    assert files_of(resumed) == files_of(whole)


def test_text_without_a_token_gives_no_instance(store, vocabulary):
    empty = run_step(make_shards, 0, store=store, vocabulary=vocabulary)
    made = run_step(corrupt, CONFIG, store=store, shards=empty, vocabulary=vocabulary)
    assert made.counts["instances"] == 0


def test_retired_documents_are_in_no_instance_and_the_others_lead_back_to_their_document(store, vocabulary):
    shards = run_step(make_shards, 12, store=store, vocabulary=vocabulary)
    opened = {name: TokenShard.open(shards.path(f"{name}.arrow")) for name in SHARDS}
    gone = {name: set(range(0, len(shard), 3)) for name, shard in opened.items()}
    ids = sorted(opened[name].document_ids[row].tobytes() for name in SHARDS for row in gone[name])

    def retire(config: int, *, out: Output) -> Counts:
        with out.writer("retired.parquet") as path:
            pq.write_table(pa.table({"id": pa.array(ids, pa.binary(16))}), path)
        return {"retired": len(ids)}

    generation = run_step(retire, 1, store=store)
    made = run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=vocabulary, generation=generation)
    for name in SHARDS:
        found = open_instances(made.path(f"{name}-000.arrow"))
        assert len(found)
        assert not set(found.document.tolist()) & gone[name]
        for row in range(0, len(found), 5):  # what is not hidden of A is a part of that document's tokens
            a, b = found.offsets[row], found.offsets[row] + found.segment_b[row]
            text = opened[name].tokens_of(int(found.document[row])).tolist()
            seen = [t for t in found.tokens[a:b].tolist() if t > 4]
            restored = [t for t in seen if t in text]
            assert len(restored) >= 0.7 * len(seen)


def test_the_vocabulary_must_be_that_of_the_shards(store, shards):
    other = run_step(make_vocabulary, (*SPECIAL_TOKENS, "[unused0]"), store=store)
    with pytest.raises(PartitionFailed, match="was encoded by tokenizer"):
        run_step(corrupt, CONFIG, store=store, shards=shards, vocabulary=other)


@pytest.mark.parametrize("passes", [0, 1001])
def test_passes_out_of_range_are_refused(passes):
    with pytest.raises(ValueError, match=f"passes is {passes}"):
        CorruptConfig(passes=passes)
