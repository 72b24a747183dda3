"""The span-boundary objective (SpanBERT, section 3.2): the tokens of a hidden span, told from the two around it.

    stream         [CLS]  a   b   x   x   x   c   d  [SEP]      x: to be predicted, a maximal run of targets
                              ^                ^                what their head reads: b, c, and how far inside
    place in span                 0   1   2                     the span a target is

A span that touches the edge of its text, where one neighbour is [CLS] or [SEP], gives nothing; of a longer one only the
first tokens count. After facebookresearch/SpanBERT `models/pair_bert.py` (BertPairTargetPredictionHead) and
`data/masking.py` (span_masking): the place has an embedding of 200 values, one for each place up to the longest.

Letters: `B` sequences, `T` tokens, `R` runs, `M` targets, `D` hidden size, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.shapes import with_filler
from training.pretraining_batches import MaskedBatch


@dataclass(frozen=True)
class SpanTargets:
    """What is predicted from the boundaries of its span; all int64."""

    left_M: Tensor  # into tokens_T: the token before the span
    right_M: Tensor  # the token behind it
    place_M: Tensor  # how many tokens of the span lie before this one
    tokens_M: Tensor  # the original token

    def __len__(self) -> int:
        return len(self.tokens_M)


def span_targets(batch: MaskedBatch, most: int) -> SpanTargets:
    """The first `most` targets of each maximal run of targets that has an ordinary token on both sides.

    Ordinary is what is neither first nor last in its sequence, nor the last of the first segment: [CLS] and [SEP].
    """
    tokens, index_M = batch.tokens, batch.target_index_M
    if not len(index_M):
        return SpanTargets(index_M, index_M, index_M, batch.target_tokens_M)
    border_T = torch.zeros_like(tokens.tokens_T, dtype=torch.bool)
    border_T[tokens.cu_seqlens[:-1].long()] = True
    border_T[tokens.cu_seqlens[1:].long() - 1] = True
    border_T[:-1] |= tokens.segments_T[1:] != tokens.segments_T[:-1]
    border_M = border_T[index_M]  # a hidden [SEP] begins a run, and no run that does counts
    begins_M = torch.ones_like(border_M)
    begins_M[1:] = (index_M.diff() != 1) | border_M[1:]
    first_R = begins_M.nonzero().squeeze(1)  # of each run, among the targets
    last_R = torch.cat([first_R[1:], first_R.new_tensor([len(index_M)])]) - 1
    left_R = (index_M[first_R] - 1).clamp(min=0)
    right_R = (index_M[last_R] + 1).clamp(max=len(border_T) - 1)
    inside_R = ~(border_T[left_R] | border_M[first_R] | border_T[right_R])
    run_M = begins_M.cumsum(0) - 1
    place_M = torch.arange(len(index_M), device=index_M.device) - first_R[run_M]
    chosen = (inside_R[run_M] & (place_M < most)).nonzero().squeeze(1)
    run_M = run_M[chosen]
    return SpanTargets(left_R[run_M], right_R[run_M], place_M[chosen], batch.target_tokens_M[chosen])


class SpanBoundaryHead(nn.Module):
    """Boundaries and place, twice through dense, GELU and LayerNorm, then the token embedding transposed plus a bias.

    The embedding matrix is an argument, as in MaskedLMHead.
    """

    def __init__(
        self, *, hidden_size: int, vocab_size: int, most: int, place_size: int, layer_norm_eps: float
    ) -> None:
        super().__init__()
        self.place = nn.Embedding(most, place_size)
        self.first = nn.Linear(2 * hidden_size + place_size, hidden_size)
        self.first_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.second_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x_TD: Tensor, targets: SpanTargets, embedding_VD: Tensor) -> Tensor:
        """Scores of the whole vocabulary, `M,V`."""
        return F.linear(self._transformed(self._read(x_TD, targets)), embedding_VD, self.bias)

    def loss(self, x_TD: Tensor, targets: SpanTargets, embedding_VD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (float32) and the number of targets that score highest, without keeping the scores."""
        x_MD = self._transformed(with_filler(self._read(x_TD, targets)))
        return vocabulary_cross_entropy(x_MD, embedding_VD, self.bias, targets.tokens_M)

    def _read(self, x_TD: Tensor, targets: SpanTargets) -> Tensor:
        left_MD, right_MD = (x_TD.index_select(0, index_M) for index_M in (targets.left_M, targets.right_M))
        return torch.cat([left_MD, right_MD, self.place(targets.place_M)], -1)

    def _transformed(self, x: Tensor) -> Tensor:
        x = self.first_norm(F.gelu(self.first(x)))
        return self.second_norm(F.gelu(self.second(x)))
