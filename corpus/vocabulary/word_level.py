"""Vocabularies without subwords (characters, letters, k-mers): their files, and what their encoders share.

An entry is looked up whole (`tokenizers`' WordLevel), so these encoders are arithmetic on bytes: every token's first
byte is known anyway, and no table is needed. Special tokens are BERT's.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer
from tokenizers.processors import TemplateProcessing

from corpus.ragged import blocks
from corpus.vocabulary.columns import Encoded, narrow
from corpus.vocabulary.counts import Counting
from corpus.wordpiece.files import CONFIG_FILE, MAX_SEQ_LEN, SPECIAL_TOKENS, TOKENIZER_FILE, VOCABULARY_FILE
from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.units import UInt8s, utf8_of

BLOCK_BYTES = 1 << 22  # of text at a time: bounds the temporaries


@dataclass(frozen=True, slots=True)
class Found:
    """(T,) tokens, the byte of the block at which each begins (rising), and whether a word begins there."""

    tokens_T: NDArray[np.int64]
    starts_T: Int64s
    word_start_T: NDArray[np.bool_]


class WordLevelEncoder(ABC):
    """A vocabulary whose entries are looked up whole; it begins with BERT's special tokens."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        absent = [token for token in SPECIAL_TOKENS if token not in self._ids]
        if absent:
            raise ValueError(f"the vocabulary has no {absent[0]}; it begins with {' '.join(SPECIAL_TOKENS)}")
        if len(self._ids) < len(self.vocabulary):
            twice = next(t for i, t in enumerate(self.vocabulary) if self._ids[t] != i)
            raise ValueError(f"the vocabulary holds {twice!r} twice; every entry must be unique")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[t] for t in SPECIAL_TOKENS
        )

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def counting(self) -> Counting | None:
        return None

    @abstractmethod
    def splitting(self) -> tuple[Normalizer | None, PreTokenizer]:
        """How `tokenizers` comes to the same entries."""

    @abstractmethod
    def _find(self, data: UInt8s, offsets: Int64s) -> Found:
        """The tokens of a block of texts."""

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        described = json.loads(self.library.to_str())
        rule = [described[name] for name in ("normalizer", "pre_tokenizer")]
        return sha256(json.dumps(["word level", rule, list(self.vocabulary)]).encode()).hexdigest()

    @cached_property
    def library(self) -> Tokenizer:
        """The `tokenizers` object that encodes alike."""
        tokenizer = Tokenizer(WordLevel(self._ids, unk_token="[UNK]"))
        normalizer, tokenizer.pre_tokenizer = self.splitting()
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.cls_id), ("[SEP]", self.sep_id)],
        )
        return tokenizer

    def files(self) -> dict[str, bytes]:
        """Name -> content of vocab.txt, tokenizer.json and tokenizer_config.json."""
        names = ("pad", "unk", "cls", "sep", "mask")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_SEQ_LEN} | {
            f"{name}_token": token for name, token in zip(names, SPECIAL_TOKENS, strict=True)
        }
        return {
            VOCABULARY_FILE: "".join(f"{token}\n" for token in self.vocabulary).encode(),
            TOKENIZER_FILE: self.library.to_str(pretty=True).encode() + b"\n",
            CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n",
        }

    def encode(
        self, texts: pa.Array | Sequence[str], marks: Int64s | None = None, *, token_starts: bool = False
    ) -> Encoded:
        """(B,) texts -> Encoded, without special tokens. See ColumnEncoder.encode; `token_starts` costs nothing."""
        data, offsets = utf8_of(texts)
        parts = []
        for first, last in blocks(offsets, BLOCK_BYTES):
            begin, end = int(offsets[first]), int(offsets[last])
            found = self._find(data[begin:end], offsets[first : last + 1] - begin)
            parts.append(Found(found.tokens_T, found.starts_T + begin, found.word_start_T))
        none = np.zeros(0, np.int64)
        tokens_T = np.concatenate([none, *(part.tokens_T for part in parts)])
        starts_T = np.concatenate([none, *(part.starts_T for part in parts)])
        word_start_T = np.concatenate([none.astype(np.bool_), *(part.word_start_T for part in parts)])
        return Encoded(
            tokens_T=narrow(tokens_T, self.vocab_size),
            offsets=np.searchsorted(starts_T, offsets),
            word_start_T=word_start_T,
            mark_offsets=np.searchsorted(starts_T, none if marks is None else marks),
            starts_T=starts_T if token_starts else None,
        )
