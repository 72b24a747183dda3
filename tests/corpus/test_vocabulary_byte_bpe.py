"""Byte-level BPE: the ids, offsets, vocabularies and merges of `tokenizers`, from columns and from counts."""

import gzip
import json
import random
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

import corpus.vocabulary.columns as columns_module
import corpus.wordpiece.units as units_module
from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import (
    BYTE_ALPHABET,
    GptTokens,
    RobertaTokens,
    byte_bpe_files,
    in_byte_alphabet,
    library_byte_bpe,
)
from corpus.vocabulary.byte_train import ByteBPEConfig, learn_byte_bpe, train_byte_bpe
from corpus.vocabulary.counts import SCHEMA, merge_counts
from corpus.vocabulary.open import encoder_of
from corpus.vocabulary.pretokens import Pretokens
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.test_wordpiece_encode import AWKWARD
from tests.corpus.test_wordpiece_train import TEXT, table_of, write_documents

MORE = [
    "I've we'll don't he's you're I'm they'd ISN'T 's 'sx ''s 'S '  's \n's \n\n's x's's's 1's '1 'l 'll 'lll 're'r 've'v",
    "a  b   c\t\td \n e\n\n\nf \u3000g\u3000\u3000h \u00a0 i\u2028\u2029j   ", " ", "  ", "\n", " \n", "\n ", "x \n", "x\n\n",
    "٣٤ ⅷ ² ①x１２ab12cd", "\0", "\0\0", "x\0", "x\0\0", "abcdefgh\0", "\xf8\x08abcdefg", "a\x85b", "\x1c\x1d\x1e\x1f", "'", "''", "s'", "'s",
    " 's", "'", "ll", "s", "'l", "l", "e", "'r",
]  # fmt: skip
TORTURE = [*AWKWARD, *MORE]


def library_learned(texts: list[str], config: ByteBPEConfig) -> tuple[dict[str, int], list[list[str]]]:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(config.special_tokens.names),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def learned(texts: list[str], config: ByteBPEConfig) -> tuple[list[str], list[tuple[str, str]]]:
    return learn_byte_bpe(Pretokens().count(pa.array(texts, pa.large_string())), config)


LEARNED = learned([*TEXT, *TORTURE], ByteBPEConfig(vocab_size=600))
ENCODER, LIBRARY = ByteBPEEncoder(*LEARNED), library_byte_bpe(*LEARNED, special_tokens=False)


def assert_equal_to_library(encoder: ByteBPEEncoder, library: Tokenizer, texts: list[str]) -> None:
    ours = encoder.encode(texts, token_starts=True)
    first_bytes = np.cumsum([0, *(len(text.encode()) for text in texts)])
    assert ours.offsets[-1] == len(ours.tokens_T) == len(ours.word_start_T) == len(ours.token_starts_T)
    for i, theirs in enumerate(library.encode_batch(texts, add_special_tokens=False)):
        row = slice(ours.offsets[i], ours.offsets[i + 1])
        assert ours.tokens_T[row].tolist() == theirs.ids, texts[i]
        words = theirs.word_ids
        assert ours.word_start_T[row].tolist() == [
            j == 0 or words[j] != words[j - 1] for j in range(len(words))
        ], texts[i]
        spelled = [library.id_to_token(t) for t in theirs.ids]
        data, place = texts[i].encode(), 0
        for token, start, is_word in zip(
            spelled, (ours.token_starts_T[row] - first_bytes[i]).tolist(), ours.word_start_T[row], strict=True
        ):
            joined = is_word and data[place : place + 1] == b" " and start == place + 1
            assert joined or start == place
            assert in_byte_alphabet(texts[i]).startswith(token, place)
            place += len(token)
        assert place == len(data)


def test_the_byte_alphabet_is_the_librarys() -> None:
    assert sorted(BYTE_ALPHABET) == sorted(ByteLevel.alphabet())
    everything = "".join(chr(i) for i in range(0x3000)) + "中😀"
    pieces = ByteLevel(add_prefix_space=False).pre_tokenize_str(everything)
    assert "".join(piece for piece, _ in pieces) == in_byte_alphabet(everything)


def test_awkward_text_has_the_ids_of_tokenizers() -> None:
    assert_equal_to_library(ENCODER, LIBRARY, [*TORTURE, *(a + b for a in TORTURE for b in MORE)])


