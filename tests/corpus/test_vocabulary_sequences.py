"""Letters, k-mers and characters have the ids of `tokenizers`, and what transformers loads agrees."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus.vocabulary.word_level as word_level_module
from corpus.vocabulary.characters import (
    ELMO_BEGIN_SENTENCE,
    ELMO_PADDING,
    ELMO_VOCAB_SIZE,
    CharacterEncoder,
    Characters,
    CharactersConfig,
    choose_characters,
    elmo_characters,
    elmo_sentence_mark,
    train_characters,
)
from corpus.vocabulary.open import encoder_of
from corpus.vocabulary.sequences import (
    DNA,
    PROTEIN,
    KmersConfig,
    LettersConfig,
    make_sequence_vocabulary,
)
from corpus.vocabulary.word_level import WordLevelEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.test_vocabulary_byte_bpe import TORTURE
from tests.corpus.test_wordpiece_train import TEXT, write_documents

CONFIGS = {
    "letters": LettersConfig(letters=DNA),
    "protein": LettersConfig(letters=PROTEIN),
    "side by side": KmersConfig(k=3, overlapping=False),
    "overlapping": KmersConfig(k=3),
}
CHARACTERS_COLUMN = pa.array(["a中é", "", "中a 中😀\n"], pa.large_string())
CHARACTERS = CharacterEncoder([*SPECIAL_TOKENS, *sorted(set("".join(TEXT) + "中é \n'x"))])
sequences = st.lists(st.text("ACGTacgtN \n\r\tXé中\u00a0😀-*", max_size=40), max_size=5)


def assert_equal_to_library(encoder: WordLevelEncoder, texts: list[str]) -> None:
    encoder.library.encode_special_tokens = True
    ours = encoder.encode(texts, token_starts=True)
    first_bytes = np.cumsum([0, *(len(text.encode()) for text in texts)])
    for i, theirs in enumerate(encoder.library.encode_batch(texts, add_special_tokens=False)):
        row = slice(ours.offsets[i], ours.offsets[i + 1])
        assert ours.tokens_T[row].tolist() == theirs.ids, texts[i]
        begins = [first_bytes[i] + len(texts[i][:begin].encode()) for begin, _ in theirs.offsets]
        assert ours.token_starts_T[row].tolist() == begins, texts[i]
    assert ours.offsets[-1] == len(ours.tokens_T) == len(ours.word_start_T)


@pytest.mark.parametrize("name", ["letters", "protein", "side by side"])
@settings(max_examples=150, deadline=None)
@given(rows=sequences)
def test_sequences_have_the_ids_of_tokenizers(name: str, rows: list[str]) -> None:
    assert_equal_to_library(CONFIGS[name].encoder(), rows)


def plain_kmers(text: str, k: int) -> list[str]:
    letters = [c.upper() if c in "acgt" else c for c in text if c not in " \t\r\n"]
    return ["".join(letters[i : i + k]) for i in range(len(letters) - k + 1)]


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_overlapping_kmers_are_what_tokenizers_reads_in_dnaberts_form(rows: list[str]) -> None:
    encoder = CONFIGS["overlapping"].encoder()
    encoded = encoder.encode(rows)
    for i, text in enumerate(rows):
        kmers = [kmer.replace("\u00a0", "?") for kmer in plain_kmers(text, 3)]  # which would end a k-mer
        wanted = encoder.library.encode(" ".join(kmers), add_special_tokens=False).ids
        assert encoded.tokens_T[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() == wanted


def test_dnaberts_vocabulary() -> None:
    encoder = KmersConfig(k=6).encoder()
    assert encoder.vocab_size == 4**6 + 5
    assert encoder.vocabulary[:10] == (*SPECIAL_TOKENS, "AAAAAA", "AAAAAT", "AAAAAC", "AAAAAG", "AAAATA")
    assert encoder.vocabulary[-1] == "GGGGGG"
    encoded = encoder.encode(["ACGTACGT", "ACGTA", "ACGNACGTAC"], token_starts=True)
    assert [encoder.vocabulary[t] for t in encoded.tokens_T] == [
        "ACGTAC", "CGTACG", "GTACGT", "[UNK]", "[UNK]", "[UNK]", "[UNK]", "ACGTAC",
    ]  # fmt: skip
    assert encoded.offsets.tolist() == [0, 3, 3, 8]
    assert encoded.token_starts_T.tolist() == [0, 1, 2, 13, 14, 15, 16, 17]


def test_side_by_side_the_rest_is_spelled() -> None:
    encoder = KmersConfig(k=3, overlapping=False).encoder()
    encoded = encoder.encode([">".join(["acgta", "ac\ngtN"])])
    assert [encoder.vocabulary[t] for t in encoded.tokens_T] == [
        "ACG",
        "T",
        "A",
        "[UNK]",
        "ACG",
        "T",
        "[UNK]",
    ]


def test_real_sequences(shared_data: Path) -> None:
    for file, config in (("dna/splice_dev", "side by side"), ("protein/flip_ss3_valid", "protein")):
        rows = pq.read_table(shared_data / f"{file}.parquet")["sequence"].to_pylist()
        assert len(rows) > 300
        assert_equal_to_library(CONFIGS[config].encoder(), rows)
    protein = CONFIGS["protein"].encoder()
    assert (protein.encode(rows).tokens_T == protein.unk_id).sum() == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TORTURE), st.text(max_size=20)), max_size=5))
def test_characters_have_the_ids_of_tokenizers(rows: list[str]) -> None:
    assert_equal_to_library(CHARACTERS, rows)


def test_words_of_characters_begin_after_white_space() -> None:
    encoded = CHARACTERS.encode(["ab  c", "d"], np.array([4]))
    assert encoded.word_start_T.tolist() == [True, False, True, True, True, True]
    assert encoded.mark_offsets.tolist() == [4]


@pytest.mark.parametrize("name", CONFIGS)
def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    encoder = CONFIGS[name].encoder()
    rows = ["ACGTN", "", "acgtacgt\nACG", "TTTTTTTT", "N", "中ACGTA"] * 3
    whole = encoder.encode(rows, np.array([3, 9]), token_starts=True)
    monkeypatch.setattr(word_level_module, "BLOCK_BYTES", 4)
    again = encoder.encode(rows, np.array([3, 9]), token_starts=True)
    for field in ("tokens_T", "offsets", "word_start_T", "mark_offsets", "token_starts_T"):
        assert np.array_equal(getattr(whole, field), getattr(again, field))
    with pytest.raises(ValueError, match="token_starts=True"):
        _ = encoder.encode(rows).token_starts_T


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_a_sequence_vocabulary(store: Folder, tmp_path: Path, name: str) -> None:
    artifact = run_step(make_sequence_vocabulary, CONFIGS[name], store=store)
    encoder = encoder_of(artifact)
    made = CONFIGS[name].encoder()
    assert (type(encoder), encoder.digest, tuple(encoder.vocabulary)) == (
        type(made),
        made.digest,
        made.vocabulary,
    )
    for file in artifact.names():
        (tmp_path / file).write_bytes(artifact.read(file))
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "ACGTACGTN"
    read = " ".join(plain_kmers(text, 3)) if name == "overlapping" else text
    ids = encoder.encode([text]).tokens_T.tolist()
    assert len(ids) > 4
    assert loaded(read)["input_ids"] == [encoder.cls_id, *ids, encoder.sep_id]
    assert (loaded.mask_token_id, loaded.pad_token_id) == (encoder.mask_id, encoder.pad_id)


def test_the_character_step(store: Folder, tmp_path: Path) -> None:
    documents = run_step(write_documents, 2, store=store)
    artifact = run_step(train_characters, CharactersConfig(vocab_size=30), store=store, documents=documents)
    encoder = encoder_of(artifact)
    assert isinstance(encoder, CharacterEncoder)
    assert encoder.vocab_size == artifact.counts["vocab_size"] == 30
    counts = {c: "".join(TEXT).count(c) for c in set("".join(TEXT))}
    kept = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:25])
    assert list(encoder.vocabulary[5:]) == kept
    assert artifact.counts["words"] == len("".join(TEXT))
    for file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes(artifact.read(file))
    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXT[0])["input_ids"][1:-1] == encoder.encode([TEXT[0]]).tokens_T.tolist()


def test_characters_are_counted_by_code_point() -> None:
    counted = Characters().count(CHARACTERS_COLUMN)
    assert counted.to_pydict() == {"word": ["\n", " ", "a", "é", "中", "😀"], "count": [1, 1, 2, 1, 3, 1]}
    assert choose_characters(counted, CharactersConfig(vocab_size=100))[5:] == ["a", "中"]


def test_elmo() -> None:
    """The layout of Peters et al.'s own code: begin 258, end 259, padding 260, then all plus one; 0 is masked."""
    words = ["a", "é", "x" * 60, ""]
    rows = elmo_characters(words)
    assert rows.shape == (4, 50)
    for word, row in zip(words, rows.tolist(), strict=True):
        raw = list(word.encode()[:48])
        reference = [258, *raw, 259] + [260] * (48 - len(raw))
        assert row == [c + 1 for c in reference]
    assert rows.max() < ELMO_VOCAB_SIZE
    assert elmo_sentence_mark(ELMO_BEGIN_SENTENCE).tolist() == [259, 257, 260] + [ELMO_PADDING] * 47


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LettersConfig(letters="AA"), "letters='AA' must be different"),
        (lambda: KmersConfig(k=1), "k=1 makes 4"),
        (lambda: KmersConfig(k=13), "k=13 makes 4"),
        (lambda: CharactersConfig(vocab_size=5), "vocab_size=5 leaves no room"),
        (lambda: CharactersConfig(min_frequency=0), "min_frequency=0"),
        (lambda: CharacterEncoder(["a"]), r"no \[PAD\]"),
        (lambda: CharacterEncoder([*SPECIAL_TOKENS, "a", "a"]), "'a' twice"),
    ],
)
def test_a_bad_config_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
