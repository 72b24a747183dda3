"""Encoding in columns gives the ids that `tokenizers` gives one text at a time, for every input."""

import gzip
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import corpus.vocabulary.columns as columns_module
import corpus.wordpiece.units as units_module
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, library_tokenizer, vocabulary_files
from corpus.wordpiece.normalization import JOINS, STANDS_ALONE, Normalization

LETTERS = string.ascii_letters + string.digits + "éüñßıłøπσςжщ中国猫かなกال"
VOCABULARY = [
    *SPECIAL_TOKENS,
    *string.punctuation,
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    *(
        "the",
        "un",
        "##aff",
        "##able",
        "hello",
        "world",
        "Hello",
        "don",
        "naive",
        "##ing",
        "##ed",
        "mask",
        "cls",
        "東",
        "e\u0301",
    ),
]


def reference(lowercase: bool, special: bool = False) -> Tokenizer:
    tokenizer = library_tokenizer(VOCABULARY, lowercase, special_tokens=special)
    tokenizer.no_padding()
    return tokenizer


def assert_equal_to_library(encoder: Encoder, tokenizer: Tokenizer, texts: list[str]) -> None:
    ours = encoder.encode(texts, token_starts=True)
    first_bytes = np.cumsum([0, *(len(text.encode()) for text in texts)])
    assert len(ours.offsets) == len(texts) + 1
    assert ours.offsets[-1] == len(ours.tokens_T) == len(ours.word_start_T)
    for i, theirs in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
        row = slice(ours.offsets[i], ours.offsets[i + 1])
        assert ours.tokens_T[row].tolist() == theirs.ids, texts[i]
        words = theirs.word_ids
        starts = [j == 0 or words[j] != words[j - 1] or words[j] is None for j in range(len(words))]
        assert ours.word_start_T[row].tolist() == starts, texts[i]
        begins = [first_bytes[i] + len(texts[i][:begin].encode()) for begin, _ in theirs.offsets]
        assert ours.token_starts_T[row].tolist() == begins, texts[i]


ENCODERS = {
    (lowercase, special): (
        Encoder(VOCABULARY, lowercase=lowercase, literal_special_tokens=special),
        reference(lowercase, special),
    )
    for lowercase in (True, False)
    for special in (True, False)
}

# What real text rarely holds but must not be able to change: controls, separators, marks, surrogate neighbours.
AWKWARD = [
    "", " ", "\0", "a\0b", "\0\0\0\0\0\0\0\0\0\0", "abcdefgh\0", "a\x0bb\x0cc", "a\x1cb\x1dc\x1ed\x1fe\x7ff", "a\x85b",
    "a\u2028b\u2029c", "a\u00a0b\u1680c\u2003d\u3000e", "a\u200bb\u200cc\u200dd\ufeffe", "\ufffd", "a\u00adb",
    "e\u0301", "\u0301", " \u0301x", ".\u0301x", "e\u0301\u0323\u0308", "e\u0323\u0301", "=\u0338", "\u2260\u0327", "\u226e",
    "İstanbul", "ı", "ẞß", "ΑΣ Σας", "ﬁﬂ", "ǅ", "Å Å Å", "\u0340\u0341", "\u037e;", "\u1fef`", "가각힣 각", "\u302e\u302fab",
    "\U0001d15e", "\U0001d165\U0001d16d\u302e", "中文abc中", "中\u0301", "㐀\U00020000豈\uf900\U0002f800", "かな漢字カナ", "ｆｕｌｌ",
    "กขค ลาว ខ្មែរ", "שלום‏ العربية", "नमस्ते", "👩‍👩‍👧", "🇩🇪", "\ue000\U0010ffff\U000e0001", "don't", "a_b-c@d@@", "x" * 100,
    "x" * 101, "é" * 100, "é" * 101, "x" * 5000, "中" * 300, "\t\n\r", "a\tb\nc\rd", "[MASK]", "[mask]", "a[MASK]b", "[[MASK]]", "[MASK",
    "[CLS][SEP][PAD][UNK][MASK]", "x[SEP]\u0301y", "é[MASK]é", "[MA\u200bSK]", "##ing", "un##aff",
]  # fmt: skip
pieces = st.one_of(
    st.sampled_from(AWKWARD),
    st.sampled_from(VOCABULARY),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text(st.characters(categories=["Mn", "Mc", "Me", "Cc", "Cf", "Zl", "Zp", "Zs", "P", "S"]), max_size=4),
    st.text(string.printable, max_size=20),
)
texts = st.lists(pieces, max_size=12).flatmap(lambda p: st.sampled_from(["".join(p), " ".join(p)]))


