"""Token shards: what is written is what was encoded, and a bad file says so."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpus.document import Document, document_id, to_table, write_table
from corpus.shards import ShardConfig, TokenShard, encode_documents, shard, write_shard
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

VOCABULARY = [
    *SPECIAL_TOKENS,
    *"abcdefghijklmnopqrstuvwxyz.中",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    "hello",
]
TEXTS = ["Hello there. How is it?\nA new line.", "", "Hello", "   \n", "中中 ok.\n\nHello.", "?"]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(VOCABULARY)


def batch_of(encoder: Encoder, texts: list[str]) -> pa.RecordBatch:
    ids = pa.array([document_id(text) for text in texts], pa.binary(16))
    return encode_documents(encoder, ids, pa.array(texts, pa.large_string()))


@pytest.fixture
def path(tmp_path: Path, encoder: Encoder) -> Path:
    write_shard(tmp_path / "a.arrow", batch_of(encoder, TEXTS))
    return tmp_path / "a.arrow"


def test_a_shard_gives_back_its_documents(path: Path, encoder: Encoder) -> None:
    read = TokenShard.open(path, encoder.digest)
    encoded = encoder.encode(TEXTS)
    assert len(read) == len(TEXTS)
    assert read.tokens_T.dtype == np.uint16
    assert read.tokens_T.tolist() == encoded.tokens_T.tolist()
    assert read.document_offsets.tolist() == encoded.offsets.tolist()
    assert read.word_start_T.tolist() == encoded.word_start_T.tolist()
    assert [bytes(i) for i in read.document_ids] == [document_id(text) for text in TEXTS]
    assert [VOCABULARY[i] for i in read.tokens_of(2)] == ["hello"]
    assert read.vocab_size == len(VOCABULARY)


def test_sentences_cover_their_document_and_none_is_empty(path: Path) -> None:
    read = TokenShard.open(path)
    lengths = np.diff(read.sentence_offsets)
    assert (lengths > 0).all()
    assert read.sentence_offsets[read.document_sentences].tolist() == read.document_offsets.tolist()
    assert np.diff(read.document_sentences).tolist() == [3, 0, 1, 0, 2, 1]
    first = [VOCABULARY[i] for i in read.tokens_T[: read.sentence_offsets[1]]]
    assert "".join(first).replace("##", "") == "hellothere."


def test_views_copy_nothing(path: Path) -> None:
    before = pa.total_allocated_bytes()
    read = TokenShard.open(path)
    assert not read.tokens_T.flags.owndata
    assert not read.tokens_T.flags.writeable
    assert not read.document_offsets.flags.owndata
    assert not read.document_ids.flags.owndata
    assert pa.total_allocated_bytes() == before


def test_a_large_vocabulary_has_wider_tokens(tmp_path: Path) -> None:
    encoder = Encoder([*VOCABULARY, *(f"##x{i}" for i in range(70_000))])
    write_shard(tmp_path / "wide.arrow", batch_of(encoder, ["hello"]))
    assert TokenShard.open(tmp_path / "wide.arrow").tokens_T.dtype == np.uint32


@pytest.mark.parametrize("texts", [[], [""], [" "]])
def test_nothing_is_a_shard_too(tmp_path: Path, encoder: Encoder, texts: list[str]) -> None:
    write_shard(tmp_path / "none.arrow", batch_of(encoder, texts))
    read = TokenShard.open(tmp_path / "none.arrow")
    assert len(read) == len(texts)
    assert read.document_offsets.tolist() == read.document_sentences.tolist() == [0] * (len(texts) + 1)
    assert read.sentence_offsets.tolist() == [0]
    assert read.word_start_T.tolist() == []


def test_another_tokenizer_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoded by tokenizer .*, not by 0123456789ab; use the vocabulary"):
        TokenShard.open(path, "0123456789abcdef")


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.arrow is not a whole Arrow file .*; make the shard again"):
        TokenShard.open(path)


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ValueError, match="shard schema none"):
        TokenShard.open(path)


def write_documents(config: None, *, out: Output) -> Counts:
    for part, texts in {"00aa": TEXTS, "11bb": ["hello hello"]}.items():
        rows = [Document(document_id(t), t, "t", "test", "f", 1, "en") for t in texts]
        with out.writer(f"{part}.parquet") as target:
            write_table(target, to_table(rows))
    return {"documents": len(TEXTS) + 1}


def write_vocabulary(config: None, *, out: Output) -> Counts:
    for name, content in vocabulary_files(VOCABULARY, True).items():
        out.write(name, content)
    return {}


def test_the_step_writes_one_shard_per_partition(store: Folder, tmp_path: Path, encoder: Encoder) -> None:
    documents = run_step(write_documents, None, store=store)
    vocabulary = run_step(write_vocabulary, None, store=store)
    shards: Artifact = run_step(shard, ShardConfig(), store=store, documents=documents, vocabulary=vocabulary)
    assert shards.names() == ["00aa.arrow", "11bb.arrow"]
    tokens = [len(TokenShard.open(shards.path(name), encoder.digest).tokens_T) for name in shards.names()]
    assert tokens[1] == 2
    assert shards.counts == {"documents": 7, "sentences": 8, "words": 21, "tokens": sum(tokens), "unknown": 2}
    write_shard(tmp_path / "again.arrow", batch_of(encoder, TEXTS))
    assert (tmp_path / "again.arrow").read_bytes() == shards.read("00aa.arrow")
