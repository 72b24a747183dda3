"""Unigram: the ids of `tokenizers`, learned from counts only, loaded by transformers."""

import io
import random
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus.vocabulary.unigram_train as train_module
import corpus.wordpiece.units as units_module
from corpus.vocabulary.counts import merge_counts
from corpus.vocabulary.open import encoder_of
from corpus.vocabulary.unigram import WORD_MARK, NormalizedRuns, UnigramEncoder
from corpus.vocabulary.unigram_train import UnigramConfig, learn_unigram, train_unigram
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.test_vocabulary_byte_bpe import MORE, TORTURE
from tests.corpus.test_wordpiece_train import TEXT, table_of, write_documents

ODD = [
    "a▁b",
    "▁",
    "▁▁x ▁",
    "x¨y",
    "¨",
    " ¨y",
    "ﷺ",
    "a\u3000b",
    "\u00a0",
    "x\u00a0",
    "½",
    "<unk>",
    "<pad>[CLS]",
    "①②",
    "ﬁ\u0301",
]
COLUMN = pa.array(TEXT, pa.large_string())
PIECES = learn_unigram(NormalizedRuns().count(COLUMN), UnigramConfig(vocab_size=300))
ENCODER = UnigramEncoder(PIECES)


def assert_equal_to_library(encoder: UnigramEncoder, texts: list[str]) -> None:
    ours = encoder.encode(texts)
    for i, theirs in enumerate(encoder.library.encode_batch(texts, add_special_tokens=False)):
        row = slice(ours.offsets[i], ours.offsets[i + 1])
        assert ours.tokens_T[row].tolist() == theirs.ids, texts[i]
        words = theirs.word_ids
        starts = [j == 0 or words[j] != words[j - 1] for j in range(len(words))]
        assert ours.word_start_T[row].tolist() == starts, texts[i]
    assert ours.offsets[-1] == len(ours.tokens_T) == len(ours.word_start_T)


def test_awkward_text_has_the_ids_of_tokenizers() -> None:
    rows = [*TORTURE, *ODD]
    assert_equal_to_library(
        ENCODER, [*rows, *(a + b for a in rows for b in ODD), *(a + " " + b for a in ODD for b in MORE)]
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(
                st.sampled_from([*TORTURE, *ODD, " ", "\n"]),
                st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
                st.text(string.printable, max_size=12),
            ),
            max_size=8,
        ).map("".join),
        max_size=4,
    )
)
def test_any_text_has_the_ids_of_tokenizers(rows: list[str]) -> None:
    assert_equal_to_library(ENCODER, rows)


def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*TORTURE, *ODD, *TEXT[:20]]
    whole = ENCODER.encode(rows)
    monkeypatch.setattr(units_module, "BLOCK_BYTES", 50)
    again = UnigramEncoder(PIECES).encode(rows)
    assert np.array_equal(whole.tokens_T, again.tokens_T)
    assert np.array_equal(whole.offsets, again.offsets)


def test_tokens_begin_at_the_letters_of_their_words() -> None:
    text = "  Kamirotel größe\n\nx"
    encoded = ENCODER.encode([text], token_starts=True)
    starts = encoded.token_starts_T
    data = text.encode()
    words = starts[encoded.word_start_T].tolist()
    assert words == [data.index(b"Kami"), data.index(b"gr"), data.index(b"x")]
    for start, token in zip(starts.tolist(), encoded.tokens_T.tolist(), strict=True):
        if token != ENCODER.unk_id:
            assert (
                data[start:]
                .decode(errors="ignore")
                .startswith(ENCODER.vocabulary[token].removeprefix(WORD_MARK))
            )


def test_the_vocabulary_is_a_function_of_the_counts() -> None:
    shuffled = random.Random(0).sample(TEXT, len(TEXT))
    parts = [pa.array(shuffled[i::3], pa.large_string()) for i in range(3)]
    merged = merge_counts(map(NormalizedRuns().count, parts))
    assert merged.equals(NormalizedRuns().count(COLUMN))
    again = merged.take(random.Random(1).sample(range(len(merged)), len(merged)))
    assert learn_unigram(again, UnigramConfig(vocab_size=300)) == PIECES
    assert len(ENCODER.vocabulary) == 300