@pytest.mark.parametrize("kind", ENCODERS, ids=str)
def test_awkward_text_has_the_ids_of_tokenizers(kind: tuple[bool, bool]) -> None:
    pairs = [a + b for a in AWKWARD for b in AWKWARD]
    assert_equal_to_library(*ENCODERS[kind], AWKWARD + pairs)


@settings(max_examples=400, deadline=None)
@given(st.lists(texts, max_size=4))
@example(["a", "", "b"])
@example(["[MA", "SK]"])
def test_any_text_has_the_ids_of_tokenizers(rows: list[str]) -> None:
    for encoder, tokenizer in ENCODERS.values():
        assert_equal_to_library(encoder, tokenizer, rows)


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character_is_cut_where_tokenizers_cuts_it(lowercase: bool) -> None:
    """The claim behind units: beside a character that stands alone, the two sides do not see each other."""
    normalization = Normalization(lowercase)
    codes = np.array([c for c in range(0x80, 0x110000) if not 0xD800 <= c <= 0xDFFF], np.uint32)
    assigned = codes[
        (codes < 0x3400) | ((codes >= 0xA000) & (codes < 0x12000)) | ((codes >= 0x16000) & (codes < 0x20100))
    ]
    classes = normalization.classes(assigned)
    assert set(classes.tolist()) == {JOINS, STANDS_ALONE}
    for left, right in (
        ("e", "e"),
        ("e\u0301", "\u0301e"),
        ("\u302e", "\u1d165\u0327"),
        ("가", "\u11a8"),
        ("中", "\u200d"),
    ):
        for chosen in np.array_split(assigned[classes == STANDS_ALONE], 20):
            chars = [chr(c) for c in chosen.tolist()]
            whole = normalization.words(" @ ".join(left + c + right for c in chars))
            parts = normalization.words(" @ ".join(f"{left} {c} {right}" for c in chars))
            assert whole == parts


def test_a_batch_is_cut_anywhere_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*AWKWARD, "the naïve 中文 don't " * 30, "x" * 3000, " " * 500, "é" * 700]
    encoder = Encoder(VOCABULARY)
    whole = encoder.encode(rows)
    for size in (16, 100, 1000):
        monkeypatch.setattr(units_module, "BLOCK_BYTES", size)
        for again in (encoder.encode(rows), Encoder(VOCABULARY).encode(rows)):
            assert np.array_equal(whole.tokens_T, again.tokens_T)
            assert np.array_equal(whole.offsets, again.offsets)
            assert np.array_equal(whole.word_start_T, again.word_start_T)


def test_a_full_table_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "TABLE_LIMIT", 20)
    monkeypatch.setattr(units_module, "BLOCK_BYTES", 64)
    encoder, tokenizer = Encoder(VOCABULARY, literal_special_tokens=True), reference(True, special=True)
    assert_equal_to_library(
        encoder, tokenizer, ["the [MASK] " + " ".join(map(str, range(i * 50))) for i in range(9)]
    )


def test_endless_words_are_no_burden() -> None:
    """A megabyte without a space is one [UNK], and costs no path of a hundred thousand blocks in the table."""
    encoder = Encoder(VOCABULARY)
    rows = ["x" * 2_000_000, "é" * 300 + "the", "x" * 2_000_000, "x" * 257, "x" * 256]
    assert encoder.encode(rows).tokens_T.tolist() == [encoder.unk_id] * 5
    assert encoder._table.size < 100


def test_marks_find_the_token_that_begins_there() -> None:
    rows = ["Hello world. Don't.", "", "中文。中", "unaffable"]
    data = "".join(rows).encode()
    marks = np.array([0, 13, 16, len(rows[0]), len(rows[0]) + 9, len(data) - 9, len(data)])
    encoder = Encoder(VOCABULARY)
    encoded = encoder.encode(rows, marks)
    tokens = [encoder.vocabulary[i] for i in encoded.tokens_T]
    assert tokens == [
        "hello",
        "world",
        ".",
        "don",
        "'",
        "t",
        ".",
        "中",
        "[UNK]",
        "[UNK]",
        "中",
        "un",
        "##aff",
        "##able",
    ]
    assert encoded.mark_offsets.tolist() == [0, 3, 4, 7, 10, 11, 14]


