"""What a model reads in one step: flat, unpadded token streams and what must be predicted from them.

    sequences   [CLS] a b [SEP] | [CLS] c [SEP] d e [SEP]
    tokens_T    c0  c1 c2 c3      c4 c5 c6  c7 c8 c9          T = 10, B = 2
    cu_seqlens  0               4                     10
    positions_T 0   1  2  3       0  1  2   3  4  5
    segments_T  0   0  0  0       0  0  0   1  1  1

There is no padding token and no attention mask anywhere: `cu_seqlens` says where a sequence ends, and the
layers never look across it. Batches are built from numpy columns (memory-mapped Arrow underneath) by
`from_columns`, without a loop over sequences. What pretraining adds to them is in training/pretraining_batches.py.

Letters: `B` sequences, `T` tokens of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Column = npt.NDArray[Any]  # of any integer type


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """`B` sequences as one stream of `T` tokens."""

    tokens_T: Tensor  # int64
    segments_T: Tensor  # int64, 0 for the first text of a pair, 1 for the second
    positions_T: Tensor  # int64, counted from each sequence's first token
    cu_seqlens: Tensor  # int32 (B + 1,), where each sequence begins; the last entry is T
    max_seq_len: int  # the longest sequence here

    def __len__(self) -> int:
        return self.cu_seqlens.shape[0] - 1

    def to(self, device: torch.device | str) -> "TokenBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens_T.shape[0]

    @classmethod
    def from_columns(cls, *, tokens: Column, offsets: Column, segment_b: Column | None = None) -> Self:
        """tokens (T,) of all sequences; offsets (B+1,) from 0 to T; segment_b (B,) where each second text
        begins (absent: none).
        """
        offsets = np.asarray(offsets, np.int64)
        lengths = offsets[1:] - offsets[:-1]
        if not len(lengths) or offsets[0] != 0 or offsets[-1] != len(tokens) or lengths.min() < 1:
            raise ValueError(
                f"offsets {offsets.tolist()} over {len(tokens)} tokens: they must rise from 0 to the "
                "number of tokens, one non-empty sequence between neighbours; drop empty sequences before batching"
            )
        positions = np.arange(len(tokens), dtype=np.int64) - np.repeat(offsets[:-1], lengths)
        if segment_b is None:
            segments = np.zeros(len(tokens), np.int64)
        else:
            segments = (positions >= np.repeat(np.asarray(segment_b, np.int64), lengths)).astype(np.int64)
        return cls(
            tokens_T=_tensor(tokens),
            segments_T=_tensor(segments),
            positions_T=_tensor(positions),
            cu_seqlens=torch.from_numpy(offsets.astype(np.int32)),
            max_seq_len=int(lengths.max()),
        )

    @classmethod
    def from_sequences(cls, sequences: Sequence[Column], segment_b: Sequence[int] | None = None) -> Self:
        """One array of token ids a sequence (the serving side's shape of things)."""
        offsets = np.cumsum([0, *(len(sequence) for sequence in sequences)])
        tokens = np.concatenate(sequences) if len(sequences) else np.empty(0, np.int64)
        begins = None if segment_b is None else np.asarray(segment_b, np.int64)
        return cls.from_columns(tokens=tokens, offsets=offsets, segment_b=begins)


@dataclass(frozen=True, kw_only=True)
class ClassificationBatch:
    """Sequences and the class of each."""

    tokens: TokenBatch
    labels_B: Tensor  # int64

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "ClassificationBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens

    @classmethod
    def from_columns(
        cls, *, tokens: Column, offsets: Column, segment_b: Column | None, labels: Column
    ) -> Self:
        return cls(
            tokens=TokenBatch.from_columns(tokens=tokens, offsets=offsets, segment_b=segment_b),
            labels_B=_tensor(labels),
        )


def _tensor(column: Column) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column, dtype=np.int64))


_Batch = TypeVar("_Batch")


def moved(batch: _Batch, device: torch.device | str) -> _Batch:
    """The same dataclass with every tensor on `device`, copied without waiting where memory is pinned."""
    values = {name: _on(value, device) for name, value in vars(batch).items()}
    return type(batch)(**values)


def _on(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, TokenBatch):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_on(one, device) for one in value)
    return value
