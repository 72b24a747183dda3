"""Text -> the tokens a model reads, and tokens -> text, with the tokenizer of an exported folder.

The literal mask token ("[MASK]", "<mask>") becomes the mask token, and takes the blanks beside it along if its tokenizer
says so. No other literal is special: `[SEP]` typed by a user is five characters, so a request cannot forge the border
between two texts (transformers would let it).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from corpus.vocabulary.one_text import NAMES, OneText, Special, one_text_of
from serving.predictors.predictor import Tokens

# what has Unicode's property White_Space; Python's strip() takes a few more
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


class Texts:
    """One vocabulary and one maximal length. Pure, safe in several threads."""

    def __init__(self, tokenizer: OneText, *, max_seq_len: int) -> None:
        if absent := [name for name in NAMES if name not in tokenizer.named]:
            raise ValueError(
                f"the vocabulary has no {absent[0]} token; a model that fills in or classifies has {', '.join(NAMES)}"
            )
        self.ids: dict[str, int] = tokenizer.library.get_vocab()
        self.special = tokenizer.special
        self.max_seq_len = max_seq_len
        self._mask: Special = tokenizer.named["mask"]
        self.mask, self.mask_id = self._mask.text, self._mask.id
        self.unk_id, self.cls_id, self.sep_id = (tokenizer.named[name].id for name in ("unk", "cls", "sep"))
        self._tokenizer = tokenizer.library

    @classmethod
    def from_folder(cls, folder: Path, max_seq_len: int) -> "Texts":
        """Of an exported model: tokenizer.json, and which token is which from tokenizer_config.json."""
        return cls(one_text_of(folder), max_seq_len=max_seq_len)

    def tokens(self, text: str) -> tuple[Tokens, int]:
        """[CLS] text [SEP], cut to `max_seq_len`, and the length before the cut."""
        inside: list[int] = []
        pieces = text.split(self.mask)
        for i, piece in enumerate(pieces):
            if i:
                inside.append(self.mask_id)
                piece = piece.lstrip(BLANKS) if self._mask.takes_right else piece
            inside += self.pieces(
                piece.rstrip(BLANKS) if self._mask.takes_left and i + 1 < len(pieces) else piece
            )
        kept = [self.cls_id, *inside[: self.max_seq_len - 2], self.sep_id]
        return np.array(kept, np.int64), len(inside) + 2

    def pieces(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is special."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Iterable[int], *, skip_special: bool) -> str:
        """As `tokenizers` decodes them."""
        shown = [token for token in tokens if not (skip_special and token in self.special)]
        return str(self._tokenizer.decode(shown, skip_special_tokens=False))
