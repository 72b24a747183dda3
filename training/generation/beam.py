"""Beam search: the best whole texts, not the best next token; equal to transformers' `generate`.

Each step extends the G beams of a prompt by every token and keeps the likeliest. Of the first G extensions
those that end a text are put aside, scored by log-probability over length to the power of `length_penalty`;
the best G of all that were put aside are kept. The search goes on with the likeliest G that do not end, until
Patience says that it is over.

A prompt whose search is over leaves the batch. Its G beams share one copy of the prompt's keys and values
(cache.py), and the prompt is read once.

Letters: `P` prompts still searched, `G` beams, `K` extensions looked at, `S` new tokens, `V` vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from training.batches import TokenBatch
from training.generation.protocol import C, Generative
from training.generation.rules import NOTHING, Rule, context_of, under
from training.generation.search import check_not_training
from training.generation.stopping import Continuation, Stop


class Patience(Enum):
    """When the search of a prompt is over, once G texts are put aside (transformers' `early_stopping`)."""

    NONE = "at once"  # True
    IF_BETTER_NOW = "when the best beam, ended now, would not be better than the worst of them"  # False
    IF_EVER_BETTER = (
        "when the best beam could not be better at any length, if nothing more cost anything"  # "never"
    )


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How wide, and what is best. A `length_penalty` above 0 favours long texts, below 0 short ones."""

    beams: int = 4
    length_penalty: float = 1.0
    patience: Patience = Patience.IF_BETTER_NOW
    best: int = 1  # texts returned for each prompt

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ValueError(f"Beam.beams is {self.beams}; give 1 or more, e.g. 4")
        if not 1 <= self.best <= self.beams:
            raise ValueError(
                f"Beam.best is {self.best}; there are {self.beams} beams: give 1 to {self.beams}"
            )


@dataclass
class _Texts:
    """G texts of each prompt, in the order of their scores; -inf: there is none."""

    tokens_PGS: Tensor  # NOTHING behind the end of a shorter one
    log_probs_PGS: Tensor
    score_PG: Tensor

    def at(self, prompts: Tensor) -> "_Texts":
        return _Texts(self.tokens_PGS[prompts], self.log_probs_PGS[prompts], self.score_PG[prompts])

    def chosen(self, index_PG: Tensor) -> "_Texts":
        """Some of each prompt's, in this order."""
        deep_PGS = index_PG[..., None].expand(-1, -1, self.tokens_PGS.shape[-1])
        return _Texts(
            self.tokens_PGS.gather(1, deep_PGS),
            self.log_probs_PGS.gather(1, deep_PGS),
            self.score_PG.gather(1, index_PG),
        )


@torch.inference_mode()
def beam_search(
    model: Generative[C], prompts: TokenBatch, beam: Beam, stop: Stop, *, rules: Sequence[Rule] = ()
) -> list[list[Continuation]]:
    """The `best` continuations of each prompt, best first; fewer where fewer can be told apart."""
    check_not_training(model)
    begun = model.begin(prompts, new_tokens=stop.new_tokens)
    count, wide, cache = len(prompts), beam.beams, begun.cache
    cache.widen(wide)
    logits_BV = begun.logits_BV.repeat_interleave(wide, 0)
    context_BL = context_of(begun.said).repeat_interleave(wide, 0)
    running = _nothing(count, wide, 0, logits_BV.device)
    running.score_PG[:, 0] = 0  # the others are its copies, and would all say the same
    aside = _nothing(count, wide, stop.new_tokens, logits_BV.device)
    prompt_P = torch.arange(count, device=logits_BV.device)
    found: dict[int, list[Continuation]] = {}
    while True:
        log_prob_BV = torch.log_softmax(logits_BV.float(), -1)
        log_prob_BV = under(rules, log_prob_BV, context_BL, running.tokens_PGS.flatten(0, 1))
        extended, beam_PK = _extended(running, log_prob_BV, stop.candidates(wide))
        ends_PK = stop.finished(extended.tokens_PGS.flatten(0, 1)).view_as(beam_PK)
        aside = _put_aside(aside, extended, ends_PK, beam.length_penalty)
        open_PK = extended.score_PG.masked_fill(ends_PK, -torch.inf)
        score_PG, next_PG = open_PK.topk(wide)
        running = extended.chosen(next_PG)
        running.score_PG = score_PG
        over_P = _over(beam, running, aside, stop.new_tokens, beam.length_penalty)
        for place in over_P.nonzero().flatten().tolist():
            found[int(prompt_P[place])] = _continuations(aside, place, beam, stop)
        stay = (~over_P).nonzero().flatten()
        if not len(stay):
            return [found[number] for number in range(count)]
        rows_B = (stay[:, None] * wide + beam_PK.gather(1, next_PG)[stay]).flatten()
        running, aside, prompt_P = running.at(stay), aside.at(stay), prompt_P[stay]
        context_BL = context_BL[rows_B]
        cache.select(rows_B)
        logits_BV = model.step(running.tokens_PGS[..., -1].flatten(), cache)


def _nothing(prompts: int, wide: int, length: int, device: torch.device) -> _Texts:
    return _Texts(
        torch.full((prompts, wide, length), NOTHING, device=device),
        torch.zeros(prompts, wide, length, device=device),
        torch.full((prompts, wide), -torch.inf, device=device),
    )


def _extended(running: _Texts, log_prob_BV: Tensor, candidates: int) -> tuple[_Texts, Tensor]:
    """The likeliest extensions of each prompt's beams by one token, and which beam each extends: `P,K`."""
    prompts, wide = running.score_PG.shape
    vocab_size = log_prob_BV.shape[1]
    total_PC = (log_prob_BV.view(prompts, wide, -1) + running.score_PG[..., None]).flatten(1)
    score_PK, index_PK = total_PC.topk(min(candidates, wide * vocab_size))
    beam_PK, token_PK = index_PK // vocab_size, index_PK % vocab_size
    own_PK = log_prob_BV.view(prompts, -1).gather(1, index_PK)
    parents = running.chosen(beam_PK)
    extended = _Texts(
        torch.cat([parents.tokens_PGS, token_PK[..., None]], -1),
        torch.cat([parents.log_probs_PGS, own_PK[..., None]], -1),
        score_PK,
    )
    return extended, beam_PK


def _put_aside(aside: _Texts, extended: _Texts, ends_PK: Tensor, length_penalty: float) -> _Texts:
    """The best G of what was put aside before and of those among the first G extensions that end."""
    wide, length = aside.score_PG.shape[1], extended.tokens_PGS.shape[-1]
    room = aside.tokens_PGS.shape[-1] - length
    score_PK = (extended.score_PG / length**length_penalty).masked_fill(~ends_PK, -torch.inf)
    both = _Texts(
        torch.cat([aside.tokens_PGS, F.pad(extended.tokens_PGS[:, :wide], (0, room), value=NOTHING)], 1),
        torch.cat([aside.log_probs_PGS, F.pad(extended.log_probs_PGS[:, :wide], (0, room))], 1),
        torch.cat([aside.score_PG, score_PK[:, :wide]], 1),
    )
    return both.chosen(both.score_PG.topk(wide).indices)


def _over(beam: Beam, running: _Texts, aside: _Texts, new_tokens: int, length_penalty: float) -> Tensor:
    """(P,) whether the search of a prompt is over."""
    length = running.tokens_PGS.shape[-1]
    best_P, worst_P = running.score_PG[:, 0], aside.score_PG[:, -1]
    full_P = worst_P > -torch.inf
    if beam.patience is Patience.IF_EVER_BETTER and length_penalty > 0:
        best_P = best_P / new_tokens**length_penalty
    else:
        best_P = best_P / length**length_penalty
    hopeless_P = full_P & ((best_P <= worst_P) | (beam.patience is Patience.NONE))
    return hopeless_P | best_P.isneginf()


def _continuations(aside: _Texts, place: int, beam: Beam, stop: Stop) -> list[Continuation]:
    found: list[Continuation] = []
    for tokens_S, log_probs_S, score in zip(
        aside.tokens_PGS[place].tolist(),
        aside.log_probs_PGS[place].tolist(),
        aside.score_PG[place].tolist(),
        strict=True,
    ):
        tokens = [token for token in tokens_S if token != NOTHING]
        if score > float("-inf") and len(found) < beam.best:
            log_probs = log_probs_S[: len(tokens)]
            found.append(Continuation(tokens=tokens, log_probs=log_probs, why=stop.why(tokens), score=score))
    return found
