"""Texts with their classes -> columns of tokens, of which any examples make a batch.

    [CLS] text [SEP]        [CLS] text [SEP] pair [SEP]        <s> text </s></s> pair </s>  (byte-level vocabularies)

Letters: `B` examples, `T` tokens of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from corpus.ragged import Ints, offsets_of, ranges
from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.columns import Encoder
from training.batches import ClassificationBatch, TokenBatch
from training.tasks.classify import ClassifyConfig


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Encoded texts with their labels, as columns; any of them make a batch."""

    tokens_T: Ints
    offsets: Ints  # (B + 1,)
    segment_b: Ints  # (B,) where each second text begins; the length where there is none
    labels: Ints  # (B,)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: npt.NDArray[np.integer]) -> ClassificationBatch:
        """The examples at `index`, in that order."""
        lengths = np.diff(self.offsets)[index]
        tokens = TokenBatch.from_columns(
            tokens=self.tokens_T[ranges(self.offsets[index], lengths)],
            offsets=offsets_of(lengths),
            segment_b=self.segment_b[index],
        )
        return ClassificationBatch(tokens=tokens, labels_B=torch.from_numpy(self.labels[index]))


def encode(
    texts: pa.Array | Sequence[str],
    labels: npt.NDArray[np.integer],
    *,
    encoder: Encoder,
    config: ClassifyConfig,
    pairs: pa.Array | Sequence[str] | None = None,
) -> Examples:
    """One text or one pair between special tokens; what is too long loses tokens at its end, the longer of a pair first.

    Raises ValueError for a label that is not in 0 ... num_labels - 1.
    """
    classes: Ints = np.asarray(labels, np.int64)
    if classes.size and not (classes.min() >= 0 and classes.max() < config.num_labels):
        wrong = classes[(classes < 0) | (classes >= config.num_labels)][0]
        raise ValueError(
            f"label {wrong}: labels are 0 to {config.num_labels - 1}; give num_labels as many as there are"
        )
    first, sep = encoder.encode(texts), encoder.sep_id
    first_lengths = np.diff(first.offsets)
    if pairs is None:
        kept = np.minimum(first_lengths, config.max_seq_len - 2)
        tokens, offsets = _row(first.tokens_T, first.offsets, kept, opening=encoder.cls_id, closing=sep)
        return Examples(tokens_T=tokens, offsets=offsets, segment_b=np.diff(offsets), labels=classes)
    second = encoder.encode(pairs)
    between = sep if isinstance(encoder, ByteBPEEncoder) else None  # RoBERTa's second text is opened too
    room = config.max_seq_len - (3 if between is None else 4)
    first_kept, second_kept = shorten(first_lengths, np.diff(second.offsets), room)
    front, front_offsets = _row(
        first.tokens_T, first.offsets, first_kept, opening=encoder.cls_id, closing=sep
    )
    back, back_offsets = _row(second.tokens_T, second.offsets, second_kept, opening=between, closing=sep)
    lengths = np.diff(front_offsets) + np.diff(back_offsets)
    offsets = offsets_of(lengths)
    tokens = np.empty(offsets[-1], np.int64)
    segment_b = np.diff(front_offsets)
    tokens[ranges(offsets[:-1], segment_b)] = front
    tokens[ranges(offsets[:-1] + segment_b, np.diff(back_offsets))] = back
    return Examples(tokens_T=tokens, offsets=offsets, segment_b=segment_b, labels=classes)


def shorten(first: Ints, second: Ints, room: int) -> tuple[Ints, Ints]:
    """Lengths left when tokens are taken one by one from the longer of two texts, from the second when equal,
    until both fit `room`.
    """
    first_kept = np.minimum(first, np.maximum(room - second, room - room // 2))
    return first_kept, np.minimum(second, room - first_kept)


def _row(
    tokens: npt.NDArray[np.integer], offsets: Ints, kept: Ints, *, opening: int | None, closing: int
) -> tuple[Ints, Ints]:
    """The first `kept` tokens of each row between two special tokens."""
    before = int(opening is not None)
    out_offsets = offsets_of(kept + before + 1)
    out = np.full(out_offsets[-1], closing, np.int64)
    if opening is not None:
        out[out_offsets[:-1]] = opening
    out[ranges(out_offsets[:-1] + before, kept)] = tokens[ranges(offsets[:-1], kept)]
    return out, out_offsets
