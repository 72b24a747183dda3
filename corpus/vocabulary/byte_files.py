"""The files of a byte-level BPE vocabulary, as `tokenizers` and `transformers` read and write them.

vocab.json               entry -> id, in the byte alphabet (see BYTE_ALPHABET)
merges.txt               one merge a line, in the order in which they are tried
tokenizer.json           the whole tokenizer
tokenizer_config.json    what `transformers.AutoTokenizer` needs to know

Special tokens are RoBERTa's (also BART's) or GPT-2's: the type says which.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing

from corpus.wordpiece.files import CONFIG_FILE, MAX_SEQ_LEN, TOKENIZER_FILE

Merges = Sequence[tuple[str, str]]

_PRINTED: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS: Final = [byte for byte in range(256) if byte not in _PRINTED]
BYTE_ALPHABET: Final = "".join(
    chr(byte) if byte in _PRINTED else chr(256 + _OTHERS.index(byte)) for byte in range(256)
)  # byte b is written as character BYTE_ALPHABET[b]: itself where that can be printed, else from U+0100 on
_TO_ALPHABET: Final = {byte: ord(character) for byte, character in enumerate(BYTE_ALPHABET)}


def in_byte_alphabet(text: str) -> str:
    """The UTF-8 bytes of a text, one printable character each."""
    return text.encode().decode("latin-1").translate(_TO_ALPHABET)


@dataclass(frozen=True, kw_only=True)
class RobertaTokens:
    """<s> A </s>, and <s> A </s></s> B </s>."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

    @property
    def settings(self) -> dict[str, str]:
        named = ("bos", "pad", "eos", "unk", "mask", "cls", "sep")
        tokens = (*self.names, "<s>", "</s>")
        return {"tokenizer_class": "RobertaTokenizer"} | {
            f"{name}_token": token for name, token in zip(named, tokens, strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class GptTokens:
    """One token, between documents."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("<|endoftext|>",)

    @property
    def settings(self) -> dict[str, str]:
        named = ("bos_token", "eos_token", "unk_token")
        return {"tokenizer_class": "GPT2Tokenizer"} | dict.fromkeys(named, self.names[0])


SpecialTokens = RobertaTokens | GptTokens


def special_tokens_in(vocabulary: Sequence[str]) -> SpecialTokens:
    """Whose special tokens a vocabulary has. Raises ValueError if it has neither's."""
    found = [kind for kind in (RobertaTokens(), GptTokens()) if set(kind.names) <= set(vocabulary)]
    if not found:
        raise ValueError(
            f"the vocabulary has neither {' '.join(RobertaTokens().names)} nor {GptTokens().names[0]}; "
            "a byte-level BPE vocabulary holds RoBERTa's or GPT-2's special tokens"
        )
    return found[0]


def library_byte_bpe(vocabulary: Sequence[str], merges: Merges, *, special_tokens: bool = True) -> Tokenizer:
    """The `tokenizers` object that encodes like `ByteBPEEncoder`; without `special_tokens` it knows none."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(BPE(ids, list(merges)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    if special_tokens:
        names = special_tokens_in(vocabulary)
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, lstrip=token == "<mask>") for token in names.names]
        )
        if isinstance(names, RobertaTokens):
            tokenizer.post_processor = RobertaProcessing(
                ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False
            )
    return tokenizer


def byte_bpe_files(vocabulary: Sequence[str], merges: Merges) -> dict[str, bytes]:
    """Name -> content of the four files."""
    config = special_tokens_in(vocabulary).settings | {
        "add_prefix_space": False,
        "model_max_length": MAX_SEQ_LEN,
    }
    ids = {token: i for i, token in enumerate(vocabulary)}
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    return {
        "vocab.json": json.dumps(ids, ensure_ascii=False).encode() + b"\n",
        "merges.txt": "".join(f"{line}\n" for line in lines).encode(),
        TOKENIZER_FILE: library_byte_bpe(vocabulary, merges).to_str(pretty=True).encode() + b"\n",
        CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n",
    }


def byte_bpe_digest(vocabulary: Sequence[str], merges: Merges) -> str:
    """sha256 over all that determines the ids of a text."""
    content = ["byte-level BPE", list(vocabulary), [list(merge) for merge in merges]]
    return sha256(json.dumps(content).encode()).hexdigest()
