"""Token shards made in memory: what an objective needs of corpus.shards.TokenShard, without a file."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from corpus.corruption.masking import Marks
from corpus.ragged import offsets_of

MARKS = Marks(vocab_size=8000, cls_id=2, sep_id=3, mask_id=4)


@dataclass(frozen=True, kw_only=True)
class MemoryShard:
    tokens_T: Any
    document_offsets: Any
    sentence_offsets: Any
    document_sentences: Any
    document_ids: Any
    word_start_T: Any


def shard_of(
    sentence_lengths: list[list[int]], *, seed: int = 0, vocab_size: int = 8000, dtype=np.uint16
) -> Any:
    """Documents given as lengths of their sentences; tokens and word starts are drawn, ids are content
    digests.
    """
    rng = np.random.default_rng(seed)
    flat = np.array([length for document in sentence_lengths for length in document], np.int64)
    total = int(flat.sum())
    tokens = rng.integers(5, vocab_size, total).astype(dtype)
    starts = rng.random(total) < 0.7
    sentence_offsets = offsets_of(flat)
    document_sentences = offsets_of(np.array([len(d) for d in sentence_lengths], np.int64))
    starts[sentence_offsets[:-1][flat > 0]] = True
    document_offsets = sentence_offsets[document_sentences]
    ids = [blake2b(f"{seed}/{i}".encode(), digest_size=16).digest() for i in range(len(sentence_lengths))]
    return MemoryShard(
        tokens_T=tokens,
        document_offsets=document_offsets,
        sentence_offsets=sentence_offsets,
        document_sentences=document_sentences,
        document_ids=np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16),
        word_start_T=starts,
    )


def documents(
    count: int, *, seed: int = 0, mean_sentences: float = 12.0, mean_length: float = 22.0
) -> list[list[int]]:
    """Sentence lengths as text has them: geometric numbers of sentences, log-normal lengths; some empty
    documents.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(1 / mean_sentences, count) - (rng.random(count) < 0.05)
    sigma = 0.7
    mu = np.log(mean_length) - sigma**2 / 2
    return [np.maximum(1, np.rint(rng.lognormal(mu, sigma, n))).astype(int).tolist() for n in sizes]
