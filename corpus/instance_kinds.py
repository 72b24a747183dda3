"""What objectives make and models read: one class per kind of instance.

    MaskedInstances       encoders: a corrupted row, the hidden tokens, maybe a label for a pair of segments
    Seq2SeqInstances      encoder-decoders: a corrupted source, what the decoder reads and must say
    CausalInstances       left-to-right and bidirectional language models: the text itself
    PermutationInstances  permutation language models: the text, its factorisation order, what is predicted

An objective names the kind it makes (`makes`), a model's config the kind it reads (`reads`); a recipe whose two differ is
refused before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from corpus.instances import InstanceShard
from corpus.ragged import Ints

Tokens = npt.NDArray[Any]  # of any integer type that holds the vocabulary
Small = npt.NDArray[np.integer]
NO_PAIR = 255  # pair_label of objectives that do not ask about pairs


@dataclass(frozen=True, kw_only=True)
class MaskedInstances(InstanceShard):
    """Rows with hidden tokens (BERT and what came after it)."""

    RAGGED: ClassVar[dict[str, str]] = {
        "tokens": "offsets",
        "target_positions": "target_offsets",
        "target_tokens": "target_offsets",
    }

    tokens: Tokens  # (T,) what the model reads, special tokens included
    offsets: Ints  # (B + 1,) into tokens
    segment_b: Small  # (B,) where in the row segment B begins; its length if none
    target_positions: Small  # (M,) ascending indices in the row
    target_tokens: Tokens  # (M,) what the model must predict there
    target_offsets: Ints  # (B + 1,)
    pair_label: (
        Small  # (B,) 1: the second segment does not follow the first (BERT), or came before it (ALBERT)
    )

    def counts(self) -> dict[str, int]:
        labelled = {"random_next": int((self.pair_label == 1).sum())}
        return {**super().counts(), "targets": len(self.target_tokens), **labelled}


@dataclass(frozen=True, kw_only=True)
class Seq2SeqInstances(InstanceShard):
    """A corrupted source and what is to be said about it (BART, MASS)."""

    RAGGED: ClassVar[dict[str, str]] = {
        "source_tokens": "source_offsets",
        "decoder_tokens": "decoder_offsets",
        "decoder_positions": "decoder_offsets",
        "target_tokens": "decoder_offsets",
    }

    source_tokens: Tokens  # (S,) what the encoder reads, special tokens included
    source_offsets: Ints  # (B + 1,)
    decoder_tokens: Tokens  # (T,) what the decoder reads
    decoder_positions: Small  # (T,) at which positions; MASS: those of the original text
    target_tokens: Tokens  # (T,) what it must say there
    decoder_offsets: Ints  # (B + 1,)

    def counts(self) -> dict[str, int]:
        return {**super().counts(), "targets": len(self.target_tokens)}


@dataclass(frozen=True, kw_only=True)
class CausalInstances(InstanceShard):
    """Text as it is; the next token (GPT), or the next and the one before (ELMo), is to be predicted."""

    RAGGED: ClassVar[dict[str, str]] = {"tokens": "offsets"}

    tokens: Tokens  # (T,)
    offsets: Ints  # (B + 1,)


@dataclass(frozen=True, kw_only=True)
class PermutationInstances(InstanceShard):
    """Text, the order in which it is factorised, and what is predicted (XLNet)."""

    RAGGED: ClassVar[dict[str, str]] = {
        "tokens": "offsets",
        "segments": "offsets",
        "order": "offsets",
        "target_positions": "target_offsets",
        "target_tokens": "target_offsets",
    }

    tokens: Tokens  # (T,) uncorrupted, special tokens included
    segments: Small  # (T,) 0: memory part and A, 1: B, 2: <cls>
    order: Small  # (T,) rank of targets and special tokens in the factorisation of their part; -1: all others
    offsets: Ints  # (B + 1,) into tokens
    target_positions: Small  # (M,) ascending indices in the row
    target_tokens: Tokens  # (M,)
    target_offsets: Ints  # (B + 1,)
    reuse_len: (
        Small  # (B,) tokens of the first part: it sees nothing of the second, and the next row remembers it
    )
    continues: Small  # (B,) 1: the text goes on where the row before stopped being remembered
    backward: Small  # (B,) 1: the text is read from its end
    pair_label: Small  # (B,) 1: B continues A (the opposite of BERT); XLNet has no loss on it

    def counts(self) -> dict[str, int]:
        return {**super().counts(), "targets": len(self.target_tokens)}


KINDS: dict[str, type[InstanceShard]] = {
    kind.kind(): kind for kind in (MaskedInstances, Seq2SeqInstances, CausalInstances, PermutationInstances)
}
