"""Word counts -> a WordPiece vocabulary.

The training of `tokenizers`' WordPieceTrainer (and so of BertWordPieceTokenizer): byte-pair merges (Sennrich et al. 2016)
over characters, where a piece that continues a word is written "##x". Of all adjacent pairs the most frequent becomes an
entry, until the vocabulary is full; of equally frequent ones the pair of lower entry numbers. Here the characters are
entered in the order of their code points, so the result is a function of the counts; in the library the numbers of
"##x" follow a hash table's order, and ties fall differently from run to run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.vocabulary.counts import count_documents, exact_sum
from corpus.vocabulary.smoothing import check_exponent, smooth
from corpus.wordpiece.count import NormalizedWords
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from corpus.wordpiece.symbols import Symbols

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output


@dataclass(frozen=True, kw_only=True)
class WordPieceConfig:
    """`alphabet_size`: of rarer characters than that many, words keep none (the library's limit_alphabet).

    `smoothing`: the exponent that raises the counts of small languages (mBERT: 0.7); None takes counts as they are.
    """

    vocab_size: int = 8000
    lowercase: bool = True
    min_frequency: int = 2
    alphabet_size: int = 1000
    smoothing: float | None = None

    def __post_init__(self) -> None:
        if self.vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(
                f"vocab_size={self.vocab_size} leaves no room beside {len(SPECIAL_TOKENS)} special tokens; use 1000 or more"
            )
        if self.min_frequency < 1:
            raise ValueError(
                f"min_frequency={self.min_frequency} must be at least 1; use 2 to ignore pairs met once"
            )
        if self.alphabet_size < 1:
            raise ValueError(
                f"alphabet_size={self.alphabet_size} must be at least 1; BERT's English vocabulary used 1000"
            )
        check_exponent(self.smoothing)


def train_wordpiece(
    config: WordPieceConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    out: "Output",
) -> "Counts":
    """Learn a vocabulary from the words of the kept documents (without a list: of all).

    Languages, which matter only to smoothing, are those of `attributes`, or what sources declare without it. Writes
    vocab.txt, tokenizer.json, tokenizer_config.json, counts.arrow, and the word counts of each part (words/*.arrow).
    """
    words, counts = count_documents(
        out,
        NormalizedWords(config.lowercase),
        documents=documents,
        kept=kept,
        attributes=attributes,
        by_language=config.smoothing is not None,
    )
    if config.smoothing is not None:
        words = smooth(words, config.smoothing)

    def progress(entries: int) -> None:
        out.report.progress(entries, config.vocab_size, "entries")

    vocabulary = learn_vocabulary(words, config, progress)
    for name, content in vocabulary_files(vocabulary, config.lowercase).items():
        out.write(name, content)
    return {**counts, "distinct_words": words.num_rows, "vocab_size": len(vocabulary)}


def learn_vocabulary(
    words: pa.Table, config: WordPieceConfig, progress: Callable[[int], None] = lambda entries: None
) -> list[str]:
    """The entries, in the order of their ids. Pure in the multiset of (word, count) rows.

    Raises ValueError if there is too little text for `config.vocab_size` entries, or no room for its characters.
    """
    symbols = Symbols(
        words["word"].to_pylist(), signed_counts(words), SPECIAL_TOKENS, alphabet_size=config.alphabet_size
    )
    entries = symbols.entries
    if len(entries) > config.vocab_size:
        raise ValueError(
            f"vocab_size={config.vocab_size} but special tokens and characters alone are {len(entries)} entries; "
            f"raise vocab_size or lower alphabet_size={config.alphabet_size}"
        )
    least = max(1, config.min_frequency)
    while len(entries) < config.vocab_size:
        pair = symbols.most_frequent(least)
        if pair is None:
            raise ValueError(
                f"vocab_size={config.vocab_size} but the text supports only {len(entries)} entries at "
                f"min_frequency={config.min_frequency}; lower vocab_size or add text"
            )
        symbols.merge(pair)
        if len(entries) % 256 == 0:
            progress(len(entries))
    progress(len(entries))
    return entries


def signed_counts(words: pa.Table) -> NDArray[np.int64]:
    """The counts, if all that is summed of them in training fits 63 bits: the characters of the text."""
    lengths = pc.utf8_length(words["word"]).to_numpy().astype(np.uint64)
    counts = words["count"].to_numpy()
    longest = int(lengths.max()) if len(lengths) else 0
    if exact_sum(words["count"]) * longest >= 1 << 63:  # else even the coarse bound is enough
        characters = sum(map(int.__mul__, counts.tolist(), lengths.tolist()))
        if characters >= 1 << 63:
            raise ValueError(
                f"the words hold {characters} characters, more than 63 bits count; train on a sample of the text"
            )
    return counts.astype(np.int64)
