"""Instances in words: what the model reads at each place, what was there before, and what it must predict.

For people (`cloze preview`, `cloze replay`); training never comes here. A row becomes one strand or two, a strand a list of
pieces, one per token:

    source    the  [MASK]  sat            decoder   </s>  the  cat  sat
                   (cat)                            ->the ->cat ->sat ->.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import numpy.typing as npt

from corpus.corruption.two_stream import masks
from corpus.instance_kinds import (
    NO_PAIR,
    CausalInstances,
    MaskedInstances,
    PermutationInstances,
    Seq2SeqInstances,
)
from corpus.instances import InstanceShard


@dataclass(frozen=True)
class Piece:
    """One token of a strand."""

    read: str
    answer: str | None = None  # what must be predicted there
    mark: str = ""  # what else is to be said of the place: a position, a rank of the factorisation

    @property
    def noise(self) -> str:
        """What was done to a predicted place: "kept", "replaced", or "" if nothing is predicted."""
        if self.answer is None:
            return ""
        return "kept" if self.read == self.answer else "replaced"


@dataclass(frozen=True)
class Strand:
    """A sequence the model reads. `answers_are_next`: every token is predicted from those to its left."""

    name: str
    pieces: tuple[Piece, ...]
    answers_are_next: bool = False


@dataclass(frozen=True)
class Described:
    """One instance."""

    strands: tuple[Strand, ...]
    notes: tuple[str, ...] = ()
    masks: tuple[
        tuple[str, npt.NDArray[np.bool_]], ...
    ] = ()  # (L, L): what a place (row) may look at (column)


@singledispatch
def describe(instances: InstanceShard, row: int, vocabulary: Sequence[str]) -> Described:
    """Instance number `row` of a shard or a gathered batch."""
    raise TypeError(f"{type(instances).__name__} has no description; add one in {__name__}")


@describe.register
def _masked(instances: MaskedInstances, row: int, vocabulary: Sequence[str]) -> Described:
    begin, end = (int(n) for n in instances.offsets[row : row + 2])
    answers = _answers(instances, row, vocabulary)
    pieces = [
        Piece(vocabulary[int(token)], answers.get(place))
        for place, token in enumerate(instances.tokens[begin:end])
    ]
    segment_b = int(instances.segment_b[row])
    notes = [f"{len(answers)} of {len(pieces)} tokens are predicted"]
    if segment_b < len(pieces):
        notes.append(f"segment B begins at token {segment_b}")
    if (label := int(instances.pair_label[row])) != NO_PAIR:
        notes.append(
            f"pair label {label} (BERT: 1 = B came from elsewhere; ALBERT: 1 = A and B were swapped)"
        )
    return Described((Strand("input", tuple(pieces)),), tuple(notes))


@describe.register
def _seq2seq(instances: Seq2SeqInstances, row: int, vocabulary: Sequence[str]) -> Described:
    source = instances.source_tokens[slice(*instances.source_offsets[row : row + 2])]
    at = slice(*instances.decoder_offsets[row : row + 2])
    decoder = tuple(
        Piece(vocabulary[int(read)], vocabulary[int(answer)], str(int(position)))
        for read, answer, position in zip(
            instances.decoder_tokens[at],
            instances.target_tokens[at],
            instances.decoder_positions[at],
            strict=True,
        )
    )
    strands = (
        Strand("source", tuple(Piece(vocabulary[int(token)]) for token in source)),
        Strand("decoder", decoder, answers_are_next=True),
    )
    return Described(strands, (f"{len(source)} tokens are read, {len(decoder)} predicted",))


@describe.register
def _causal(instances: CausalInstances, row: int, vocabulary: Sequence[str]) -> Described:
    words = [vocabulary[int(t)] for t in instances.tokens[slice(*instances.offsets[row : row + 2])]]
    pieces = [Piece(word, after) for word, after in zip(words, [*words[1:], None], strict=True)]
    notes = (f"{max(0, len(words) - 1)} tokens are predicted in each direction that the model reads in",)
    return Described((Strand("input", tuple(pieces), answers_are_next=True),), notes)


@describe.register
def _permutation(instances: PermutationInstances, row: int, vocabulary: Sequence[str]) -> Described:
    at = slice(*instances.offsets[row : row + 2])
    answers = _answers(instances, row, vocabulary)
    pieces = tuple(
        Piece(vocabulary[int(token)], answers.get(place), "" if rank < 0 else str(int(rank)))
        for place, (token, rank) in enumerate(zip(instances.tokens[at], instances.order[at], strict=True))
    )
    notes = (
        f"{len(answers)} of {len(pieces)} tokens are predicted; the number at a token is its rank in the factorisation",
    )
    content, query = masks(instances, row)
    pictures = (
        ("content stream: what a place (row) may look at (column), itself included", content),
        ("query stream: what predicts a place may look at", query),
    )
    return Described((Strand("input", pieces),), notes, pictures)


def _answers(
    instances: MaskedInstances | PermutationInstances, row: int, vocabulary: Sequence[str]
) -> dict[int, str]:
    at = slice(*instances.target_offsets[row : row + 2])
    return {
        int(place): vocabulary[int(token)]
        for place, token in zip(instances.target_positions[at], instances.target_tokens[at], strict=True)
    }
