"""What is read where a token is hidden: a mask, the token itself, or another one (BERT's 80 / 10 / 10).

Which tokens the other one is drawn from differs between the originals, and is a type:

    AnyToken         uniform over the vocabulary, special tokens included    BERT, ALBERT
    OrdinaryToken    uniform over the vocabulary without the special tokens  RoBERTa
    TokenOfTheText   a token somewhere in the shard: as often as it occurs   SpanBERT
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.ragged import Ints
from corpus.stream import Words, below

if TYPE_CHECKING:
    from corpus.corruption.rows import Rows

Where = slice | Ints


@dataclass(frozen=True, kw_only=True)
class AnyToken:
    """Uniform over the whole vocabulary, special tokens included."""

    def draw(self, bits_M: Words, rows: Rows) -> Ints:
        """(M,) tokens, by the upper half of the bits."""
        return below(bits_M, rows.marks.vocab_size)


@dataclass(frozen=True, kw_only=True)
class OrdinaryToken:
    """Uniform over the vocabulary without the special tokens."""

    def draw(self, bits_M: Words, rows: Rows) -> Ints:
        """(M,) tokens, by the upper half of the bits."""
        special = rows.marks.all_special
        drawn = below(bits_M, rows.marks.vocab_size - len(special))
        # the n-th ordinary token is n + the number of special ones before it
        return drawn + np.searchsorted(special - np.arange(len(special)), drawn, side="right")


@dataclass(frozen=True, kw_only=True)
class TokenOfTheText:
    """A token somewhere in the shard."""

    def draw(self, bits_M: Words, rows: Rows) -> npt.NDArray[Any]:
        """(M,) tokens, by the upper half of the bits."""
        return rows.shard.tokens_T[below(bits_M, len(rows.shard.tokens_T))]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """`masked` and `kept` are shares; what is left of 1 is replaced by another token.

    With `together` one throw decides for all tokens of a word, n-gram or span that is hidden as one; the
    other tokens are still drawn one by one.
    """

    masked: float = 0.8
    kept: float = 0.1
    other: AnyToken | OrdinaryToken | TokenOfTheText = AnyToken()
    together: bool = False

    def __post_init__(self) -> None:
        if not (self.masked >= 0 and self.kept >= 0 and self.masked + self.kept <= 1 + 1e-9):
            raise ValueError(
                f"Replacement.masked is {self.masked} and kept {self.kept}; they are shares, together at most 1, "
                "e.g. 0.8 and 0.1"
            )

    def read(
        self, original_M: npt.NDArray[Any], bits_at: Callable[[Where], Words], rows: Rows, heads: Ints | None
    ) -> npt.NDArray[Any]:
        """(M,) what is read instead. `bits_at` draws 64 random bits for each of some of the M tokens: the
        upper half says which of the three, the lower half which token.

        `heads` are the numbers of the first token of each unit; None: every token is one.
        """
        masked_up_to, kept_up_to = (
            round(share * 2.0**32) for share in (self.masked, self.masked + self.kept)
        )
        assert rows.marks.mask_id is not None, "Marks.of(..., mask=True) for objectives that hide tokens"
        read_M = original_M.copy()
        if self.together and heads is not None:
            draw = bits_at(heads) >> np.uint64(32)
            lengths = np.diff(heads, append=len(original_M))
            read_M[np.repeat(draw < masked_up_to, lengths)] = rows.marks.mask_id
            other = np.flatnonzero(np.repeat(draw >= kept_up_to, lengths))
            bits = bits_at(other)
        else:
            bits_M = bits_at(slice(None))
            draw = bits_M >> np.uint64(32)
            read_M[draw < masked_up_to] = rows.marks.mask_id
            other = np.flatnonzero(draw >= kept_up_to)
            bits = bits_M[other]
        read_M[other] = self.other.draw(bits << np.uint64(32), rows)
        return read_M
