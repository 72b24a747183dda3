"""BART's objective: corrupt a document, and let the decoder say it as it was (Lewis et al. 2020, section 2.2).

Any combination of the noises, applied in the order of the original (fairseq@3d262bb2, data/denoising_dataset.py: permute,
infill, insert, rotate; masking and deletion, there the same stage as infilling, come before it):

    permute      permuting.py      sentences in random order
    mask         token_noises.py   tokens read as a mask
    delete       token_noises.py   tokens left out
    infill       infilling.py      spans of words read as one mask
    insert       token_noises.py   masks where nothing was
    rotate       rotating.py       the text begins somewhere else

    source        <s> noise(x) </s>
    decoder      </s> <s> x             what it reads: the target shifted right by one, </s> in front
    target        <s>  x  </s>

So the decoder reads what transformers' `shift_tokens_right(target, pad, decoder_start = </s>)` gives. A row is whole
sentences of one document (whole_rows.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from corpus.corruption.infilling import TextInfilling
from corpus.corruption.masking import Marks
from corpus.corruption.noisy_text import Noise, NoisyText
from corpus.corruption.packing import DocSentences
from corpus.corruption.permuting import SentencePermutation
from corpus.corruption.rotating import DocumentRotation
from corpus.corruption.seq2seq import Block, Seq2SeqRows, check_length, joined, numbers
from corpus.corruption.token_noises import TokenDeletion, TokenInsertion, TokenMasking
from corpus.instance_kinds import Seq2SeqInstances
from corpus.ragged import Ints, offsets_of

if TYPE_CHECKING:
    from corpus.shards import TokenShard


@dataclass(frozen=True, kw_only=True)
class BartObjective:
    """None: without this noise. The default is the paper's; without any noise it is plain auto-encoding.

    With `insert` rows of text are shorter than `max_seq_len`, so that the corrupted ones are not longer.
    """

    makes: ClassVar = Seq2SeqInstances
    uses_mask: ClassVar = True

    max_seq_len: int = 512
    permute: SentencePermutation | None = field(default_factory=SentencePermutation)
    mask: TokenMasking | None = None
    delete: TokenDeletion | None = None
    infill: TextInfilling | None = field(default_factory=TextInfilling)
    insert: TokenInsertion | None = None
    rotate: DocumentRotation | None = None

    def __post_init__(self) -> None:
        check_length(self.max_seq_len, "BartObjective")
        if self.room < 1:
            raise ValueError(
                f"BartObjective.max_seq_len is {self.max_seq_len}; with insert it must leave room for what is put in, "
                "e.g. 512"
            )

    @property
    def room(self) -> int:
        """Tokens of the longest text in a row."""
        length = self.max_seq_len
        if self.insert is not None:
            length = math.floor(length / (1.0 + self.insert.share))
            while length + math.ceil(length * self.insert.share) > self.max_seq_len:
                length -= 1
        return length - 2

    @property
    def noises(self) -> list[tuple[int, Noise]]:
        """Those there are, in order, numbered as their streams are."""
        every: list[Noise | None] = [
            self.permute,
            self.mask,
            self.delete,
            self.infill,
            self.insert,
            self.rotate,
        ]
        return [(number, noise) for number, noise in enumerate(every) if noise is not None]

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> Seq2SeqInstances:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way."""
        rows = Seq2SeqRows.of(
            shard, documents, DocSentences(), room=self.room, seed=seed, pass_number=pass_number
        )
        target_T = rows.empty()
        positions_T = np.empty(len(target_T), np.uint16)
        sources: list[npt.NDArray[Any]] = []
        lengths: list[Ints] = []
        for block in rows.fill(target_T, marks):
            positions_T[block.at] = numbers(block.rows.ranges.lengths_B)[1]
            text = self._noisy(block)
            sources.append(text.tokens_T)
            lengths.append(np.diff(text.offsets))
        decoder_T = np.empty_like(target_T)
        decoder_T[:1], decoder_T[1:] = marks.sep_id, target_T[:-1]  # rows end with </s>, so all begin with it
        return rows.instances(
            source_tokens=joined(sources, target_T.dtype),
            source_offsets=offsets_of(joined(lengths, np.int64)),
            decoder_tokens=decoder_T,
            decoder_positions=positions_T,
            target_tokens=target_T,
            decoder_offsets=rows.ranges.offsets,
        )

    def _noisy(self, block: Block) -> NoisyText:
        text = NoisyText(
            tokens_T=block.rows.tokens_T,
            begins_T=block.begins_T() if self.infill else None,
            offsets=block.rows.ranges.offsets,
            block=block,
            max_seq_len=self.max_seq_len,
        )
        for number, noise in self.noises:
            text = noise.apply(text, block.rows.stream.fold(number))
        return text


def bart_published() -> BartObjective:
    """Base and large, as the paper says (section 5): 30 % of the words in spans of Poisson(3), all sentences permuted."""
    return BartObjective()


def bart_command_published() -> BartObjective:
    """As the command given by an author says (fairseq issue 1899, and examples/emotion_conversion): Poisson(3.5), a tenth of
    the masks are random tokens.
    """
    return BartObjective(infill=TextInfilling(mean_span=3.5, random_share=0.1))


def mbart_published() -> BartObjective:
    """mBART's noise (Liu et al. 2020, section 2.2): 35 % of the words in spans of Poisson(3.5), sentences permuted.

    The language's mark behind the source, and in front of what the decoder reads, is the model's affair.
    """
    return BartObjective(infill=TextInfilling(share=0.35, mean_span=3.5))
