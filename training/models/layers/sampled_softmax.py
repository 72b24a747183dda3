"""A softmax over a large vocabulary: in training over a sample of it, otherwise over all (Jean et al. 2015,
arXiv:1412.2007; Jozefowicz et al. 2016, arXiv:1602.02410).

For each call `num_candidates` distinct words are drawn, word number k with a chance near log((k+2) / (k+1)),
which is how frequent it is if the vocabulary is ordered by frequency. With Q(w) the number of times w is
expected among them, a target y competes against the candidates C without itself:

    loss = log( exp(s_y - log Q(y)) + sum over w in C \\ y of exp(s_w - log Q(w)) ) - (s_y - log Q(y))

Dividing by Q makes the sum over C an estimate of the sum over the vocabulary that is right on average,
whatever the order of words; the order decides how much it varies. As in the original, a candidate that is the
target is left out of its sum, and the loss is below that of the whole vocabulary: the more candidates, the
nearer.

Draws are a function of one number from torch's generator, which the engine seeds for every piece of every
step (training/engine.py), so a restart draws the same; they are made on the CPU whatever the device.

Letters: `M` targets, `D` hidden size, `V` vocabulary, `S` candidates, `K` groups of targets with candidates
of their own, `U` distinct words among all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.shapes import with_filler


@dataclass(frozen=True)
class Candidates:
    """Distinct words, ascending, and how many draws it took to find them."""

    words_S: Tensor  # int64, on the CPU
    draws: int
    vocab_size: int

    def log_expected(self, words: Tensor) -> Tensor:
        """log Q: how often each of these words is expected among the candidates, float32."""
        rank = words.double()
        chance = torch.log((rank + 2) / (rank + 1)) / math.log(self.vocab_size + 1)
        return torch.log(-torch.expm1(self.draws * torch.log1p(-chance))).float()


def draw_candidates(vocab_size: int, count: int) -> Candidates:
    """Draw from the log-uniform distribution until `count` < `vocab_size` distinct words are found."""
    noise = np.random.Generator(np.random.SFC64(int(torch.empty((), dtype=torch.int64).random_())))
    drawn = np.empty(0, np.int64)
    while True:
        uniform = noise.random(max(64, 2 * count))
        more = np.exp(uniform * math.log(vocab_size + 1)).astype(np.int64) - 1
        drawn = np.concatenate([drawn, np.minimum(more, vocab_size - 1)])
        words, first = np.unique(drawn, return_index=True)
        if len(words) >= count:
            draws = int(np.partition(first, count - 1)[count - 1]) + 1
            return Candidates(torch.from_numpy(words[first < draws]), draws, vocab_size)


class SampledSoftmax(nn.Module):
    """Vocabulary scores `x_MD @ weight_VD.T + bias_V`. `num_candidates` None: training sees the whole
    vocabulary, too.
    """

    def __init__(self, *, hidden_size: int, vocab_size: int, num_candidates: int | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(vocab_size))
        self.num_candidates = num_candidates

    def first_weights(self, generator: Callable[[str], torch.Generator]) -> None:
        """Normal with deviation 1 / sqrt(hidden size); bias 0."""
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5, generator=generator("weight"))
        nn.init.zeros_(self.bias)

    def forward(self, x_MD: Tensor) -> Tensor:
        """Scores of the whole vocabulary, `M,V`."""
        return F.linear(x_MD, self.weight, self.bias)

    def losses(self, x_KMD: Tensor, target_KM: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each of K groups the mean cross-entropy (float32; zero without targets) and how many targets
        score highest, of the whole vocabulary or, in training, of the candidates.
        """
        if not self.training or self.num_candidates is None or not target_KM.numel():
            return [
                vocabulary_cross_entropy(with_filler(x_MD), self.weight, self.bias, target_M)
                for x_MD, target_M in zip(x_KMD, target_KM, strict=True)
            ]
        groups = [draw_candidates(len(self.bias), self.num_candidates) for _ in range(len(target_KM))]
        words_KS = torch.stack([group.words_S for group in groups]).to(target_KM.device)
        # one gather for all, because its gradient is as large as the vocabulary
        words_U, place = torch.unique(torch.cat([words_KS, target_KM], 1), return_inverse=True)
        weight_UD, bias_U = self.weight.index_select(0, words_U), self.bias.index_select(0, words_U)
        out = []
        for group, x_MD, words_S, target_M, place_SM in zip(
            groups, x_KMD, words_KS, target_KM, place, strict=True
        ):
            rows_S, rows_M = place_SM.split([len(words_S), len(target_M)])
            adjust_S, adjust_M = group.log_expected(words_S), group.log_expected(target_M)
            own_M = (x_MD * weight_UD[rows_M]).sum(-1).float() + bias_U[rows_M].float()
            scores_MS = F.linear(x_MD, weight_UD[rows_S], bias_U[rows_S]).float() - adjust_S
            scores_MS = _without(scores_MS, words_S, target_M)
            with torch.no_grad():
                correct = (own_M > (scores_MS + adjust_S).amax(1)).sum()
            others_M = scores_MS.logsumexp(1)
            out.append((F.softplus(others_M - (own_M - adjust_M)).mean(), correct))
        return out


def _without(scores_MS: Tensor, words_S: Tensor, target_M: Tensor) -> Tensor:
    """-inf where a candidate is the target itself."""
    place_M1 = torch.searchsorted(words_S, target_M).clamp_(max=len(words_S) - 1).unsqueeze(1)
    hit_M1 = words_S[place_M1] == target_M.unsqueeze(1)
    kept_M1 = scores_MS.gather(1, place_M1).masked_fill(hit_M1, -torch.inf)
    return scores_MS.scatter(1, place_M1, kept_M1)
