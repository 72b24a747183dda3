"""When a text is finished: a token that ends it, tokens or words after which it ends, or its length.

Stop words are found in the text, not in its tokens, for the same word is other tokens after other text. Only
what was made counts, not the prompt. What ended a text is its last token or tokens: they are not cut off
here.

Letters: `B` rows, `S` new tokens of each so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class Why(Enum):
    """Why a text is finished."""

    END = "a token that ends a text"
    STOP = "a stop sequence or a stop word"
    LENGTH = "as long as asked for"


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What was made of one prompt."""

    tokens: list[int]  # the new ones, with what ended the text
    log_probs: list[float]  # of each, given all before it
    why: Why
    score: float  # the sum of these; from beams, over the length to the power of the length penalty


@dataclass(frozen=True, kw_only=True)
class StopWords:
    """Texts after which a text ends."""

    words: tuple[str, ...]
    pieces: Sequence[bytes]  # what each token of the vocabulary adds to a text; empty for special tokens

    def __post_init__(self) -> None:
        if not self.words or not all(self.words):
            raise ValueError(f"stop words {self.words}: each must have a character; leave out empty ones")

    def end(self, tokens: list[int]) -> bool:
        """Whether the last of these tokens completes one of the words, or has one inside."""
        longest = max(len(word.encode()) for word in self.words)
        last = self.pieces[tokens[-1]]
        text, wanted = b"", longest - 1 + len(last)
        for token in reversed(tokens):
            text = self.pieces[token] + text
            if len(text) >= wanted:
                break
        for word in (word.encode() for word in self.words):
            if word in text[max(0, len(text) - len(last) - len(word) + 1) :]:
                return True
        return False


@dataclass(frozen=True, kw_only=True)
class Stop:
    """At most `new_tokens`, and fewer where one of the others says so."""

    new_tokens: int
    end_ids: tuple[int, ...] = ()  # any of these ends a text (GPT-2's <|endoftext|>, BART's </s>)
    sequences: tuple[tuple[int, ...], ...] = ()
    words: StopWords | None = None

    def __post_init__(self) -> None:
        if self.new_tokens < 1:
            raise ValueError(f"Stop.new_tokens is {self.new_tokens}; give 1 or more")
        if not all(self.sequences):
            raise ValueError("Stop.sequences has one without tokens; leave it out")

    def finished(self, said_BS: Tensor) -> Tensor:
        """(B,) whether each row ends with its last token."""
        rows, length = said_BS.shape
        if length >= self.new_tokens:
            return said_BS.new_ones(rows, dtype=torch.bool)
        done_B = said_BS.new_zeros(rows, dtype=torch.bool)
        for token in self.end_ids:
            done_B |= said_BS[:, -1] == token
        for sequence in self.sequences:
            if len(sequence) <= length:
                done_B |= (said_BS[:, -len(sequence) :] == said_BS.new_tensor(sequence)).all(1)
        if self.words is not None:
            found = [self.words.end(row) for row in said_BS.tolist()]
            done_B |= torch.tensor(found, dtype=torch.bool, device=said_BS.device)
        return done_B

    def why(self, tokens: list[int]) -> Why:
        """Why a finished text is."""
        if tokens[-1] in self.end_ids:
            return Why.END
        if any(tuple(tokens[-len(sequence) :]) == sequence for sequence in self.sequences):
            return Why.STOP
        if self.words is not None and self.words.end(tokens):
            return Why.STOP
        return Why.LENGTH

    def candidates(self, beams: int) -> int:
        """How many continuations of `beams` to look at, so that as many are left when some of them end the text."""
        words = 0 if self.words is None else len(self.words.words)
        return beams * (1 + max(1, len(self.end_ids) + len(self.sequences) + words))
