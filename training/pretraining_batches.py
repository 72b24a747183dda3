"""What a model reads in one pretraining step: one class per kind of instance (corpus/instance_kinds.py), as tensors.

All are flat streams without padding. `carried` is what the model handed over with the same rows of the step before
(`Losses.carried`): memory or the states of an LSTM; most models have none, and it is empty.

Letters: `B` sequences, `T` tokens of all of them (a decoder's, where there are two streams), `S` source tokens, `M` targets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corpus.corruption.two_stream import ranks
from corpus.instance_kinds import (
    NO_PAIR,
    CausalInstances,
    MaskedInstances,
    PermutationInstances,
    Seq2SeqInstances,
)
from corpus.instances import InstanceShard
from training.batches import TokenBatch, moved


@dataclass(frozen=True, kw_only=True)
class MaskedBatch:
    """Corrupted sequences, what was there before, and whether the second text really followed the first."""

    tokens: TokenBatch
    target_index_M: Tensor  # int64, into tokens_T
    target_tokens_M: Tensor  # int64, the original token at each of them
    pair_label_B: Tensor | None  # int64, see MaskedInstances; None: pairs are not an objective

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "MaskedBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens

    @classmethod
    def of(cls, found: MaskedInstances) -> "MaskedBatch":
        pairs = len(found) > 0 and found.pair_label[0] != NO_PAIR
        return cls(
            tokens=TokenBatch.from_columns(
                tokens=found.tokens, offsets=found.offsets, segment_b=found.segment_b
            ),
            target_index_M=_flat_index(found.target_positions, found.target_offsets, found.offsets),
            target_tokens_M=_tensor(found.target_tokens),
            pair_label_B=_tensor(found.pair_label) if pairs else None,
        )


@dataclass(frozen=True, kw_only=True)
class Seq2SeqBatch:
    """A corrupted source, and what is to be said about it, token by token (teacher forcing)."""

    tokens: TokenBatch  # the source: S tokens
    decoder: TokenBatch  # T tokens; positions_T are those the objective gives
    target_tokens_T: Tensor  # int64, one for every token the decoder reads

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "Seq2SeqBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens + self.decoder.num_tokens

    @classmethod
    def of(cls, found: Seq2SeqInstances) -> "Seq2SeqBatch":
        decoder = TokenBatch.from_columns(tokens=found.decoder_tokens, offsets=found.decoder_offsets)
        return cls(
            tokens=TokenBatch.from_columns(tokens=found.source_tokens, offsets=found.source_offsets),
            decoder=TokenBatch(
                tokens_T=decoder.tokens_T,
                segments_T=decoder.segments_T,
                positions_T=_tensor(found.decoder_positions),
                cu_seqlens=decoder.cu_seqlens,
                max_seq_len=decoder.max_seq_len,
            ),
            target_tokens_T=_tensor(found.target_tokens),
        )


@dataclass(frozen=True, kw_only=True)
class CausalBatch:
    """Text. A sequence of n tokens has n - 1 predictions in each direction."""

    tokens: TokenBatch
    carried: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "CausalBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens

    @classmethod
    def of(cls, found: CausalInstances) -> "CausalBatch":
        return cls(tokens=TokenBatch.from_columns(tokens=found.tokens, offsets=found.offsets))


@dataclass(frozen=True, kw_only=True)
class PermutationBatch:
    """Text, the order it is factorised in, and the predicted positions."""

    tokens: TokenBatch  # segments_T: 0 memory part and A, 1 B, 2 <cls>
    key_rank_T: Tensor  # int64; a query sees keys of lower rank (corpus/corruption/two_stream.py)
    query_rank_T: Tensor  # int64
    target_index_M: Tensor  # int64, ascending, into tokens_T
    target_tokens_M: Tensor  # int64
    target_counts_B: Tensor  # int64, of each sequence
    reuse_len_B: Tensor  # int64, tokens from its first on that the next step remembers of a sequence
    continues_B: (
        Tensor  # int64, 1: it goes on in what is carried from the sequence before, else that is forgotten
    )
    backward_B: Tensor  # int64, 1: its text is read from the end
    carried: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "PermutationBatch":
        return moved(self, device)

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens

    @classmethod
    def of(cls, found: PermutationInstances) -> "PermutationBatch":
        flat = TokenBatch.from_columns(tokens=found.tokens, offsets=found.offsets)
        key_rank_T, query_rank_T = ranks(found)
        return cls(
            tokens=TokenBatch(
                tokens_T=flat.tokens_T,
                segments_T=_tensor(found.segments),
                positions_T=flat.positions_T,
                cu_seqlens=flat.cu_seqlens,
                max_seq_len=flat.max_seq_len,
            ),
            key_rank_T=_tensor(key_rank_T),
            query_rank_T=_tensor(query_rank_T),
            target_index_M=_flat_index(found.target_positions, found.target_offsets, found.offsets),
            target_tokens_M=_tensor(found.target_tokens),
            target_counts_B=_tensor(np.diff(found.target_offsets)),
            reuse_len_B=_tensor(found.reuse_len),
            continues_B=_tensor(found.continues),
            backward_B=_tensor(found.backward),
        )


PretrainingBatch = MaskedBatch | Seq2SeqBatch | CausalBatch | PermutationBatch
_BATCHES: dict[type[InstanceShard], Any] = {
    MaskedInstances: MaskedBatch,
    Seq2SeqInstances: Seq2SeqBatch,
    CausalInstances: CausalBatch,
    PermutationInstances: PermutationBatch,
}


def batch_of(found: InstanceShard) -> PretrainingBatch:
    """Gathered instances as the batch of their kind; tensors share their memory."""
    batch: PretrainingBatch = _BATCHES[type(found)].of(found)
    return batch


def _flat_index(
    positions_M: npt.NDArray[Any], target_offsets: npt.NDArray[Any], offsets: npt.NDArray[Any]
) -> Tensor:
    """Positions in their rows -> indices into the stream."""
    starts_M = np.repeat(np.asarray(offsets[:-1], np.int64), np.diff(target_offsets))
    return _tensor(starts_M + positions_M)


def _tensor(column: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column, dtype=np.int64))
