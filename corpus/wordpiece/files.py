"""The files of a WordPiece vocabulary, as `tokenizers` and `transformers` read and write them.

vocab.txt                one entry a line, the line number is the id (Google's format)
tokenizer.json           the whole tokenizer: normaliser, splitting, model, [CLS] A [SEP] B [SEP]
tokenizer_config.json    what `transformers.AutoTokenizer` needs to know: class, special tokens, casing
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

VOCABULARY_FILE: Final = "vocab.txt"
TOKENIZER_FILE: Final = "tokenizer.json"
CONFIG_FILE: Final = "tokenizer_config.json"
SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS: Final = 100  # a longer word is [UNK] (Google's and the library's default)
MAX_SEQ_LEN: Final = 512


def library_tokenizer(vocabulary: Sequence[str], lowercase: bool, special_tokens: bool = True) -> Tokenizer:
    """The `tokenizers` object that encodes like `Encoder`; without `special_tokens` it knows none and adds none."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    model = WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    if special_tokens:
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
        )
    return tokenizer


def vocabulary_files(vocabulary: Sequence[str], lowercase: bool) -> dict[str, bytes]:
    """Name -> content of the three files."""
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "tokenize_chinese_chars": True,
        "strip_accents": None,
        "model_max_length": MAX_SEQ_LEN,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return {
        VOCABULARY_FILE: "".join(f"{token}\n" for token in vocabulary).encode(),
        TOKENIZER_FILE: library_tokenizer(vocabulary, lowercase).to_str(pretty=True).encode() + b"\n",
        CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n",
    }


def read_vocabulary(path: Path) -> list[str]:
    """The entries of a `vocab.txt`. Raises ValueError if it is not UTF-8 or empty."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); a vocabulary has one entry a line") from None
    if not text:
        raise ValueError(f"{path} is empty; a vocabulary has one entry a line")
    lines = text.removesuffix("\n").split("\n")  # not splitlines(): U+2028 and U+0085 are entries somewhere
    return [line.removesuffix("\r") for line in lines]


def read_lowercase(folder: Path) -> bool:
    """Whether the tokenizer in a Hugging Face folder is uncased: from tokenizer.json, else tokenizer_config.json.

    Raises ValueError where the folder describes a normalisation that is not BERT's.
    """
    if (folder / TOKENIZER_FILE).exists():
        described = json.loads((folder / TOKENIZER_FILE).read_bytes())
        normalizer = described.get("normalizer") or {}
        lowercase = normalizer.get("lowercase")
        wanted = {
            "model": (described.get("model", {}).get("type"), "WordPiece"),
            "normalizer": (normalizer.get("type"), "BertNormalizer"),
            "clean_text": (normalizer.get("clean_text"), True),
            "handle_chinese_chars": (normalizer.get("handle_chinese_chars"), True),
            "strip_accents": (normalizer.get("strip_accents") in (None, lowercase), True),
        }
        for name, (found, needed) in wanted.items():
            if found != needed:
                raise ValueError(
                    f"{folder / TOKENIZER_FILE} has {name} {found!r}; cloze encodes BERT WordPiece, which has {needed!r}"
                )
        return bool(lowercase)
    if (folder / CONFIG_FILE).exists():
        return bool(json.loads((folder / CONFIG_FILE).read_bytes()).get("do_lower_case", True))
    return True


def tokenizer_digest(vocabulary: Sequence[str], lowercase: bool) -> str:
    """sha256 over all that determines the ids of a text: the name by which shards know their tokenizer."""
    return sha256(json.dumps(["wordpiece", lowercase, list(vocabulary)]).encode()).hexdigest()
