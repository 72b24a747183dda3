"""Unigram vocabularies of released models (ALBERT, XLNet, XLM-R): text -> token ids, identical to their tokenizer.json.

Each has a normalisation of its own (SentencePiece's rules as a compiled table, accents, casing), its special tokens in
front and <unk> anywhere; so what stands between blanks is spelled by the library with everything the file says. Which of
the ASCII blanks end a word whatever is around is asked of it too; where not even U+0020 does (blanks at the end of a text
are tokens), the file is refused.

Literal special tokens in a text are text: their entries are renamed to what no text can hold.
"""

import json
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from corpus.vocabulary.columns import ColumnEncoder
from corpus.vocabulary.unigram import NormalizedRuns, UnigramEncoder
from corpus.wordpiece.interning import PADDING, Int64s
from corpus.wordpiece.table import UnitTable
from corpus.wordpiece.units import LastCut, UInt8s, Units

CALLED: Final = {  # special tokens by what they are for, the first that a file has
    "pad": ("<pad>", "[PAD]"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
_ASCII_BLANKS: Final = " \t\n\r\v\f"


def unigram_encoder(described: dict[str, Any]) -> "UnigramEncoder | ReleasedUnigramEncoder":
    """The encoder of a tokenizer.json with a Unigram model, ours or a released one's. Raises ValueError where it has words
    that depend on their neighbours, or lacks a special token.
    """
    try:
        return UnigramEncoder.from_description(described)
    except ValueError:
        return ReleasedUnigramEncoder(described)


class ReleasedUnigramEncoder(ColumnEncoder):
    """A tokenizer.json with a Unigram model, as it is."""

    def __init__(self, described: dict[str, Any]) -> None:
        pieces = [piece for piece, _ in described["model"]["vocab"]]
        added = {token["content"]: token["id"] for token in described.get("added_tokens", ())}
        ids = {**{piece: i for i, piece in enumerate(pieces)}, **added}
        vocabulary = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in vocabulary] != list(range(len(ids))):
            raise ValueError(
                "tokenizer.json leaves ids out or gives one twice; entries are numbered without a gap"
            )
        self.unk_id: int = described["model"]["unk_id"]
        self.pad_id, self.cls_id, self.sep_id, self.mask_id = (_find(ids, name) for name in CALLED)
        special = {token["id"] for token in described.get("added_tokens", ()) if token["special"]}
        hidden = [
            [f" {piece}" if i in special and i != self.unk_id else piece, score]
            for i, (piece, score) in enumerate(described["model"]["vocab"])
        ]
        bare: dict[str, Any] = {
            "added_tokens": [],
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        model = described["model"] | {"vocab": hidden}
        self._library = Tokenizer.from_str(json.dumps(described | bare | {"model": model}))
        rule = [described.get(name) for name in ("normalizer", "pre_tokenizer")]
        self._identity = ["released unigram", rule, described["model"], sorted(added.items())]
        self._blanks = "".join(blank for blank in _ASCII_BLANKS if self._ends_words(blank))
        if " " not in self._blanks:
            raise ValueError(
                f"tokenizer.json has pre_tokenizer {described.get('pre_tokenizer')!r}, with which words depend on their "
                "neighbours; cloze encodes what is split at blanks first"
            )
        self._solid = bytes(byte not in self._blanks.encode() for byte in range(256))
        self._prepare(vocabulary)

    @property
    def named(self) -> dict[str, str]:
        """The special tokens as a tokenizer_config.json names them."""
        return {f"{name}_token": self.vocabulary[getattr(self, f"{name}_id")] for name in ("unk", *CALLED)}

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        return sha256(json.dumps(self._identity).encode()).hexdigest()

    @property
    def counting(self) -> NormalizedRuns:
        return NormalizedRuns()

    @property
    def _last_cut(self) -> LastCut:
        return self._after_last_blank

    def _after_last_blank(self, window: UInt8s) -> int:
        found = np.flatnonzero(np.isin(window, np.frombuffer(self._blanks.encode(), np.uint8)))
        return int(found[-1]) + 1 if len(found) else 0

    def _ends_words(self, blank: str) -> bool:
        def ids(text: str) -> list[int]:
            return list(self._library.encode(text, add_special_tokens=False).ids)

        apart = ids("a") + ids("B") + ids("1")
        return apart == ids(f"{blank}a{blank}B{blank * 3}1{blank * 2}") and not ids(blank)

    def _split(self, text: bytes, cuts: Int64s) -> Units:
        """What stands between those blanks; none crosses a byte offset in `cuts`, where a text begins."""
        solid = np.zeros(len(text) + 2, np.bool_)
        solid[1:-1] = np.frombuffer(text.translate(self._solid), np.bool_)
        edge = np.zeros(len(text) + 1, np.bool_)
        edge[cuts[cuts < len(text)]] = True
        starts = np.flatnonzero(solid[1:] & (~solid[:-1] | edge))
        ends = np.flatnonzero(solid[:-1] & (~solid[1:] | edge))
        return Units(text + PADDING, starts, ends - starts, starts)

    def _new_table(self) -> UnitTable:
        return UnitTable(self._split)

    def _spell(self, units: list[str]) -> list[list[int]]:
        spelled = []
        for found in self._library.encode_batch(units, add_special_tokens=False):
            words = found.word_ids
            spelled.append(
                [token << 1 | (i == 0 or words[i] != words[i - 1]) for i, token in enumerate(found.ids)]
            )
        return spelled

    def _piece_starts(self, units: list[str], spelled: list[list[int]]) -> list[list[int]]:
        aligned = self._library.encode_batch(units, add_special_tokens=False)
        return [
            [len(unit[:begin].encode()) for begin, _ in found.offsets]
            for unit, found in zip(units, aligned, strict=True)
        ]


def _find(ids: dict[str, int], name: str) -> int:
    for token in CALLED[name]:
        if token in ids:
            return ids[token]
    raise ValueError(f"tokenizer.json has no {name} token; cloze looks for {' or '.join(CALLED[name])}")
