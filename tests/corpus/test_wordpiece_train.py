"""A vocabulary is a function of the word counts, and the library's own training agrees with it."""

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer, Tokenizer

from corpus.document import Document, document_id, to_table, write_table
from corpus.vocabulary.counts import SCHEMA, merge_counts, read_counts, write_counts
from corpus.wordpiece.count import count_words
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from corpus.wordpiece.normalization import Normalization
from corpus.wordpiece.symbols import CONTINUES, Symbols
from corpus.wordpiece.train import WordPieceConfig, learn_vocabulary, train_wordpiece
from infra.artifacts import Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

SYLLABLES = re.findall(
    r"\w+", "ka ro mi tel an un ing est ver da lo si pre con ti on al er naï größ 中 数 ξε"
)


def synthetic_text(words: int, *, seed: int = 0) -> list[str]:
    """Lines of made-up words with a natural (Zipf) distribution, punctuation and some accents."""
    rng = random.Random(seed)
    lexicon = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(2000)]
    ranks = [1 / (i + 1) for i in range(len(lexicon))]
    drawn = rng.choices(lexicon, ranks, k=words)
    return [" ".join(drawn[i : i + 20]).capitalize() + "." for i in range(0, words, 20)]


def table_of(counts: dict[str, int]) -> pa.Table:
    return pa.table([list(counts), list(counts.values())], schema=SCHEMA)


def learn(counts: dict[str, int], vocab_size: int, **options: int) -> list[str]:
    return learn_vocabulary(table_of(counts), WordPieceConfig(vocab_size=vocab_size, **options))


def join(left: str, right: str) -> str:
    return left + right.removeprefix(CONTINUES)


def learn_slowly(counts: dict[str, int], vocab_size: int, min_frequency: int) -> list[str]:
    """The same by the definition: count all pairs anew before every merge."""
    spelled = {word: [word[0], *(CONTINUES + c for c in word[1:])] for word in counts}
    alphabet = sorted({c for word in counts for c in word})
    continuing = sorted({c for word in counts for c in word[1:]})
    entries = [*SPECIAL_TOKENS, *alphabet, *(CONTINUES + c for c in continuing)]
    while len(entries) < vocab_size:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, pieces in spelled.items():
            for left, right in pairwise(pieces):
                pairs[entries.index(left), entries.index(right)] += counts[word]
        best = min(pairs, key=lambda p: (-pairs[p], p), default=None)
        if best is None or pairs[best] < min_frequency:
            raise ValueError("supports only")
        left, right = entries[best[0]], entries[best[1]]
        if join(left, right) not in entries:
            entries.append(join(left, right))
        for pieces in spelled.values():
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i : i + 2] = [join(left, right)]
                i += 1
    return entries


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("aab中", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=12),
    st.integers(0, 25),
    st.integers(1, 3),
)
def test_incremental_counts_are_true_counts(counts: dict[str, int], more: int, min_frequency: int) -> None:
    size = (
        len(SPECIAL_TOKENS)
        + len({c for w in counts for c in w})
        + len({c for w in counts for c in w[1:]})
        + more
    )
    try:
        slow = learn_slowly(counts, size, min_frequency)
    except ValueError:
        with pytest.raises(ValueError, match="supports only"):
            learn(counts, size, min_frequency=min_frequency)
    else:
        assert learn(counts, size, min_frequency=min_frequency) == slow


def test_the_textbook_example() -> None:
    counts = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    learned = learn(counts, 5 + 7 + 4 + 6)
    assert learned[5:12] == list("bghnpsu")
    assert learned[12:16] == ["##g", "##n", "##s", "##u"]
    assert learned[16:] == [
        "##ug",
        "##un",
        "hug",
        "pun",
        "pug",
        "hugs",
    ]  # the tie at 5: (p, ##ug) before (hug, ##s)


def test_counts_beyond_32_bits_do_not_wrap() -> None:
    assert learn({"ab": 2**33, "ac": 2**33 - 1, "bc": 5}, 12, min_frequency=2**32)[-2:] == ["ab", "ac"]


def test_words_are_counted_as_the_library_splits_them() -> None:
    texts = [*synthetic_text(3000), "A\u0301 İ ẞ don't \0x [MASK] 中文 e\u0301 …“x”", "", "\u0301"]
    for lowercase in (True, False):
        wanted = Counter(word for text in texts for word in Normalization(lowercase).words(text))
        counted = count_words(pa.array(texts, pa.large_string()), lowercase)
        assert dict(zip(*counted.to_pydict().values(), strict=True)) == wanted
        words = counted["word"].to_pylist()
        assert words == sorted(words, key=str.encode)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=8), st.randoms())
def test_partitioning_changes_nothing(cuts: list[int], rng: random.Random) -> None:
    texts = synthetic_text(4000)
    whole = count_words(pa.array(texts, pa.large_string()), True)
    shuffled = rng.sample(texts, len(texts))
    edges = sorted({0, *cuts, len(texts)})
    parts = [shuffled[a:b] for a, b in pairwise(edges)]
    merged = merge_counts(count_words(pa.array(part, pa.large_string()), True) for part in parts)
    assert merged.equals(whole)
    assert learn_vocabulary(merged, WordPieceConfig(vocab_size=300)) == learn_vocabulary(
        whole.take(rng.sample(range(len(whole)), len(whole))), WordPieceConfig(vocab_size=300)
    )


def test_counts_are_stored_and_summed_in_64_bits(tmp_path: Path) -> None:
    table = table_of({"a": 2**62, "中": 3})
    write_counts(tmp_path / "w.arrow", table)
    assert read_counts(tmp_path / "w.arrow").equals(table)
    assert merge_counts([table, table, table])["count"].to_pylist() == [3 * 2**62, 9]
    assert merge_counts([]).equals(SCHEMA.empty_table())


