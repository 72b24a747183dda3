"""A released tokenizer becomes a vocabulary that encodes as `tokenizers` does with the released file, or is refused."""

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.vocabulary.byte_files import BYTE_ALPHABET, RobertaTokens
from corpus.vocabulary.imported import ImportedVocabulary, import_vocabulary, read_released
from corpus.vocabulary.one_text import one_text_of
from corpus.vocabulary.open import encoder_of
from corpus.vocabulary.released_unigram import ReleasedUnigramEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from infra.materialize import run_step

WORDS = ["the", "list", "return", "##s", "a", "the", "é", "##t", ".", "中", "naive", "'"]
LETTERS = [(letter, -6.0) for letter in "▁abcdefghijklmnopqrstuvwxyzABT1é中.,'\"[]"]
PIECES = [*LETTERS, ("▁the", -2.0), ("list", -2.0), ("re", -3.0), ("▁lis", -2.5)]
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "l"), ("Ġl", "i"), ("s", "t")]
MERGED = [*BYTE_ALPHABET, *("".join(merge) for merge in MERGES)]
SPACED = "the list\t\treturns a  naïve list.\n\nThé ΅ list's `` ''中文 ½ Ⅳ ﬁ \x0b\x0c x\x85y\u3000z \u200bq \u0301a  "
TEXTS = [
    "",
    " ",
    "\n",
    SPACED,
    SPACED.strip(),
    "<mask> [MASK] <s> [CLS]</s><sep>[SEP] ▁the▁list",
    "x" * 120,
    "TheList ",
]


def bert(lowercase: bool) -> transformers.PreTrainedTokenizerBase:
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *WORDS]))}
    return transformers.BertTokenizer(vocab=vocabulary, do_lower_case=lowercase)


def roberta() -> transformers.PreTrainedTokenizerBase:
    first = RobertaTokens().names[:4]
    ids = {token: i for i, token in enumerate([*first, *MERGED, "madeupword0000", "<mask>"])}
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    return transformers.RobertaTokenizer(vocab=ids, merges=MERGES, mask_token=mask)


def gpt2() -> transformers.PreTrainedTokenizerBase:
    ids = {token: i for i, token in enumerate([*MERGED, "<|endoftext|>"])}
    return transformers.GPT2Tokenizer(vocab=ids, merges=MERGES)


