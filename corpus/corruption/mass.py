"""MASS: hide a fragment of the text, and let the decoder say the fragment (Song et al. 2019).

    text       <s>  a  b  c  d  e  f </s>        position 0 is never hidden, </s> may be
    source     <s>  a  b  _  _  _  f </s>        hidden tokens: 80 / 10 / 10 mask, itself, another
    decoder               b  c  d                the original token before each hidden one ...
    positions             2  3  4                ... at its position in the text
    target                c  d  e

Which tokens are hidden is a type (microsoft/MASS@779f22f):

    OneFragment          one fragment of half the row (MASS-unsupNMT, the paper's; a smaller one in MASS-supNMT)
    FragmentPerBlock     one in every 64 tokens (MASS-summarization)

Semantics `code`, draws keyed by instance. Defects of the originals that are always fixed: MASS-supNMT hides other positions
than it predicts, off by one, and gives the decoder no positions; MASS-summarization fails where the fragment of a block is
one token long, and a row too short for a fragment has no target (here it has one).

Letters: B rows, K fragments of all of them, T tokens, M of these hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from corpus.corruption.masking import Marks, put_at
from corpus.corruption.noisy_text import check_share
from corpus.corruption.packing import DocSentences
from corpus.corruption.replacement import OrdinaryToken, Replacement
from corpus.corruption.seq2seq import Block, EachSentence, Seq2SeqRows, check_length, joined, numbers
from corpus.instance_kinds import Seq2SeqInstances
from corpus.ragged import Ints, offsets_of, ranges, rows_of, sums
from corpus.stream import Stream

if TYPE_CHECKING:
    from corpus.shards import TokenShard

_WHERE, _DECODER = 16, 17  # parts of a row's stream, beside those of masking.put_at
_KIND, _START = 0, 1  # counters


@dataclass(frozen=True, kw_only=True)
class OneFragment:
    """round(share x length) tokens, length with <s> and </s> and half to even: behind <s> in `first_share` of the rows, at the
    very end in `last_share`, in all others anywhere, these two included.
    """

    share: float = 0.5
    first_share: float = 0.2
    last_share: float = 0.2

    def __post_init__(self) -> None:
        check_share(self.share, "OneFragment.share", example=0.5)
        if not (self.first_share >= 0 and self.last_share >= 0 and self.first_share + self.last_share <= 1):
            raise ValueError(
                f"OneFragment.first_share is {self.first_share} and last_share {self.last_share}; they are shares of the "
                "rows, together at most 1, e.g. 0.2 and 0.2"
            )

    def place(self, lengths_B: Ints, stream: Stream) -> tuple[Ints, Ints, Ints]:
        """(K,) starts and (K,) lengths of the fragments, (B,) how many a row has."""
        count_B = np.clip(np.rint(lengths_B * self.share).astype(np.int64), 1, lengths_B - 1)
        last_B = lengths_B - count_B
        start_B = 1 + stream.below(last_B, _START)
        draw_B = (stream.bits(_KIND) >> np.uint64(11)) * 2.0**-53
        start_B[draw_B < self.first_share] = 1
        at_end = draw_B >= 1.0 - self.last_share
        start_B[at_end] = last_B[at_end]
        return start_B, count_B, np.ones_like(count_B)


@dataclass(frozen=True, kw_only=True)
class FragmentPerBlock:
    """Of every `block_tokens` tokens behind <s> a fragment of int(share x tokens), anywhere in the block; of a row's only
    block one token at least.
    """

    share: float = 0.15
    block_tokens: int = 64

    def __post_init__(self) -> None:
        check_share(self.share, "FragmentPerBlock.share", example=0.5)
        if not self.share * self.block_tokens >= 1.0:
            raise ValueError(
                f"FragmentPerBlock.block_tokens is {self.block_tokens}; at share {self.share} a block must have "
                f"{int(np.ceil(1.0 / self.share))} tokens for a fragment of one"
            )

    def place(self, lengths_B: Ints, stream: Stream) -> tuple[Ints, Ints, Ints]:
        """As OneFragment.place."""
        blocks_B = -(-(lengths_B - 1) // self.block_tokens)
        row_K, number_K = numbers(blocks_B)
        begin_K = 1 + number_K * self.block_tokens
        size_K = np.minimum(lengths_B[row_K] - begin_K, self.block_tokens)
        count_K = np.maximum((size_K * self.share).astype(np.int64), number_K == 0)
        return begin_K + stream.at(row_K).below(size_K - count_K + 1, _START + number_K), count_K, blocks_B


@dataclass(frozen=True, kw_only=True)
class MassObjective:
    """`decoder_noise`: what the decoder reads is corrupted as well (MASS-supNMT); None: it is not."""

    makes: ClassVar = Seq2SeqInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 128
    packing: EachSentence | DocSentences = field(default_factory=EachSentence)
    fragments: OneFragment | FragmentPerBlock = OneFragment()
    replacement: Replacement = field(default_factory=Replacement)
    decoder_noise: Replacement | None = None

    def __post_init__(self) -> None:
        check_length(self.max_seq_len, "MassObjective")

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> Seq2SeqInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way."""
        rows = Seq2SeqRows.of(
            shard, documents, self.packing, room=self.max_seq_len - 2, seed=seed, pass_number=pass_number
        )
        source_T = rows.empty()
        made = [self._fragments(block) for block in rows.fill(source_T, marks)]
        return rows.instances(
            source_tokens=source_T,
            source_offsets=rows.ranges.offsets,
            decoder_tokens=joined([part.decoder_M for part in made], source_T.dtype),
            decoder_positions=joined([part.positions_M for part in made], np.uint16),
            target_tokens=joined([part.target_M for part in made], source_T.dtype),
            decoder_offsets=offsets_of(joined([part.hidden_B for part in made], np.int64)),
        )

    def _fragments(self, block: Block) -> Fragments:
        """Hide tokens in the block, in place."""
        rows, lengths_B = block.rows, block.rows.ranges.lengths_B
        start_K, count_K, fragments_B = self.fragments.place(lengths_B, rows.stream.fold(_WHERE))
        hidden_B = sums(count_K, offsets_of(fragments_B))
        position_M = ranges(start_K, count_K)
        row_M = rows_of(hidden_B)
        index_M = position_M + rows.ranges.offsets[row_M]
        heads = offsets_of(count_K)[:-1][count_K > 0]
        decoder_M = rows.tokens_T[index_M - 1]
        if self.decoder_noise is not None:
            bits_M = rows.stream.fold(_DECODER).at(row_M).bits(position_M)
            decoder_M = self.decoder_noise.read(decoder_M, lambda where: bits_M[where], rows, heads)
        targets = put_at(rows, index_M, hidden_B, self.replacement, heads)
        positions_M = (position_M - 1).astype(np.uint16)
        return Fragments(
            decoder_M=decoder_M, positions_M=positions_M, target_M=targets.tokens_M, hidden_B=hidden_B
        )