pieces = st.one_of(
    st.sampled_from(TORTURE),
    st.sampled_from(
        ["'", "'s", "'re", " ", "  ", "\n", "\t", "\u3000", "\u00a0", "a", "é", "1", "٣", "!", "。", "\0"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text(string.printable, max_size=12),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(pieces, max_size=10).map("".join), max_size=4))
@example(["'", "s", "x'", "ll", "'l", "l", " ", "x", "\n", "y"])
def test_any_text_has_the_ids_of_tokenizers(rows: list[str]) -> None:
    assert_equal_to_library(ENCODER, LIBRARY, rows)


def test_every_character_is_cut_where_tokenizers_cuts_it() -> None:
    """All of Unicode but private and unassigned planes, in the neighbourhoods in which a class matters."""
    codes = [c for c in range(0x80, 0x110000) if not 0xD800 <= c <= 0xDFFF]
    codes = [
        c
        for c in codes
        if c < 0x3400 or 0xA000 <= c < 0xAC10 or 0xF900 <= c < 0x12000 or 0x1D000 <= c < 0x1FC00
    ]
    rows = [
        "".join(f"a{chr(c)}a1{chr(c)}1!{chr(c)}! {chr(c)} x" for c in codes[i : i + 500])
        for i in range(0, len(codes), 500)
    ]
    ours = ENCODER.encode(rows)
    theirs = [t for row in LIBRARY.encode_batch(rows, add_special_tokens=False) for t in row.ids]
    assert len(codes) > 20_000
    assert ours.tokens_T.tolist() == theirs


@pytest.mark.parametrize("size", [16, 100, 1000])
def test_a_batch_is_cut_anywhere_without_a_trace(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    rows = [
        *TORTURE,
        "the naïve 中文,don't " * 30,
        "x" * 3000,
        " " * 500,
        "é" * 700,
        "'s" * 300,
        " 中文。" * 300,
        "".join(TORTURE),
    ]
    whole = ENCODER.encode(rows)
    monkeypatch.setattr(units_module, "BLOCK_BYTES", size)
    monkeypatch.setattr(columns_module, "TABLE_LIMIT", 50)
    again = ByteBPEEncoder(*LEARNED).encode(rows)
    assert np.array_equal(whole.tokens_T, again.tokens_T)
    assert np.array_equal(whole.offsets, again.offsets)
    assert np.array_equal(whole.word_start_T, again.word_start_T)


def test_a_sentence_begins_after_the_blank_that_joined_its_first_word() -> None:
    text = "One two. Three four."
    encoded = ENCODER.encode([text], np.array([0, text.index("Three")]))
    first, second = encoded.mark_offsets
    assert LIBRARY.decode(encoded.tokens_T[first:second].tolist()) == "One two."
    assert LIBRARY.decode(encoded.tokens_T[second:].tolist()) == " Three four."


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("aab ", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=12),
    st.integers(0, 25),
    st.integers(1, 3),
)
def test_the_library_learns_the_same_entries_and_merges(
    counts: dict[str, int], more: int, least: int
) -> None:
    texts = [text for text, count in counts.items() for _ in range(count)]
    config = ByteBPEConfig(vocab_size=261 + more, min_frequency=least)
    vocabulary, merges = library_learned(texts, config)
    if len(vocabulary) < config.vocab_size:
        with pytest.raises(ValueError, match=f"supports only {len(vocabulary)} entries"):
            learned(texts, config)
        return
    ours, our_merges = learned(texts, config)
    assert {token: i for i, token in enumerate(ours)} == vocabulary
    assert our_merges == [tuple(merge) for merge in merges]


@pytest.mark.parametrize("special", [RobertaTokens(), GptTokens()])
def test_natural_text_with_ties_gives_the_librarys_vocabulary(special: RobertaTokens | GptTokens) -> None:
    texts = [*TEXT, *TORTURE]
    config = ByteBPEConfig(vocab_size=1200, special_tokens=special)
    ours, merges = learned(texts, config)
    vocabulary, their_merges = library_learned(texts, config)
    assert {token: i for i, token in enumerate(ours)} == vocabulary
    assert merges == [tuple(merge) for merge in their_merges]


def test_partitioning_changes_nothing() -> None:
    texts = [*TEXT[:100], *TORTURE]
    whole = Pretokens().count(pa.array(texts, pa.large_string()))
    shuffled = random.Random(0).sample(texts, len(texts))
    parts = [pa.array(shuffled[i::3], pa.large_string()) for i in range(3)]
    assert merge_counts(map(Pretokens().count, parts)).equals(whole)
    assert "".join(whole["word"].to_pylist()) != ""


def test_text_cannot_make_a_special_token() -> None:
    ours, merges = learn_byte_bpe(table_of({"<s>": 2**33, "<s>x": 5, "ab": 3}), ByteBPEConfig(vocab_size=264))
    assert ("<s", ">") not in merges
    encoder = ByteBPEEncoder(ours, merges)
    assert encoder.cls_id not in encoder.encode(["<s> <s>x </s><mask>"]).tokens_T


def test_a_bad_config_or_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=260 has no room"):
        ByteBPEConfig(vocab_size=260)
    with pytest.raises(ValueError, match="min_frequency=0"):
        ByteBPEConfig(min_frequency=0)
    with pytest.raises(ValueError, match=r"smoothing=2\.0"):
        ByteBPEConfig(smoothing=2.0)
    with pytest.raises(ValueError, match="lacks 256 of 256 bytes"):
        ByteBPEEncoder(RobertaTokens().names, [])
    with pytest.raises(ValueError, match="neither <s>"):
        ByteBPEEncoder([*BYTE_ALPHABET], [])
    with pytest.raises(ValueError, match="supports only 261 entries"):
        learn_byte_bpe(SCHEMA.empty_table(), ByteBPEConfig())
    with pytest.raises(ValueError, match="63 bits"):
        learn_byte_bpe(table_of({"ab": 2**62}), ByteBPEConfig())


def test_published_gpt2_gives_the_recorded_ids(shared_data: Path) -> None:
    """1,136 texts of every shared data set, ids recorded from `tokenizers` 0.23.3."""
    ids = json.loads(gzip.decompress((shared_data / "vocab/gpt2-encoder.json.gz").read_bytes()))
    lines = gzip.decompress((shared_data / "vocab/gpt2-vocab.bpe.gz").read_bytes()).decode().split("\n")[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line)]
    encoder = ByteBPEEncoder(sorted(ids, key=ids.__getitem__), merges)
    table = pq.read_table(shared_data / "tokenizer_vectors/gpt2.parquet")
    encoded = encoder.encode(table["text"].combine_chunks())
    wanted = table["ids"].combine_chunks()
    assert encoded.tokens_T.tolist() == wanted.flatten().to_pylist()
    assert encoded.offsets.tolist() == [0, *np.cumsum([len(row) for row in wanted]).tolist()]
    assert (encoder.vocab_size, encoder.sep_id) == (50257, 50256)
    with pytest.raises(ValueError, match="no mask token"):
        _ = encoder.mask_id