def albert(lowercase: bool = True) -> transformers.PreTrainedTokenizerBase:
    special = [(token, 0.0) for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
    return transformers.AlbertTokenizer(vocab=[*special, *PIECES], do_lower_case=lowercase)


def xlnet() -> transformers.PreTrainedTokenizerBase:
    names = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")
    return transformers.XLNetTokenizer(vocab=[*((token, 0.0) for token in names), *PIECES])


RELEASED = {
    "bert uncased": lambda: bert(True),
    "bert cased": lambda: bert(False),
    "roberta": roberta,
    "gpt2": gpt2,
    "albert": albert,
    "albert cased": lambda: albert(False),
    "xlnet": xlnet,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, tokenizer in RELEASED.items():
        made[name] = tmp_path_factory.mktemp("released")
        tokenizer().save_pretrained(made[name])
    return made


def library(folder: Path) -> Tokenizer:
    """The released file, to which literal special tokens are text, as they are to every encoder of ours."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def assert_same(folder: Path, texts: list[str], encoder) -> None:
    found = encoder.encode(texts, token_starts=True)
    expected = [one.ids for one in library(folder).encode_batch(texts, add_special_tokens=False)]
    rows = [found.tokens_T[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert rows == expected
    assert (found.token_starts_T[1:] >= found.token_starts_T[:-1]).all()


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_vocabulary_encodes_as_its_own_file(name, folders, store):
    config = ImportedVocabulary(folder=str(folders[name]))
    artifact = run_step(import_vocabulary, config, store=store)
    encoder = encoder_of(artifact)
    theirs = library(folders[name])
    assert list(encoder.vocabulary) == [theirs.id_to_token(i) for i in range(theirs.get_vocab_size())]
    assert artifact.counts == {"vocab_size": encoder.vocab_size}
    # there the library spells "<sep>" in a text with the special token, whatever it is told; ours never does
    texts = [text for text in TEXTS if name not in ("xlnet", "albert cased") or "<" not in text]
    assert_same(folders[name], texts, encoder)
    again = transformers.AutoTokenizer.from_pretrained(folders[name])
    if name != "gpt2":
        named = (
            again.pad_token_id,
            again.unk_token_id,
            again.cls_token_id,
            again.sep_token_id,
            again.mask_token_id,
        )
        assert named == (encoder.pad_id, encoder.unk_id, encoder.cls_id, encoder.sep_id, encoder.mask_id)
    assert encoder.digest == read_released(folders[name])[0].digest


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_imported_opens_in_transformers_with_the_same_ids(name, folders, tmp_path):
    for file, content in read_released(folders[name])[1].items():
        (tmp_path / file).write_bytes(content)
    old, new = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (folders[name], tmp_path))
    texts = [f"the list {old.mask_token}." if old.mask_token else "the", "A list of the"]
    assert new(texts)["input_ids"] == old(texts)["input_ids"]
    assert new.mask_token == old.mask_token
    ours, released = one_text_of(tmp_path), one_text_of(folders[name])
    assert ours.named == released.named


@given(texts=st.lists(st.text(alphabet=st.sampled_from(SPACED + "abTl"), max_size=30), max_size=3))
def test_albert_on_any_text(texts, folders):
    assert_same(folders["albert"], texts, read_released(folders["albert"])[0])


def test_no_text_spells_a_special_token(folders):
    encoder = read_released(folders["xlnet"])[0]
    assert isinstance(encoder, ReleasedUnigramEncoder)
    tokens = encoder.encode(["a <sep> <cls>b<pad> <mask>"]).tokens_T.tolist()
    assert not {encoder.sep_id, encoder.cls_id, encoder.pad_id, encoder.mask_id} & set(tokens)


def test_the_oldest_releases_have_only_a_list_of_words(tmp_path, folders):
    for name in ("bert uncased", "bert cased"):
        vocabulary = read_released(folders[name])[0].vocabulary
        (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": name == "bert uncased"}))
        assert_same(folders[name], TEXTS, read_released(tmp_path)[0])


def test_the_file_names_the_result_wherever_it_lies(folders, tmp_path):
    content = (folders["albert"] / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content)
    here, there = ImportedVocabulary(folder=str(tmp_path)), ImportedVocabulary(folder=str(folders["albert"]))
    assert here == there
    (tmp_path / "tokenizer.json").write_bytes(content + b"\n")
    assert ImportedVocabulary(folder=str(tmp_path)) != here


def test_a_folder_that_has_changed_is_not_read(folders, tmp_path, store):
    path = tmp_path / "tokenizer.json"
    path.write_bytes((folders["albert"] / "tokenizer.json").read_bytes())
    config = ImportedVocabulary(folder=str(tmp_path))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"does not hold the tokenizer .* any more; run the command again"):
        run_step(import_vocabulary, config, store=store)


REFUSED = [
    (
        "bert cased",
        ["normalizer", "strip_accents"],
        True,
        "has strip_accents False; cloze encodes BERT WordPiece",
    ),
    (
        "bert cased",
        ["pre_tokenizer"],
        {"type": "Whitespace"},
        "has pre_tokenizer 'Whitespace'; cloze encodes BERT",
    ),
    ("bert cased", ["model", "continuing_subword_prefix"], "@@", "has continuing_subword_prefix '@@'"),
    (
        "bert cased",
        ["model", "vocab", "list"],
        99,
        "gives 'return' the id 7 where 6 is the next; ids have no gap",
    ),
    (
        "roberta",
        ["pre_tokenizer", "add_prefix_space"],
        True,
        "has add_prefix_space True; cloze encodes GPT-2's",
    ),
    (
        "roberta",
        ["pre_tokenizer"],
        {"type": "Whitespace"},
        "has pre_tokenizer 'Whitespace'; cloze encodes GPT-2's",
    ),
    (
        "roberta",
        ["model", "end_of_word_suffix"],
        "</w>",
        "has end_of_word_suffix '</w>'; cloze encodes byte-level",
    ),
    (
        "albert",
        ["pre_tokenizer"],
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "with which words depend on their neighbours; cloze encodes what is split at blanks first",
    ),
    (
        "albert",
        ["model", "type"],
        "WordLevel",
        "has a WordLevel model; imported are WordPiece, byte-level BPE and",
    ),
    ("albert", ["added_tokens", 4, "special"], False, r"has added '\[MASK\]', which is no special token"),
]


@pytest.mark.parametrize(("name", "where", "value", "words"), REFUSED)
def test_another_tokenizer_is_refused_in_one_sentence(name, where, value, words, folders, tmp_path):
    described = json.loads((folders[name] / "tokenizer.json").read_text())
    *above, last = where
    inner = described
    for step in above:
        inner = inner[step]
    inner[last] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=words) as caught:
        read_released(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_tokenizer_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        ImportedVocabulary(folder=str(tmp_path))
    with pytest.raises(ValueError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        read_released(tmp_path)
    with pytest.raises(ValueError, match="folder is empty"):
        ImportedVocabulary()
    for content, words in (("{", "is not JSON"), ("[]", "holds a list"), ("{}", "has a None model")):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            read_released(tmp_path)