def library_vocabulary(texts: list[str], vocab_size: int) -> dict[str, int]:
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        texts, vocab_size=vocab_size, min_frequency=2, limit_alphabet=1000, show_progress=False
    )
    return tokenizer.get_vocab()


def test_the_library_learns_a_vocabulary_that_this_training_allows() -> None:
    """Equal but for ties, which the library breaks differently in every run: each of its entries, in its order, comes
    from a pair that is among the most frequent ones at that point."""
    texts = synthetic_text(20_000)
    theirs = library_vocabulary(texts, 500)
    words = count_words(pa.array(texts, pa.large_string()), True)
    symbols = Symbols(
        words["word"].to_pylist(),
        words["count"].to_numpy().astype(np.int64),
        SPECIAL_TOKENS,
        alphabet_size=1000,
    )
    in_order = sorted(theirs, key=theirs.__getitem__)
    given = len(symbols.entries)
    assert set(in_order[:given]) == set(symbols.entries)
    for entry in in_order[given:]:
        best = symbols.count_of(symbols.most_frequent(2))
        made_by = {join(*symbols.texts_of(pair)): pair for pair in symbols.pairs_with(best)}
        assert entry in made_by
        symbols.merge(made_by[entry])


def test_without_ties_the_library_learns_the_same_set() -> None:
    rng = random.Random(1)
    lexicon = ["".join(rng.choices(SYLLABLES, k=3)) for _ in range(40)]
    texts = [f"{word} " * int(1000 / (1 + 0.37 * i) + 7 * i) for i, word in enumerate(lexicon)]
    words = count_words(pa.array(texts, pa.large_string()), True)
    sizes = range(120, 160)
    ours = {size: set(learn_vocabulary(words, WordPieceConfig(vocab_size=size))) for size in sizes}
    assert any(ours[size] == set(library_vocabulary(texts, size)) for size in sizes)


def test_text_too_small_for_the_vocabulary_is_refused() -> None:
    texts = pa.array(synthetic_text(100), pa.large_string())
    words = count_words(texts, True)
    with pytest.raises(
        ValueError,
        match=r"vocab_size=30000 but the text supports only \d+ entries at min_frequency=2; lower vocab_size or add text",
    ):
        learn_vocabulary(words, WordPieceConfig(vocab_size=30000))
    with pytest.raises(ValueError, match="supports only 5 entries"):
        learn_vocabulary(SCHEMA.empty_table(), WordPieceConfig())
    with pytest.raises(ValueError, match=r"characters alone are \d+ entries; raise vocab_size"):
        learn_vocabulary(words, WordPieceConfig(vocab_size=20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 5}, "vocab_size=5 leaves no room"),
        ({"min_frequency": 0}, "min_frequency=0 must be"),
        ({"alphabet_size": 0}, "alphabet_size=0 must be"),
    ],
)
def test_a_bad_config_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordPieceConfig(**options)


def test_rare_characters_are_left_out() -> None:
    learned = learn({"aaa": 9, "bab": 5, "zaz": 1, "ab": 3}, 10, alphabet_size=2)
    assert learned[5:9] == ["a", "b", "##a", "##b"]


TEXT = synthetic_text(6000)


def write_documents(config: int, *, out: Output) -> Counts:
    for part in range(config):
        rows = [Document(document_id(t), t, "t", "test", "f", 1, "en") for t in TEXT[part::config]]
        with out.writer(f"{part:02}.parquet") as target:
            write_table(target, to_table(rows))
    return {"documents": len(TEXT)}


def test_the_step_writes_files_that_tokenizers_and_transformers_load(store: Folder, tmp_path: Path) -> None:
    config = WordPieceConfig(vocab_size=400)
    made = []
    for partitions in (1, 3):
        documents = run_step(write_documents, partitions, store=store)
        made.append(run_step(train_wordpiece, config, store=store, documents=documents))
    artifact = made[1]
    files = {name: artifact.read(name) for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json")}
    assert all(made[0].read(name) == content for name, content in files.items())
    assert artifact.names("words/") == ["words/00.arrow", "words/01.arrow", "words/02.arrow"]
    assert artifact.counts["vocab_size"] == 400
    assert artifact.counts["documents"] == len(TEXT)

    encoder = Encoder.from_artifact(artifact)
    text = "Kamirotel unseen größe [MASK]."
    ids = encoder.encode([text]).tokens_T.tolist()
    library = Tokenizer.from_str(files["tokenizer.json"].decode())
    library.encode_special_tokens = True
    assert library.encode(text).ids == [encoder.cls_id, *ids, encoder.sep_id]
    assert library.encode(text, text).type_ids == [0] * (len(ids) + 2) + [1] * (len(ids) + 1)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("Kamirotel unseen größe.")["input_ids"] == [
        encoder.cls_id, *encoder.encode(["Kamirotel unseen größe."]).tokens_T.tolist(), encoder.sep_id,
    ]  # fmt: skip
    assert (loaded.mask_token_id, loaded.pad_token_id, loaded.model_max_length) == (
        encoder.mask_id,
        encoder.pad_id,
        512,
    )


def test_the_uncased_flag_reaches_every_file() -> None:
    for lowercase in (True, False):
        files = vocabulary_files([*SPECIAL_TOKENS, "a"], lowercase)
        assert json.loads(files["tokenizer_config.json"])["do_lower_case"] is lowercase
        assert json.loads(files["tokenizer.json"])["normalizer"]["lowercase"] is lowercase
