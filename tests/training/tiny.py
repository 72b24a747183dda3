"""A model and batches small enough to train in milliseconds, with everything that could break equality: dropout, two parts, uneven targets."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TokenBatch
from training.losses import Losses

VOCAB = 50


@dataclass(frozen=True)
class TinyBatch:
    tokens: TokenBatch
    target_index_M: Tensor
    target_tokens_M: Tensor
    next_sentence_B: Tensor
    carried: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str) -> "TinyBatch":
        return self

    @property
    def num_tokens(self) -> int:
        return self.tokens.num_tokens


def batch_at(numbers: range) -> TinyBatch:
    """Sample n depends on n alone."""
    rows, targets, answers, labels, start = [], [], [], [], 0
    for n in numbers:
        noise = np.random.default_rng(n)
        length = int(noise.integers(4, 12))
        rows.append(noise.integers(0, VOCAB, length))
        hidden = np.sort(noise.choice(length, int(noise.integers(1, 4)), replace=False))
        targets.append(start + hidden)
        answers.append((rows[-1][hidden] * 7 + 3) % VOCAB)
        labels.append(int(rows[-1][0]) % 2)
        start += length
    return TinyBatch(
        tokens=TokenBatch.from_sequences(rows),
        target_index_M=torch.from_numpy(np.concatenate(targets)),
        target_tokens_M=torch.from_numpy(np.concatenate(answers)),
        next_sentence_B=torch.tensor(labels),
    )


class TinyModel(nn.Module):
    def __init__(self, size: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.token = nn.Embedding(VOCAB, size)
            self.norm = nn.LayerNorm(size)
            self.inner = nn.Linear(size, size)
            self.pair = nn.Linear(size, 2)
            self.dropout = nn.Dropout(dropout)

    def predictions(self, batch: TinyBatch) -> dict[str, int]:
        return {"masked_lm": len(batch.target_tokens_M), "next_sentence": len(batch.next_sentence_B)}

    def forward(self, batch: TinyBatch) -> Losses:
        x_TD = self.token(batch.tokens.tokens_T)
        x_TD = x_TD + self.dropout(F.gelu(self.inner(self.norm(x_TD))))
        logits_MV = x_TD[batch.target_index_M] @ self.token.weight.T
        logits_B2 = self.pair(x_TD[batch.tokens.cu_seqlens[:-1].long()])
        parts = {
            "masked_lm": F.cross_entropy(logits_MV.float(), batch.target_tokens_M),
            "next_sentence": F.cross_entropy(logits_B2.float(), batch.next_sentence_B),
        }
        counts = {
            "masked_lm_correct": (logits_MV.argmax(-1) == batch.target_tokens_M).sum(),
            "next_sentence_correct": (logits_B2.argmax(-1) == batch.next_sentence_B).sum(),
        }
        return Losses(total=parts["masked_lm"] + parts["next_sentence"], parts=parts, counts=counts)


class CarryingModel(TinyModel):
    """It also keeps a memory of each row, as a mean of what it has read, and how often it has read."""

    reads_in_order = True

    def forward(self, batch: TinyBatch) -> Losses:
        tokens = batch.tokens
        lengths_B = tokens.cu_seqlens.diff().long()
        size = self.token.weight.shape[1]
        memory_BD, count = batch.carried or (
            torch.zeros(len(tokens), size),
            torch.zeros((), dtype=torch.int64),
        )
        x_TD = self.token(tokens.tokens_T) + memory_BD.repeat_interleave(lengths_B, 0)
        x_TD = x_TD + self.dropout(F.gelu(self.inner(self.norm(x_TD))))
        row_T = torch.arange(len(tokens)).repeat_interleave(lengths_B)
        logits_MV = x_TD[batch.target_index_M] @ self.token.weight.T
        sums_BD = torch.zeros(len(tokens), size).index_add_(0, row_T, x_TD.float())
        parts = {"masked_lm": F.cross_entropy(logits_MV.float(), batch.target_tokens_M)}
        correct = (logits_MV.argmax(-1) == batch.target_tokens_M).sum()
        return Losses(
            total=parts["masked_lm"],
            parts=parts,
            counts={"masked_lm_correct": correct},
            carried=((0.5 * memory_BD + sums_BD / lengths_B[:, None]).detach().tanh(), count + 1),
        )

    def predictions(self, batch: TinyBatch) -> dict[str, int]:
        return {"masked_lm": len(batch.target_tokens_M)}


class FragileModel(TinyModel):
    """Its losses are multiplied by what a batch carries: a batch can be made to explode."""

    def forward(self, batch: TinyBatch) -> Losses:
        found = super().forward(batch)
        factor = sum(batch.carried, torch.ones(()))
        parts = {name: value * factor for name, value in found.parts.items()}
        return Losses(total=found.total * factor, parts=parts, counts=found.counts)


def poisoned(samples: range, factor: float) -> Callable[[range], TinyBatch]:
    """Batches that FragileModel chokes on if they hold one of `samples`."""

    def batch(numbers: range) -> TinyBatch:
        hit = any(n in samples for n in numbers)
        return replace(batch_at(numbers), carried=(torch.tensor(factor - 1),) if hit else ())

    return batch
