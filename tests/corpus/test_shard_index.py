"""Any document and any token is found without scanning, and leads back to the line it came from."""

from pathlib import Path

import numpy as np
import pytest

from corpus.document import Document, document_id, read_documents, to_table, write_table
from corpus.rows import write_rows
from corpus.shard_index import DocumentAt, ShardIndex, TokenAt
from corpus.shards import INDEX, ShardConfig, TokenShard, shard
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*SPECIAL_TOKENS, *LETTERS, *(f"##{c}" for c in LETTERS), "."]


def text_of(generation: int, part: int, row: int) -> str:
    """Words that name the row; every fifth document has no token."""
    if row % 5 == 4:
        return " " * (1 + generation * 100 + part * 10 + row)
    return f"{LETTERS[generation]}{LETTERS[part]} {LETTERS[row]}. " * (1 + row % 3)


def write_documents(config: int, *, out: Output) -> Counts:
    """Generation `config`: three parts of 12, 0 and 9 documents."""
    for part, count in enumerate((12, 0, 9)):
        rows = []
        for row in range(count):
            text = text_of(config, part, row)
            rows.append(
                Document(document_id(text), text, "t", f"source-{config}", f"file-{part}", row + 1, "und")
            )
        with out.writer(f"p{part:03d}.parquet") as target:
            write_table(target, to_table(rows))
    return {}


def keep_rows(config: None, *, documents: Artifact, out: Output) -> Counts:
    for part, rows in enumerate(([0, 1, 3, 4, 7, 8, 11], [], [2, 5, 8])):
        with out.writer(f"p{part:03d}.rows") as target:
            write_rows(target, np.array(rows, np.int64))
    return {}


def write_vocabulary(config: None, *, out: Output) -> Counts:
    for name, content in vocabulary_files(VOCABULARY, True).items():
        out.write(name, content)
    return {}


@pytest.fixture
def generations(store: Folder) -> list[Artifact]:
    """Generation 0 with all documents in small shards, generation 1 with some of them in one shard per part."""
    vocabulary = run_step(write_vocabulary, None, store=store)
    documents = [run_step(write_documents, n, store=store) for n in range(2)]
    kept = run_step(keep_rows, None, store=store, documents=documents[1])
    small = ShardConfig(max_tokens=14)
    first = run_step(shard, small, store=store, documents=documents[0], vocabulary=vocabulary)
    config = ShardConfig()
    second = run_step(shard, config, store=store, documents=documents[1], kept=kept, vocabulary=vocabulary)
    return [first, second]


def test_every_document_and_token_is_where_a_scan_finds_it(generations: list[Artifact]) -> None:
    index = ShardIndex(*generations)
    assert len(index.files) > 8
    document = token = 0
    for file, entry in enumerate(index.files):
        read = TokenShard.open(entry.artifact.path(entry.name))
        assert read.counts == {name: getattr(entry, name) for name in read.counts}
        for row in range(len(read)):
            assert index.document_at(document) == DocumentAt(file, row)
            assert index.number(file, row) == document
            assert index.tokens_of(document).tolist() == read.tokens_of(row).tolist()
            for place in range(len(read.tokens_of(row))):
                assert index.token_at(token) == TokenAt(file, row, place)
                token += 1
            document += 1
    assert (
        (document, token)
        == (len(index), index.tokens)
        == (21 + 10, sum(g.counts["tokens"] for g in generations))
    )
    files, rows = index.documents_at(np.arange(len(index)))
    assert [DocumentAt(f, r) for f, r in zip(files.tolist(), rows.tolist(), strict=True)] == [
        index.document_at(n) for n in range(len(index))
    ]


def test_every_document_leads_back_to_its_line(generations: list[Artifact]) -> None:
    index = ShardIndex(*generations)
    lines = []
    for number in range(len(index)):
        origin = index.where(number)
        found = index.document(number)
        table = read_documents(origin.documents, f"{origin.part}.parquet")
        assert table.slice(origin.row, 1).to_pylist() == [found._asdict()]
        file, row = index.document_at(number)
        assert bytes(index.shard(file).document_ids[row]) == found.id
        lines.append((found.source, found.file, found.position - 1))
    assert lines == [
        *(("source-0", "file-0", row) for row in range(12)),
        *(("source-0", "file-2", row) for row in range(9)),
        *(("source-1", "file-0", row) for row in (0, 1, 3, 4, 7, 8, 11)),
        *(("source-1", "file-2", row) for row in (2, 5, 8)),
    ]


def test_a_new_generation_leaves_older_numbers_alone(generations: list[Artifact]) -> None:
    old, both = ShardIndex(generations[0]), ShardIndex(*generations)
    assert both.files[: len(old.files)] == old.files
    for number in range(len(old)):
        assert both.document_at(number) == old.document_at(number)
    for number in range(old.tokens):
        assert both.token_at(number) == old.token_at(number)


def test_the_index_opens_no_shard(generations: list[Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = Artifact.path

    def noted(self: Artifact, name: str) -> Path:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(Artifact, "path", noted)
    index = ShardIndex(*generations)
    for number in range(len(index)):
        index.document_at(number)
    assert read == [INDEX, INDEX]
    index.token_at(index.tokens - 1)
    assert read[2:] == ["p002.arrow"]


def test_few_files_are_open_at_a_time(generations: list[Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus.shard_index.OPEN_FILES", 3)
    index = ShardIndex(*generations)
    for file in (0, 1, 2, 0, 3):
        index.shard(file)
    assert list(index._open) == [2, 0, 3]
    again = [index.tokens_of(number).tolist() for number in range(len(index))]
    assert again == [ShardIndex(*generations).tokens_of(number).tolist() for number in range(len(index))]


def test_shards_are_read_ahead_in_any_order(generations: list[Artifact]) -> None:
    index = ShardIndex(*generations)
    order = [len(index.files) - 1, 0, 2, 2, 1]
    found = [(file, one.tokens_T.tolist()) for file, one in index.read_ahead(order)]
    assert found == [(file, index.shard(file).tokens_T.tolist()) for file in order]


def test_a_flipped_byte_is_refused_with_the_shards_name(generations: list[Artifact]) -> None:
    index = ShardIndex(*generations)
    entry = index.files[1]
    data = bytearray(entry.artifact.read(entry.name))
    data[len(data) // 2] ^= 1
    entry.artifact.folder.write(entry.name, bytes(data))
    for use in (lambda: index.shard(1), lambda: list(index.read_ahead([0, 1]))):
        with pytest.raises(ValueError, match=f"{entry.name} of shard/.* does not match its checksum"):
            use()


def test_what_is_not_there_is_refused(generations: list[Artifact], store: Folder) -> None:
    index = ShardIndex(*generations)
    for number in (-1, len(index)):
        with pytest.raises(IndexError, match=f"document {number} to {number} asked for; there are 31"):
            index.document_at(number)
    with pytest.raises(IndexError, match=r"token .* asked for"):
        index.token_at(index.tokens)
    with pytest.raises(IndexError, match=r"p000-000\.arrow has . documents, no row 99"):
        index.number(0, 99)
    old = run_step(write_vocabulary, None, store=store)
    with pytest.raises(ValueError, match=r"has no index\.json, so it was made by an older cloze"):
        ShardIndex(old)
    nothing = ShardIndex()
    assert (len(nothing), nothing.tokens) == (0, 0)