@pytest.mark.parametrize("special", [RobertaTokens(), GptTokens()])
def test_the_step_writes_files_that_transformers_loads(
    store: Folder, tmp_path: Path, special: RobertaTokens | GptTokens
) -> None:
    config = ByteBPEConfig(vocab_size=400, special_tokens=special)
    made = []
    for parts in (1, 3):
        documents = run_step(write_documents, parts, store=store)
        made.append(run_step(train_byte_bpe, config, store=store, documents=documents))
    artifact = made[1]
    files = [name for name in artifact.names() if not name.startswith("words/")]
    assert files == ["counts.arrow", "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert all(made[0].read(name) == artifact.read(name) for name in files)
    encoder = encoder_of(artifact)
    assert isinstance(encoder, ByteBPEEncoder)
    assert encoder.digest == ByteBPEEncoder.from_artifact(made[0]).digest
    assert byte_bpe_files(encoder.vocabulary, encoder.merges)["tokenizer.json"] == artifact.read(
        "tokenizer.json"
    )
    for name in files[1:]:
        (tmp_path / name).write_bytes(artifact.read(name))
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Kamirotel  unseen größe 中.\n\nIt's!"
    ids = encoder.encode([text]).tokens_T.tolist()
    whole = [encoder.cls_id, *ids, encoder.sep_id] if isinstance(special, RobertaTokens) else ids
    assert loaded(text)["input_ids"] == whole
    assert loaded.decode(ids) == text
    if isinstance(special, RobertaTokens):
        assert (loaded.mask_token_id, loaded.pad_token_id) == (encoder.mask_id, encoder.pad_id)