@dataclass(frozen=True, kw_only=True)
class Fragments:
    """What was hidden in some rows, and what the decoder reads there."""

    decoder_M: npt.NDArray[Any]
    positions_M: npt.NDArray[np.uint16]
    target_M: npt.NDArray[Any]
    hidden_B: Ints


def mass_published() -> MassObjective:
    """The paper and MASS-unsupNMT: half a sentence, random tokens from the whole vocabulary."""
    return MassObjective()


def mass_supervised_published() -> MassObjective:
    """MASS-supNMT as its script runs it: 30 % of a sentence, no special token as a random one, and of what the decoder reads
    a tenth masks, a tenth random tokens.
    """
    return MassObjective(
        fragments=OneFragment(share=0.3),
        replacement=Replacement(other=OrdinaryToken()),
        decoder_noise=Replacement(masked=0.1, kept=0.8, other=OrdinaryToken()),
    )


def mass_summarisation_published() -> MassObjective:
    """MASS-summarization as its published command runs it: rows of 512 tokens, 15 % of every 64 (the command does not set the
    share; with `FragmentPerBlock(share=0.5)` it is the paper's half).
    """
    return MassObjective(
        max_seq_len=512,
        packing=DocSentences(),
        fragments=FragmentPerBlock(),
        replacement=Replacement(other=OrdinaryToken()),
    )
