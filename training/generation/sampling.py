"""Tokens drawn by the model's own probabilities, or by those of the likely ones alone (Holtzman et al. 2020).

A draw is a pure function of (seed, request, which new token): neither the other texts of a batch nor a
restart changes it (corpus/stream.py). The number decides through the running sum of the probabilities, in
float64, so that a vocabulary of 100,000 loses no token to rounding, and what was cut can never come up.

Which tokens remain is as in transformers: temperature, then `top_k`, then `top_p` of the mass of those.
Neither needs the whole vocabulary in order, which costs 2 ms a row of 30,000: the likeliest 64 tokens (.04
ms) hold .9 of the mass in most places of a text, and only where they do not are more looked at.

Letters: `B` rows, `V` vocabulary, `M` tokens that remain, in order.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corpus.stream import Stream

LOOKS = (64, 1024)  # tokens
Requests = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """The likeliest token; of equal ones the first."""

    def choose(self, scores_BV: Tensor, requests_B: Requests, number: int) -> Tensor:
        return scores_BV.argmax(-1)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A drawn token. `top_k` likeliest ones (and those as likely as the last), the likeliest with `top_p` of the mass."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"Sampling.temperature is {self.temperature}; it must be above 0; for the likeliest token use Greedy"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sampling.top_k is {self.top_k}; give 1 or more, or None for all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"Sampling.top_p is {self.top_p}; it is a share of probability, above 0 up to 1; None for all tokens"
            )

    def choose(self, scores_BV: Tensor, requests_B: Requests, number: int) -> Tensor:
        """(B,) a token for each row: new token `number` of request `requests_B`."""
        scores_BM, ids_BM = self.remaining(scores_BV)
        mass_BM = torch.softmax(scores_BM, -1).cumsum(-1, dtype=torch.float64)
        bits_B = Stream.of(self.seed, "sampling", 0, requests_B).bits(number) >> np.uint64(11)
        uniform_B1 = torch.from_numpy(bits_B.astype(np.float64) * 2.0**-53).to(mass_BM.device)[:, None]
        below_all_B1 = torch.nextafter(mass_BM[:, -1:], mass_BM.new_zeros(()))
        place_B1 = torch.searchsorted(
            mass_BM, torch.minimum(uniform_B1 * mass_BM[:, -1:], below_all_B1), right=True
        )
        return ids_BM.gather(1, place_B1).squeeze(1)

    def remaining(self, scores_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Scores by temperature, -inf for a token that was cut, and the tokens' ids: `B,M` both."""
        scores_BV = scores_BV / self.temperature
        size = scores_BV.shape[1]
        if self.top_k is not None and self.top_k < size:
            last_B1 = scores_BV.topk(self.top_k).values[:, -1:]
            most = int((scores_BV >= last_B1).sum(-1).max())
            scores_BM, ids_BM = scores_BV.topk(most)
            scores_BM = scores_BM.masked_fill(scores_BM < last_B1, -torch.inf)
            return self._nucleus(scores_BM, torch.logsumexp(scores_BM, -1, keepdim=True)), ids_BM
        if self.top_p is None or self.top_p == 1:
            return scores_BV, torch.arange(size, device=scores_BV.device).expand_as(scores_BV)
        total_B1 = torch.logsumexp(scores_BV, -1, keepdim=True)
        for look in LOOKS:
            scores_BM, ids_BM = scores_BV.topk(min(look, size))
            if look >= size or bool(((scores_BM - total_B1).exp().sum(-1) > self.top_p).all()):
                return self._nucleus(scores_BM, total_B1), ids_BM
        # all tokens below a V-th of the rest have less than the rest together, so the nucleus is among the others
        least_B1 = total_B1 + math.log((1 - self.top_p) / size)
        scores_BM, ids_BM = scores_BV.topk(max(1, int((scores_BV >= least_B1).sum(-1).max())))
        return self._nucleus(scores_BM, total_B1), ids_BM

    def _nucleus(self, scores_BM: Tensor, total_B1: Tensor) -> Tensor:
        """-inf for those that come, in order, after `top_p` of the mass; the first is never cut."""
        if self.top_p is None or self.top_p == 1:
            return scores_BM
        share_BM = (scores_BM - total_B1).exp()
        return scores_BM.masked_fill(share_BM.cumsum(-1) - share_BM >= self.top_p, -torch.inf)