def test_token_starts_are_computed_when_asked_for() -> None:
    encoder = Encoder(VOCABULARY)
    before = encoder.encode(["the naïve  unaffable"])
    with pytest.raises(ValueError, match="token_starts=True"):
        _ = before.token_starts_T
    after = encoder.encode(["the naïve  unaffable"], token_starts=True)
    assert after.token_starts_T.tolist() == [0, 4, 12, 14, 17]
    assert after.tokens_T.tolist() == before.tokens_T.tolist()


def test_all_arrow_string_columns_are_read() -> None:
    encoder = Encoder(VOCABULARY)
    rows = ["the", None, "world 中", ""]
    wanted = encoder.encode(["the", "", "world 中", ""])
    whole = pa.array(["x", *rows, "y"])
    for array in (
        pa.array(rows),
        pa.array(rows, pa.large_string()),
        whole[1:5],
        whole.cast(pa.large_string())[1:5],
    ):
        encoded = encoder.encode(array)
        assert encoded.tokens_T.tolist() == wanted.tokens_T.tolist()
        assert encoded.offsets.tolist() == wanted.offsets.tolist()
    assert encoder.encode([]).offsets.tolist() == [0]
    with pytest.raises(TypeError, match="int64"):
        encoder.encode(pa.array([1, 2]))


def test_a_text_cannot_inject_special_tokens() -> None:
    encoder = Encoder(VOCABULARY)
    encoded = encoder.encode(["a [MASK] [SEP]"])
    assert not {encoder.mask_id, encoder.sep_id} & set(encoded.tokens_T.tolist())


def test_a_bad_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        Encoder(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    with pytest.raises(ValueError, match="'a' twice"):
        Encoder([*SPECIAL_TOKENS, "a", "a"])


@pytest.mark.parametrize("lowercase", [True, False])
def test_written_files_are_read_back(tmp_path: Path, lowercase: bool) -> None:
    vocabulary = [*VOCABULARY, "\u2028", "\u0085", "a b"]
    for name, content in vocabulary_files(vocabulary, lowercase).items():
        (tmp_path / name).write_bytes(content)
    for name in ("", "tokenizer.json"):
        (tmp_path / name).unlink() if name else None
        encoder = Encoder.from_files(tmp_path)
        assert (encoder.vocabulary, encoder.lowercase) == (tuple(vocabulary), lowercase)
        assert encoder.digest == Encoder(vocabulary, lowercase=lowercase).digest


def test_another_normalisation_is_refused(tmp_path: Path) -> None:
    for name, content in vocabulary_files(VOCABULARY, True).items():
        (tmp_path / name).write_bytes(content.replace(b'"clean_text": true', b'"clean_text": false'))
    with pytest.raises(ValueError, match="clean_text False"):
        Encoder.from_files(tmp_path)


@pytest.mark.parametrize(("name", "lowercase"), [("bert-base-uncased", True), ("bert-base-chinese", False)])
def test_published_vocabularies_give_the_recorded_ids(shared_data: Path, name: str, lowercase: bool) -> None:
    """1,136 texts of every shared data set, ids recorded from `tokenizers` 0.23.3 (literal special tokens kept)."""
    vocabulary = gzip.decompress((shared_data / "vocab" / f"{name}-vocab.txt.gz").read_bytes()).decode()
    encoder = Encoder(
        vocabulary.removesuffix("\n").split("\n"), lowercase=lowercase, literal_special_tokens=True
    )
    table = pq.read_table(shared_data / "tokenizer_vectors" / f"{name.replace('-', '_')}.parquet")
    encoded = encoder.encode(table["text"].combine_chunks())
    ids = table["ids"].combine_chunks()
    assert encoded.tokens_T.tolist() == ids.flatten().to_pylist()
    assert encoded.offsets.tolist() == [0, *np.cumsum([len(row) for row in ids]).tolist()]
