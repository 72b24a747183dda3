"""Token shards: what is written is what was encoded, and a bad file says so."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import shards as shards_module
from corpus.document import Document, document_id, to_table, write_table
from corpus.rows import write_rows
from corpus.shard_file import ShardColumns
from corpus.shards import ShardConfig, TokenShard, cut, encode_columns, encode_documents, shard, write_shard
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output, PartitionFailed
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
    assert read.word_start_T.sum() == encoded.word_start_T.sum() - 1, "中中 is one word"
    assert read.word_start_T[~encoded.word_start_T].sum() == 0
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


def test_a_shard_of_another_schema_is_refused(path: Path, encoder: Encoder) -> None:
    batch = batch_of(encoder, TEXTS)
    note = batch.schema.metadata[b"cloze"].replace(b'"schema_version": 2', b'"schema_version": 1')
    write_shard(path, batch.replace_schema_metadata({"cloze": note}))
    with pytest.raises(ValueError, match="shard schema 1, this cloze reads 2; make the shard again"):
        TokenShard.open(path)


def test_metadata_count_what_is_in_the_file(path: Path) -> None:
    read = TokenShard.open(path)
    assert read.counts == {
        "documents": len(TEXTS),
        "sentences": len(read.sentence_offsets) - 1,
        "words": int(read.word_start_T.sum()),
        "tokens": len(read.tokens_T),
        "longest_sentence": int(np.diff(read.sentence_offsets).max()),
    }


def test_languages_are_those_given(tmp_path: Path, encoder: Encoder) -> None:
    ids = pa.array([document_id(text) for text in TEXTS], pa.binary(16))
    tags = ["en", "und", "zh", "en", "zh", "de"]
    batch = encode_documents(encoder, ids, pa.array(TEXTS, pa.large_string()), pa.array(tags))
    write_shard(tmp_path / "a.arrow", batch)
    assert TokenShard.open(tmp_path / "a.arrow").languages.tolist() == tags
    assert pa.types.is_dictionary(batch["language"].type)
    write_shard(tmp_path / "b.arrow", batch_of(encoder, TEXTS))
    assert set(TokenShard.open(tmp_path / "b.arrow").languages) == {"und"}


def test_words_of_scripts_without_spaces_are_the_segmenters(tmp_path: Path) -> None:
    """Sentences of the Chinese Treebank kind: whole words are found although every character is a token."""
    text = "我们今天学习中文。 hello"
    encoder = Encoder([*VOCABULARY, *sorted(set(text) - set("中helo ."))])
    ids = pa.array([document_id(text)], pa.binary(16))
    for tags in (None, pa.array(["zh"])):
        write_shard(
            tmp_path / "z.arrow", encode_documents(encoder, ids, pa.array([text], pa.large_string()), tags)
        )
        read = TokenShard.open(tmp_path / "z.arrow")
        pieces = [encoder.vocabulary[i] for i in read.tokens_T]
        words = [""]
        for piece, starts in zip(pieces, read.word_start_T, strict=True):
            words += [piece] if starts else [words.pop() + piece]
        assert words[1:] == ["我们", "今天", "学习", "中文", "。", "hello"]


# -- the step ---------------------------------------------------------------------------------------------------------

PARTS = {"00aa": TEXTS, "11bb": ["hello hello"], "22cc": []}
KEPT = {"00aa": [0, 2, 4], "11bb": [], "22cc": []}


def write_documents(config: None, *, out: Output) -> Counts:
    for part, texts in PARTS.items():
        rows = [Document(document_id(t), t, "t", "test", "f", n, "en") for n, t in enumerate(texts)]
        with out.writer(f"{part}.parquet") as target:
            write_table(target, to_table(rows))
    return {"documents": len(TEXTS) + 1}


def keep_rows(config: dict[str, list[int]], *, documents: Artifact, out: Output) -> Counts:
    for part, rows in config.items():
        with out.writer(f"{part}.rows") as target:
            write_rows(target, np.array(rows, np.int64))
    return {}


def annotate(config: int, *, documents: Artifact, out: Output) -> Counts:
    for part, texts in PARTS.items():
        tags = [f"x{n}" if n % 2 else None for n in range(len(texts) + (config if texts else 0))]
        with out.writer(f"{part}.parquet") as target:
            pq.write_table(pa.table({"id": tags, "language": pa.array(tags, pa.string())}), target)
    return {}


def write_vocabulary(config: None, *, out: Output) -> Counts:
    for name, content in vocabulary_files(VOCABULARY, True).items():
        out.write(name, content)
    return {}


@dataclass(frozen=True, kw_only=True)
class Made:
    documents: Artifact
    kept: Artifact
    attributes: Artifact
    vocabulary: Artifact
    store: Folder

    def shards(self, config: ShardConfig, *, kept: bool = False, attributes: bool = False) -> Artifact:
        optional = {"kept": self.kept} if kept else {}
        optional |= {"attributes": self.attributes} if attributes else {}
        inputs = {"documents": self.documents, "vocabulary": self.vocabulary, **optional}
        return run_step(shard, config, store=self.store, **inputs)


@pytest.fixture
def made(store: Folder) -> Made:
    documents = run_step(write_documents, None, store=store)
    return Made(
        documents=documents,
        kept=run_step(keep_rows, KEPT, store=store, documents=documents),
        attributes=run_step(annotate, 0, store=store, documents=documents),
        vocabulary=run_step(write_vocabulary, None, store=store),
        store=store,
    )


def opened(shards: Artifact) -> dict[str, TokenShard]:
    return {n: TokenShard.open(shards.path(n)) for n in shards.names() if n.endswith(".arrow")}


def test_the_step_writes_one_shard_per_partition(made: Made, tmp_path: Path, encoder: Encoder) -> None:
    shards = made.shards(ShardConfig())
    assert shards.names() == ["00aa.arrow", "11bb.arrow", "22cc.arrow", "index.json"]
    tokens = [len(one.tokens_T) for one in opened(shards).values()]
    assert tokens[1:] == [2, 0]
    assert shards.counts == {
        "shards": 3, "documents": 7, "sentences": 8, "words": 20, "tokens": sum(tokens), "unknown": 2
    }  # fmt: skip
    write_shard(tmp_path / "again.arrow", batch_of(encoder, TEXTS))
    assert (tmp_path / "again.arrow").read_bytes() == shards.read("00aa.arrow")


def test_only_kept_rows_are_encoded_and_keep_their_language(made: Made) -> None:
    read = opened(made.shards(ShardConfig(), kept=True, attributes=True))
    assert {name: len(one) for name, one in read.items()} == {
        "00aa.arrow": 3,
        "11bb.arrow": 0,
        "22cc.arrow": 0,
    }
    one = read["00aa.arrow"]
    assert [bytes(i) for i in one.document_ids] == [document_id(TEXTS[row]) for row in KEPT["00aa"]]
    assert one.languages.tolist() == ["und"] * 3
    whole = opened(made.shards(ShardConfig(), attributes=True))["00aa.arrow"]
    assert whole.languages.tolist() == ["und", "x1", "und", "x3", "und", "x5"]
    for number, row in enumerate(KEPT["00aa"]):
        assert one.tokens_of(number).tolist() == whole.tokens_of(row).tolist()


@pytest.mark.parametrize("max_tokens", [1, 2, 7, 20, 25])
@pytest.mark.parametrize("slice_bytes", [1, 40, 1 << 23])
def test_a_large_part_is_cut_between_documents(
    made: Made, monkeypatch: pytest.MonkeyPatch, max_tokens: int, slice_bytes: int
) -> None:
    whole = TokenShard.open(made.shards(ShardConfig()).path("00aa.arrow"))
    monkeypatch.setattr(shards_module, "SLICE_BYTES", slice_bytes)
    read = {n: s for n, s in opened(made.shards(ShardConfig(max_tokens=max_tokens))).items() if n < "11"}
    assert list(read) == [f"00aa-{number:03d}.arrow" for number in range(len(read))]
    assert len(read) > 1
    for name in ("tokens_T", "document_ids", "word_start_T"):
        joined = np.concatenate([getattr(one, name) for one in read.values()])
        assert joined.tolist() == getattr(whole, name).tolist()
    lengths = np.concatenate([np.diff(one.sentence_offsets) for one in read.values()])
    assert lengths.tolist() == np.diff(whole.sentence_offsets).tolist()
    sizes = [len(one.tokens_T) for one in read.values()]
    assert all(size <= max_tokens or (np.diff(one.document_offsets) > 0).sum() == 1
               for size, one in zip(sizes, read.values(), strict=True))  # fmt: skip
    following = [int(one.document_offsets[1]) for one in list(read.values())[1:]]
    assert all(size + more > max_tokens for size, more in zip(sizes, following, strict=False)), (
        "none is cut early"
    )


def test_slices_do_not_show_in_a_byte(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ShardConfig(max_tokens=20)
    contents = set()
    for slice_bytes in (1, 30, 1 << 23):
        monkeypatch.setattr(shards_module, "SLICE_BYTES", slice_bytes)
        found = made.shards(config, kept=True, attributes=True)
        assert found.manifest.made["partitions"] == {"run": 3, "kept": 0}
        contents.add(found.manifest.content)
        made.store.child(found.step, found.digest).delete_all()
    assert len(contents) == 1


COLUMNS = encode_columns(
    Encoder(VOCABULARY),
    pa.array([document_id(text) for text in TEXTS * 3], pa.binary(16)),
    pa.array(TEXTS * 3, pa.large_string()),
)


@given(st.lists(st.integers(0, len(COLUMNS)), max_size=6), st.integers(1, 80))
@settings(max_examples=80, deadline=None)
def test_shards_do_not_depend_on_how_documents_arrive(edges: list[int], max_tokens: int) -> None:
    edges = sorted([0, *edges, len(COLUMNS)])
    parts = [COLUMNS.rows(a, b) for a, b in pairwise(edges)]
    found = [
        (one.document_offsets.tolist(), one.tokens_T.tolist(), last) for one, last in cut(parts, max_tokens)
    ]
    assert found == [
        (one.document_offsets.tolist(), one.tokens_T.tolist(), last)
        for one, last in cut([COLUMNS], max_tokens)
    ]
    assert [last for *_, last in found] == [False] * (len(found) - 1) + [True]
    together = ShardColumns.concat([one for one, _ in cut(parts, max_tokens)])
    assert together.tokens_T.tolist() == COLUMNS.tokens_T.tolist()
    assert together.document_sentences.tolist() == COLUMNS.document_sentences.tolist()
    assert together.document_ids.tolist() == COLUMNS.document_ids.tolist()


def test_row_lists_and_attributes_of_other_documents_are_refused(made: Made, store: Folder) -> None:
    inputs = {"documents": made.documents, "vocabulary": made.vocabulary}
    far = run_step(keep_rows, {**KEPT, "00aa": [0, 6]}, store=store, documents=made.documents)
    with pytest.raises(PartitionFailed, match=r"00aa of .* has 6 documents, but row 6 is kept"):
        run_step(shard, ShardConfig(), store=store, kept=far, **inputs)
    longer = run_step(annotate, 1, store=store, documents=made.documents)
    with pytest.raises(PartitionFailed, match=r"00aa of .* has 6 documents, but 7 attributes"):
        run_step(shard, ShardConfig(), store=store, attributes=longer, **inputs)
    with pytest.raises(ValueError, match=r"ShardConfig\.max_tokens is 0; give the most tokens"):
        ShardConfig(max_tokens=0)
