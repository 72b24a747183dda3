"""A model and batches small enough to train in milliseconds, with everything that could break equality: dropout, two parts, uneven targets."""

from dataclasses import dataclass

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
