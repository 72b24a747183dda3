"""Byte-level BPE: text -> token ids, whole columns at a time; ids identical to the `tokenizers` library's.

Radford et al. 2019 (GPT-2), Liu et al. 2019 (RoBERTa), Lewis et al. 2020 (BART). Merges never cross a pre-token
(pretokens.py), so a pre-token's tokens are computed once, by the library's own model, and gathered (columns.py). Every
text has tokens: there are no unknown ones. A word starts where a pre-token does.

Literal "<s>", "<|endoftext|>" ... in a text are ordinary text: a document must not be able to inject them.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tokenizers.models import BPE

from corpus.vocabulary.byte_files import (
    BYTE_ALPHABET,
    GptTokens,
    Merges,
    byte_bpe_digest,
    in_byte_alphabet,
    special_tokens_in,
)
from corpus.vocabulary.columns import ColumnEncoder
from corpus.vocabulary.pretokens import SPACE, Pretokens, classes_of, last_cut, split_pretokens
from corpus.wordpiece.files import TOKENIZER_FILE
from corpus.wordpiece.table import UnitTable
from corpus.wordpiece.units import LastCut

if TYPE_CHECKING:
    from infra.artifacts import Artifact


class ByteBPEEncoder(ColumnEncoder):
    """A byte-level BPE vocabulary: entries in the byte alphabet in the order of their ids, and merges."""

    def __init__(self, vocabulary: Sequence[str], merges: Merges) -> None:
        absent = set(BYTE_ALPHABET).difference(vocabulary)
        if absent:
            raise ValueError(
                f"the vocabulary lacks {len(absent)} of 256 bytes, {min(absent)!r} among them; "
                "byte-level BPE has an entry for every byte"
            )
        self.merges = tuple(merges)
        self.special_tokens = special_tokens_in(vocabulary)
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        self._model = BPE(self._ids, list(self.merges))
        self._prepare(vocabulary)

    @classmethod
    def from_artifact(cls, vocabulary: "Artifact") -> "ByteBPEEncoder":
        """The encoder of a finished `train_byte_bpe`."""
        return cls.from_description(json.loads(vocabulary.read(TOKENIZER_FILE)))

    @classmethod
    def from_description(cls, described: dict[str, Any]) -> "ByteBPEEncoder":
        """The encoder of a `tokenizer.json`. Raises ValueError where it says something that is not GPT-2's or RoBERTa's."""
        model, splitting = described["model"], described.get("pre_tokenizer") or {}
        wanted = {
            "model": (model.get("type"), "BPE"),
            "normalizer": (described.get("normalizer"), None),
            "pre_tokenizer": (splitting.get("type"), "ByteLevel"),
            "add_prefix_space": (splitting.get("add_prefix_space"), False),
            "use_regex": (splitting.get("use_regex", True), True),
            "dropout": (model.get("dropout"), None),
            "ignore_merges": (bool(model.get("ignore_merges")), False),
        }
        for name, (found, needed) in wanted.items():
            if found != needed:
                raise ValueError(
                    f"tokenizer.json has {name} {found!r}; cloze encodes GPT-2's byte-level BPE, which has {needed!r}"
                )
        ids = {**model["vocab"], **{t["content"]: t["id"] for t in described.get("added_tokens", ())}}
        merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
        return cls(sorted(ids, key=ids.__getitem__), merges)

    @property
    def cls_id(self) -> int:
        return self._ids[self.special_tokens.names[0]]

    @property
    def sep_id(self) -> int:
        return self._special("</s>")

    @property
    def pad_id(self) -> int:
        return self._special("<pad>")

    @property
    def unk_id(self) -> int:
        """An entry that no text has."""
        return self._special("<unk>")

    @property
    def mask_id(self) -> int:
        """Raises ValueError: GPT-2 has no such token."""
        if isinstance(self.special_tokens, GptTokens):
            raise ValueError("a GPT-2 vocabulary has no mask token; train one with RobertaTokens()")
        return self._special("<mask>")

    def _special(self, name: str) -> int:
        return self._ids[GptTokens().names[0] if isinstance(self.special_tokens, GptTokens) else name]

    @cached_property
    def digest(self) -> str:
        """sha256 over all that determines the ids of a text."""
        return byte_bpe_digest(self.vocabulary, self.merges)

    @property
    def counting(self) -> Pretokens:
        return Pretokens()

    @property
    def _last_cut(self) -> LastCut:
        return last_cut

    def _new_table(self) -> UnitTable:
        return UnitTable(split_pretokens)

    def _spell(self, units: list[str]) -> list[list[int]]:
        tokenize = self._model.tokenize
        spelled = [[piece.id << 1 for piece in tokenize(in_byte_alphabet(unit))] for unit in units]
        for tokens in spelled:
            tokens[0] |= 1
        return spelled

    def _piece_starts(self, units: list[str], spelled: list[list[int]]) -> list[list[int]]:
        """Pieces lie side by side, a character of the byte alphabet for a byte; a joined blank belongs to no piece."""
        starts = []
        for unit, tokens in zip(units, spelled, strict=True):
            sizes = [len(self.vocabulary[token >> 1]) for token in tokens]
            joined = len(unit) > 1 and unit[0] == " " and int(classes_of(unit[1])[0]) != SPACE
            starts.append([int(joined), *list(accumulate(sizes))[:-1]])
        return starts
