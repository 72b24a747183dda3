"""What a model offers so that text can be made with it: read the prompts once, then a token a row at a time.

    begin(prompts)  ->  scores of the first new token, a cache        one pass over all prompts, unpadded
    step(tokens)    ->  scores of the next one, the cache has grown   one token's work for each row

A decoder-only model (GPT) reads the prompts and continues them. An encoder-decoder (BART, MASS) gives the
prompts to its encoder, keeps what its decoder will look at, and its decoder reads the start token; so `said`
is the prompts of the one, the start tokens of the other. Everything else (search.py, beam.py, sampling.py)
knows only this file.

Letters: `B` rows, one for each text being made; `V` vocabulary; `G` rows that continue the same prompt
(beams).
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from training.batches import TokenBatch


class Cache(Protocol):
    """What a model keeps of B rows between two steps. It belongs to one generation and is changed in place.

    Rows of one prompt are neighbours: after `widen(G)` rows `G * i ... G * i + G - 1` continue prompt i, and
    every later `select` keeps or drops a prompt's G rows together. So what only depends on the prompt is kept
    once for its G rows.
    """

    def widen(self, count: int) -> None:
        """Each row becomes `count` rows that go on from it (beams). Called at most once, before the first step."""
        ...

    def select(self, rows_B: Tensor) -> None:
        """Keep these rows (int64), in this order; a row may appear several times.

        Either beams of the same prompt take each other's place, or whole prompts leave, or both.
        """
        ...


C = TypeVar("C", bound=Cache)


@dataclass(frozen=True, kw_only=True)
class Begun(Generic[C]):
    """What there is when the prompts have been read."""

    logits_BV: Tensor  # scores of each row's first new token
    cache: C
    said: TokenBatch  # what the decoder has read so far, for rules that look at it (no repeated n-grams)


class Generative(Protocol[C]):
    """A model that text can be made with. Both methods run under `torch.inference_mode`."""

    training: bool  # torch's; must be False, or dropout would change what is said

    def begin(self, prompts: TokenBatch, *, new_tokens: int) -> Begun[C]:
        """Read `B` prompts and make room for `new_tokens` more of each.

        Raises ValueError, one sentence, if a prompt with its new tokens is longer than the model can hold.
        """
        ...

    def step(self, tokens_B: Tensor, cache: C) -> Tensor:
        """Read one more token of each row; the scores of what comes next, `B,V`."""
        ...
