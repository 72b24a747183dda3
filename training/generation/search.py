"""Texts made token by token, greedily or by drawing: `stream` hands over tokens, `generate` whole texts.

Prompts of any lengths go together. A finished text leaves the batch as soon as half of those in it are
finished, so what is computed for nothing is less than what is computed, and what is copied is less than the
cache once was.

Letters: `B` rows in the batch, `S` new tokens of each, `V` vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.batches import TokenBatch
from training.generation.protocol import C, Generative
from training.generation.rules import Rule, context_of, under
from training.generation.sampling import Greedy, Requests, Sampling
from training.generation.stopping import Continuation, Stop, Why

Choice = Greedy | Sampling


@dataclass(frozen=True, kw_only=True)
class Said:
    """One new token of one text."""

    prompt: int  # which of the prompts it continues
    token: int
    log_prob: float  # by the model, before temperature, cuts and rules
    why: Why | None  # None: the text goes on


def generate(
    model: Generative[C],
    prompts: TokenBatch,
    choice: Choice,
    stop: Stop,
    *,
    rules: Sequence[Rule] = (),
    requests: Sequence[int] | None = None,
) -> list[Continuation]:
    """A continuation of each prompt. `requests` are numbers that draws depend on; by default 0, 1, 2, ..."""
    said: list[list[Said]] = [[] for _ in range(len(prompts))]
    for step in stream(model, prompts, choice, stop, rules=rules, requests=requests):
        for one in step:
            said[one.prompt].append(one)
    return [_joined(row) for row in said]


def _joined(said: list[Said]) -> Continuation:
    log_probs, why = [one.log_prob for one in said], said[-1].why
    assert why is not None, "a text ends with a reason"
    return Continuation(
        tokens=[one.token for one in said], log_probs=log_probs, why=why, score=float(np.sum(log_probs))
    )


def stream(
    model: Generative[C],
    prompts: TokenBatch,
    choice: Choice,
    stop: Stop,
    *,
    rules: Sequence[Rule] = (),
    requests: Sequence[int] | None = None,
) -> Iterator[list[Said]]:
    """Step by step, the new token of every text that is not finished."""
    check_not_training(model)
    requests_B = _requests(requests, len(prompts))
    begun = model.begin(prompts, new_tokens=stop.new_tokens)
    logits_BV, cache, context_BL = begun.logits_BV, begun.cache, context_of(begun.said)
    said_BS = context_BL.new_empty(len(prompts), 0)
    prompt_B, done_B = torch.arange(len(prompts)), torch.zeros(len(prompts), dtype=torch.bool)
    while True:
        with torch.inference_mode():  # never across a yield: it would reach into the caller
            scores_BV = logits_BV.float()
            tokens_B = choice.choose(
                under(rules, scores_BV, context_BL, said_BS), requests_B, said_BS.shape[1]
            )
            log_prob_B = scores_BV.gather(1, tokens_B[:, None]).squeeze(1) - torch.logsumexp(scores_BV, -1)
            said_BS = torch.cat([said_BS, tokens_B[:, None]], 1)
            finished_B = stop.finished(said_BS).cpu()
        yield _step(stop, prompt_B, said_BS, log_prob_B, finished_B, done_B)
        done_B = done_B | finished_B
        if bool(done_B.all()):
            return
        with torch.inference_mode():
            if 2 * int(done_B.sum()) >= len(done_B):
                stay = (~done_B).nonzero().flatten()
                rows_B = stay.to(said_BS.device)
                cache.select(rows_B)
                said_BS, context_BL, tokens_B = said_BS[rows_B], context_BL[rows_B], tokens_B[rows_B]
                prompt_B, done_B, requests_B = prompt_B[stay], done_B[stay], requests_B[stay.numpy()]
            logits_BV = model.step(tokens_B, cache)


def _step(
    stop: Stop, prompt_B: Tensor, said_BS: Tensor, log_prob_B: Tensor, finished_B: Tensor, done_B: Tensor
) -> list[Said]:
    ended = {
        row: stop.why(said_BS[row].tolist()) for row in (finished_B & ~done_B).nonzero().flatten().tolist()
    }
    columns = (prompt_B.tolist(), said_BS[:, -1].tolist(), log_prob_B.tolist(), done_B.tolist())
    return [
        Said(prompt=prompt, token=token, log_prob=log_prob, why=ended.get(row))
        for row, (prompt, token, log_prob, done) in enumerate(zip(*columns, strict=True))
        if not done
    ]


def _requests(requests: Sequence[int] | None, prompts: int) -> Requests:
    if requests is None:
        return np.arange(prompts, dtype=np.uint64)
    if len(requests) != prompts:
        raise ValueError(f"{len(requests)} requests for {prompts} prompts: give one number for each prompt")
    return np.array(requests, np.uint64)


def check_not_training(model: Generative[C]) -> None:
    if model.training:
        raise ValueError(
            "the model is in training mode, and dropout would change what it says; call model.eval()"
        )
