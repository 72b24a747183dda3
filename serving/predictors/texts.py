"""Text -> the tokens a model reads, and tokens -> text, with a BERT vocabulary.

A literal `[MASK]` becomes the mask token. No other literal is special: `[SEP]` typed by a user is five characters, so a
request cannot forge the border between two texts (transformers would let it).

The `tokenizers` object of corpus.wordpiece is used rather than its column encoder, which gives the same ids but is made
for millions of texts at once: one sentence takes 0.05 ms here and 39 ms there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from corpus.wordpiece.files import (
    SPECIAL_TOKENS,
    VOCABULARY_FILE,
    library_tokenizer,
    read_lowercase,
    read_vocabulary,
)
from serving.predictors.predictor import Tokens

MASK = "[MASK]"


class Texts:
    """One vocabulary and one maximal length. Pure, safe in several threads."""

    def __init__(self, vocabulary: Sequence[str], *, lowercase: bool, max_seq_len: int) -> None:
        self.vocabulary = tuple(vocabulary)
        self.ids = {token: i for i, token in enumerate(self.vocabulary)}
        if absent := [token for token in SPECIAL_TOKENS if token not in self.ids]:
            raise ValueError(
                f"the vocabulary has no {absent[0]}; a BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}"
            )
        _, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self.ids[token] for token in SPECIAL_TOKENS)
        self.special = frozenset(self.ids[token] for token in SPECIAL_TOKENS)
        self.max_seq_len = max_seq_len
        self._tokenizer = library_tokenizer(self.vocabulary, lowercase, special_tokens=False)

    @classmethod
    def from_folder(cls, folder: Path, max_seq_len: int) -> "Texts":
        """Of an exported model: vocab.txt, and the casing from tokenizer.json."""
        vocabulary = read_vocabulary(folder / VOCABULARY_FILE)
        return cls(vocabulary, lowercase=read_lowercase(folder), max_seq_len=max_seq_len)

    def tokens(self, text: str) -> tuple[Tokens, int]:
        """[CLS] text [SEP], cut to `max_seq_len`, and the length before the cut."""
        inside: list[int] = []
        for i, piece in enumerate(text.split(MASK)):
            if i:
                inside.append(self.mask_id)
            inside += self.pieces(piece)
        kept = [self.cls_id, *inside[: self.max_seq_len - 2], self.sep_id]
        return np.array(kept, np.int64), len(inside) + 2

    def pieces(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is special."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Iterable[int], *, skip_special: bool) -> str:
        """As `tokenizers` decodes: "##" joins, and . ? ! , join left."""
        shown = [token for token in tokens if not (skip_special and token in self.special)]
        return str(self._tokenizer.decode(shown))
