"""Unigram (Kudo 2018; SentencePiece): text -> token ids, whole columns at a time, identical to the `tokenizers` library's.

A text is normalised (NFKC, white space becomes one blank) and cut at its blanks; a word is written with "▁" before it and
split into the entries whose probabilities have the largest product. So a run without ASCII white space is spelled once,
by the library's own model, and gathered (columns.py). "▁" itself counts as white space.

Special tokens are ALBERT's. They come behind the model's entries, so no text can be spelled with them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import normalizers as norm
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing

from corpus.vocabulary.columns import ColumnEncoder
from corpus.vocabulary.counts import count_units
from corpus.wordpiece.files import CONFIG_FILE, MAX_SEQ_LEN, TOKENIZER_FILE, VOCABULARY_FILE
from corpus.wordpiece.interning import PADDING, Int64s
from corpus.wordpiece.table import UnitTable, is_plain
from corpus.wordpiece.units import Units

if TYPE_CHECKING:
    from infra.artifacts import Artifact

UNKNOWN: Final = "<unk>"
SPECIAL_TOKENS: Final = ("<pad>", "[CLS]", "[SEP]", "[MASK]")
WORD_MARK: Final = "▁"
_SOLID: Final = bytes(byte not in b" \t\n\r\x0b\x0c" for byte in range(256))

Pieces = Sequence[tuple[str, float]]  # entries with the logarithms of their probabilities


def normalizer() -> norm.Normalizer:
    return norm.Sequence(
        [norm.NFKC(), norm.Replace(WORD_MARK, " "), norm.Replace(Regex(r"\s+"), " "), norm.Strip()]
    )


def split_solid(text: bytes, cuts: Int64s) -> Units:
    """Runs of anything but ASCII white space; none crosses a byte offset in `cuts`, where a text begins."""
    solid = np.zeros(len(text) + 2, np.bool_)
    solid[1:-1] = np.frombuffer(text.translate(_SOLID), np.bool_)
    edge = np.zeros(len(text) + 1, np.bool_)
    edge[cuts[cuts < len(text)]] = True
    starts = np.flatnonzero(solid[1:] & (~solid[:-1] | edge))
    ends = np.flatnonzero(solid[:-1] & (~solid[1:] | edge))
    return Units(text + PADDING, starts, ends - starts, starts)


@dataclass(frozen=True)
class NormalizedRuns:
    """What a word is to Unigram: what stands between white space, after NFKC."""

    def count(self, texts: pa.Array) -> pa.Table:
        normal = normalizer()

        def words_of(units: list[str]) -> list[list[str]]:
            return [[u] if is_plain(u) else normal.normalize_str(u).split(" ") for u in units]

        counted = count_units(texts, split_solid, words_of)
        return counted.filter(pc.field("word") != "")


class UnigramEncoder(ColumnEncoder):
    """Entries with their scores; entry 0 is <unk>, and the special tokens follow the last one."""

    def __init__(self, pieces: Pieces) -> None:
        names = [piece for piece, _ in pieces]
        if not names or names[0] != UNKNOWN:
            raise ValueError(f"the first entry is {names[:1]}; a Unigram vocabulary begins with {UNKNOWN}")
        both = set(SPECIAL_TOKENS).intersection(names)
        if both or len(set(names)) < len(names):
            raise ValueError(
                f"the entries repeat {min(both) if both else 'one of them'}; each must be unique"
            )
        self.pieces = tuple((piece, float(score)) for piece, score in pieces)
        self._model = Unigram(list(self.pieces), 0, False)
        self.unk_id = 0
        self.pad_id, self.cls_id, self.sep_id, self.mask_id = range(
            len(names), len(names) + len(SPECIAL_TOKENS)
        )
        self._prepare([*names, *SPECIAL_TOKENS])

    @classmethod
    def from_artifact(cls, vocabulary: "Artifact") -> "UnigramEncoder":
        """The encoder of a finished `train_unigram`."""
        return cls.from_description(json.loads(vocabulary.read(TOKENIZER_FILE)))

    @classmethod
    def from_description(cls, described: dict[str, Any]) -> "UnigramEncoder":
        """The encoder of a `tokenizer.json`. Raises ValueError where it normalises, cuts or numbers in another way."""
        made = cls([(piece, score) for piece, score in described["model"]["vocab"]])
        ours = json.loads(made.library.to_str())
        for name in ("normalizer", "pre_tokenizer", "added_tokens"):
            if ours[name] != described.get(name):
                raise ValueError(
                    f"tokenizer.json has {name} {described.get(name)!r}; cloze encodes {ours[name]!r}"
                )
        return made

    @cached_property
    def library(self) -> Tokenizer:
        """The `tokenizers` object that encodes alike; literal special tokens in a text are text."""
        tokenizer = Tokenizer(Unigram(list(self.pieces), 0, False))
        tokenizer.normalizer = normalizer()
        tokenizer.pre_tokenizer = Metaspace(replacement=WORD_MARK, prepend_scheme="always", split=True)
        tokenizer.decoder = MetaspaceDecoder(replacement=WORD_MARK, prepend_scheme="always", split=True)
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.cls_id), ("[SEP]", self.sep_id)],
        )
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        content = ["unigram", [[piece, score.hex()] for piece, score in self.pieces]]
        return sha256(json.dumps(content).encode()).hexdigest()

    @property
    def counting(self) -> NormalizedRuns:
        return NormalizedRuns()

    def files(self) -> dict[str, bytes]:
        """Name -> content of vocab.txt, tokenizer.json and tokenizer_config.json."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": MAX_SEQ_LEN,
            "unk_token": UNKNOWN,
        } | {
            f"{name}_token": token
            for name, token in zip(("pad", "cls", "sep", "mask"), SPECIAL_TOKENS, strict=True)
        }
        return {
            VOCABULARY_FILE: "".join(f"{token}\n" for token in self.vocabulary).encode(),
            TOKENIZER_FILE: self.library.to_str(pretty=True).encode() + b"\n",
            CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n",
        }

    def _new_table(self) -> UnitTable:
        return UnitTable(split_solid)

    def _spell(self, units: list[str]) -> list[list[int]]:
        plain = [is_plain(unit) for unit in units]
        others = iter(
            self.library.encode_batch(
                [u for u, p in zip(units, plain, strict=True) if not p], add_special_tokens=False
            )
        )
        spelled = []
        for unit, p in zip(units, plain, strict=True):
            if p:
                tokens = [piece.id << 1 for piece in self._model.tokenize(WORD_MARK + unit)]
                tokens[0] |= 1
            else:
                found = next(others)
                words = found.word_ids
                tokens = [
                    token << 1 | (i == 0 or words[i] != words[i - 1]) for i, token in enumerate(found.ids)
                ]
            spelled.append(tokens)
        return spelled

    def _piece_starts(self, units: list[str], spelled: list[list[int]]) -> list[list[int]]:
        aligned = self.library.encode_batch(units, add_special_tokens=False)
        return [
            [len(unit[:begin].encode()) for begin, _ in found.offsets]
            for unit, found in zip(units, aligned, strict=True)
        ]
