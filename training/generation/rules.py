"""What may not be said next, whatever the model thinks: functions of scores and of what was said.

They are applied one after the other, before a token is chosen (to logits) or beams are compared (to
log-probabilities). Each does what the processor of transformers named beside it does, for one kind of row:
tokens said so far stand at the right, and left of the shorter ones is NOTHING.

Letters: `B` rows, `L` tokens said, prompt and new ones together, `V` vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.batches import TokenBatch

NOTHING = -1


class Rule(Protocol):
    def apply(self, scores_BV: Tensor, said_BL: Tensor, new_tokens: int) -> Tensor:
        """The scores under this rule; `new_tokens` of what was said are new. Does not change its arguments."""
        ...


@dataclass(frozen=True)
class NoRepeatedNgram:
    """No `size` tokens in a row twice, prompt included (NoRepeatNGramLogitsProcessor; Paulus et al. 2017)."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"NoRepeatedNgram.size is {self.size}; give 1 or more, e.g. 3")

    def apply(self, scores_BV: Tensor, said_BL: Tensor, new_tokens: int) -> Tensor:
        if said_BL.shape[1] < self.size:
            return scores_BV
        windows_BWS = said_BL.unfold(1, self.size, 1)
        begun_BP = said_BL[:, said_BL.shape[1] - self.size + 1 :]
        again_BW = (windows_BWS[..., :-1] == begun_BP[:, None]).all(-1) & (windows_BWS >= 0).all(-1)
        row, window = again_BW.nonzero(as_tuple=True)
        scores_BV = scores_BV.clone()
        scores_BV[row, windows_BWS[row, window, -1]] = -torch.inf
        return scores_BV


@dataclass(frozen=True)
class FewestNewTokens:
    """No end before `count` new tokens (MinNewTokensLengthLogitsProcessor)."""

    count: int
    end_ids: tuple[int, ...]

    def apply(self, scores_BV: Tensor, said_BL: Tensor, new_tokens: int) -> Tensor:
        if new_tokens >= self.count:
            return scores_BV
        return scores_BV.index_fill(1, scores_BV.new_tensor(self.end_ids, dtype=torch.int64), -torch.inf)


@dataclass(frozen=True)
class Forced:
    """New token number `place`, from 0, is `token`, at no cost (ForcedBOSTokenLogitsProcessor: place 0;
    ForcedEOS...: the last place).
    """

    place: int
    token: int

    def apply(self, scores_BV: Tensor, said_BL: Tensor, new_tokens: int) -> Tensor:
        if new_tokens != self.place:
            return scores_BV
        forced_BV = torch.full_like(scores_BV, -torch.inf)
        forced_BV[:, self.token] = 0
        return forced_BV


@dataclass(frozen=True)
class RepetitionPenalty:
    """Scores of what was said are divided by `penalty` if positive, else multiplied (Keskar et al. 2019, section 4.1)."""

    penalty: float

    def __post_init__(self) -> None:
        if self.penalty <= 0:
            raise ValueError(
                f"RepetitionPenalty.penalty is {self.penalty}; it must be above 0, and 1 does nothing"
            )

    def apply(self, scores_BV: Tensor, said_BL: Tensor, new_tokens: int) -> Tensor:
        row, place = (said_BL >= 0).nonzero(as_tuple=True)
        said_BV = torch.zeros_like(scores_BV, dtype=torch.bool)
        said_BV[row, said_BL[row, place]] = True
        changed_BV = torch.where(scores_BV < 0, scores_BV * self.penalty, scores_BV / self.penalty)
        return torch.where(said_BV, changed_BV, scores_BV)


def under(rules: Iterable[Rule], scores_BV: Tensor, context_BL: Tensor, said_BS: Tensor) -> Tensor:
    """Scores under all rules, in their order."""
    rules = list(rules)
    if rules:
        so_far_BL = torch.cat([context_BL, said_BS], 1)
        for rule in rules:
            scores_BV = rule.apply(scores_BV, so_far_BL, said_BS.shape[1])
    return scores_BV


def context_of(read: TokenBatch) -> Tensor:
    """What a decoder has read, `B,L`, at the right; NOTHING left of shorter rows."""
    lengths_B1 = read.cu_seqlens.diff().long()[:, None]
    column_L = torch.arange(read.max_seq_len, device=read.tokens_T.device)
    real_BL = column_L >= read.max_seq_len - lengths_B1
    return torch.full_like(real_BL, NOTHING, dtype=torch.int64).masked_scatter(real_BL, read.tokens_T)
