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

from corpus.wordpiece.count import count_partition, counts_file, merge_counts, read_counts
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from corpus.wordpiece.symbols import Symbols

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output


@dataclass(frozen=True, kw_only=True)
class WordPieceConfig:
    """`alphabet_size`: of rarer characters than that many, words keep none (the library's limit_alphabet)."""

    vocab_size: int = 8000
    lowercase: bool = True
    min_frequency: int = 2
    alphabet_size: int = 1000

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


def train_wordpiece(config: WordPieceConfig, *, documents: "Artifact", out: "Output") -> "Counts":
    """Learn a vocabulary from the words of all documents.

    Writes vocab.txt, tokenizer.json, tokenizer_config.json, and the word counts of each partition (words/*.arrow).
    """
    from corpus.document import partition_files

    parts = {name.removesuffix(".parquet"): name for name in partition_files(documents)}
    counted = out.map(count_partition, parts, documents=documents, lowercase=config.lowercase)
    words = merge_counts(read_counts(out.folder.local(counts_file(part))) for part in counted)

    def progress(entries: int) -> None:
        out.report.progress(entries, config.vocab_size, "entries")

    vocabulary = learn_vocabulary(words, config, progress)
    for name, content in vocabulary_files(vocabulary, config.lowercase).items():
        out.write(name, content)
    return {
        "documents": sum(counts["documents"] for counts in counted.values()),
        "words": sum(counts["words"] for counts in counted.values()),
        "distinct_words": words.num_rows,
        "vocab_size": len(vocabulary),
    }


def learn_vocabulary(
    words: pa.Table, config: WordPieceConfig, progress: Callable[[int], None] = lambda entries: None
) -> list[str]:
    """The entries, in the order of their ids. Pure in the multiset of (word, count) rows.

    Raises ValueError if there is too little text for `config.vocab_size` entries, or no room for its characters.
    """
    counts = words["count"].to_numpy().astype(np.int64)
    symbols = Symbols(words["word"].to_pylist(), counts, config.alphabet_size, SPECIAL_TOKENS)
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