def test_sentencepiece_learns_the_same_from_the_text_itself() -> None:
    """Counts stand for text: the trainer, given every word as often as it occurs, learns the same entries."""
    import sentencepiece

    words = [word for text in TEXT for word in text.split()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sorted(words, key=str.encode)), model_writer=model, vocab_size=296, normalization_rule_name="identity",
        num_threads=1, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=3,
    )  # fmt: skip
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert [piece for piece, _ in PIECES] == [learned.id_to_piece(i) for i in range(learned.get_piece_size())]
    for text in TEXT[:50]:
        assert learned.encode(text) == ENCODER.encode([text]).tokens_T.tolist()


def test_counts_beyond_32_bits_are_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "MOST_CHARACTERS", 1 << 17)
    few = {"ab" * n + "c" * m: 7 * n + m for n in range(1, 6) for m in range(6)}
    config = UnigramConfig(vocab_size=20)
    once, large = (
        learn_unigram(table_of({w: c << shift for w, c in few.items()}), config) for shift in (4, 33)
    )
    assert once == large
    assert len(once) == 16


def test_counts_are_scaled_by_the_smallest_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "MOST_CHARACTERS", 40)
    counts, lengths = np.array([10, 5, 1, 3]), np.array([3, 4, 2, 2])
    assert train_module.scaled_down(counts, lengths).tolist() == [5, 3, 1, 2]  # 58 characters, then 33
    assert train_module.scaled_down(np.array([10, 1]), lengths[:2]).tolist() == [10, 1]
    assert train_module.scaled_down(np.array([1 << 40, 1]), lengths[:2]).tolist() == [8, 0]


def test_a_text_cannot_inject_special_tokens() -> None:
    tokens = ENCODER.encode(["<pad> [CLS] x[MASK]x [SEP]"]).tokens_T
    assert len(tokens) > 4
    assert tokens.max() < len(PIECES)


def test_the_step_writes_files_that_transformers_loads(store: Folder, tmp_path: Path) -> None:
    made = [
        run_step(
            train_unigram,
            UnigramConfig(vocab_size=300),
            store=store,
            documents=run_step(write_documents, parts, store=store),
        )
        for parts in (1, 3)
    ]
    files = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
    assert all(made[0].read(name) == made[1].read(name) for name in files)
    encoder = encoder_of(made[1])
    assert isinstance(encoder, UnigramEncoder)
    assert encoder.digest == ENCODER.digest
    for name in files:
        (tmp_path / name).write_bytes(made[1].read(name))
    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path)
    text = "Kamirotel  unseen größe\n中."
    assert loaded(text)["input_ids"] == [
        encoder.cls_id,
        *encoder.encode([text]).tokens_T.tolist(),
        encoder.sep_id,
    ]
    special = (loaded.mask_token_id, loaded.pad_token_id, loaded.unk_token_id)
    assert special == (encoder.mask_id, encoder.pad_id, encoder.unk_id)


def test_real_text_in_many_languages(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "parallel/tatoeba_112langs.parquet", columns=["tgt"])[
        "tgt"
    ].to_pylist()[::20]
    assert len(rows) > 3000
    pieces = learn_unigram(
        NormalizedRuns().count(pa.array(rows, pa.large_string())), UnigramConfig(vocab_size=6000)
    )
    assert_equal_to_library(UnigramEncoder(pieces), rows)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=5000 does not suit 2 distinct words"):
        learn_unigram(table_of({"ab": 3, "ac": 2}), UnigramConfig(vocab_size=5000))
    with pytest.raises(ValueError, match="vocab_size=3 is too small"):
        UnigramConfig(vocab_size=3)
    with pytest.raises(ValueError, match=r"character_coverage=0\.5"):
        UnigramConfig(character_coverage=0.5)
    with pytest.raises(ValueError, match="begins with <unk>"):
        UnigramEncoder([("a", -1.0)])
    with pytest.raises(ValueError, match="repeat <pad>"):
        UnigramEncoder([("<unk>", 0.0), ("<pad>", -1.0)])
