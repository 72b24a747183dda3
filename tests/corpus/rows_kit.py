"""What tests of noise on rows share: streams, rows without an objective, and a shard as the plain loops want
it.
"""

import itertools

import numpy as np

from corpus.corruption.layout import RowRanges
from corpus.corruption.rows import Rows
from corpus.instance_kinds import NO_PAIR
from corpus.stream import Stream
from tests.corpus.in_memory import MARKS, shard_of


def keys(count: int, seed: int = 0) -> Stream:
    return Stream.of(seed, "test", 0, np.arange(count, dtype=np.uint64))


def rows_of_lengths(ranges: list[int], count: int, seed: int = 0) -> Rows:
    """`count` rows of ranges of these lengths, all over one text; their special tokens are not written."""
    shard = shard_of([ranges], seed=seed)
    made = RowRanges(
        start_K=np.tile(shard.sentence_offsets[:-1], count),
        length_K=np.tile(ranges, count),
        ranges_B=np.full(count, len(ranges)),
        pair_label_B=np.full(count, NO_PAIR),
        document_B=np.zeros(count, np.int64),
        chunk_B=np.arange(count),
    )
    tokens_T = np.full(made.offsets[-1], 9, np.uint16)
    return Rows(tokens_T=tokens_T, ranges=made, stream=keys(count, seed), shard=shard, marks=MARKS)


def token_documents(shard):
    """The shard as the plain loops want it: documents of sentences of token numbers."""
    sentences = [
        list(range(a, b))
        for a, b in zip(shard.sentence_offsets[:-1], shard.sentence_offsets[1:], strict=True)
    ]
    return [sentences[a:b] for a, b in itertools.pairwise(shard.document_sentences)]


def instance_rows(made):
    return [made.tokens[a:b].tolist() for a, b in itertools.pairwise(made.offsets)]


def targets_of(made, row):
    """(positions, tokens) of one instance."""
    part = slice(*made.target_offsets[row : row + 2])
    return made.target_positions[part].tolist(), made.target_tokens[part].tolist()
