"""Counts of pre-tokens -> a byte-level BPE vocabulary, equal to what `tokenizers` learns from the text itself.

Sennrich et al. 2016 over bytes (Radford et al. 2019): of all adjacent pairs the most frequent becomes an entry, until
the vocabulary is full; of equally frequent ones the pair of lower entry numbers, which is the library's rule too.
Entries begin with the special tokens, then the 256 bytes in the order of the byte alphabet's code points.

One difference: a merge never spells a special token ("<s>" in HTML would become one), where the library allows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from corpus.vocabulary.byte_files import (
    BYTE_ALPHABET,
    RobertaTokens,
    SpecialTokens,
    byte_bpe_files,
    in_byte_alphabet,
)
from corpus.vocabulary.counts import count_documents
from corpus.vocabulary.pretokens import Pretokens
from corpus.vocabulary.smoothing import check_exponent, smooth
from corpus.wordpiece.symbols import Symbols
from corpus.wordpiece.train import signed_counts

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output


@dataclass(frozen=True, kw_only=True)
class ByteBPEConfig:
    """`special_tokens`: whose they are. `smoothing`: as in WordPieceConfig."""

    vocab_size: int = 8000
    min_frequency: int = 2
    special_tokens: SpecialTokens = RobertaTokens()  # noqa: RUF009 (frozen and without fields)
    smoothing: float | None = None

    def __post_init__(self) -> None:
        least = 256 + len(self.special_tokens.names)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size={self.vocab_size} has no room for 256 bytes and the special tokens; use at least {least}"
            )
        if self.min_frequency < 1:
            raise ValueError(
                f"min_frequency={self.min_frequency} must be at least 1; use 2 to ignore pairs met once"
            )
        check_exponent(self.smoothing)


def train_byte_bpe(
    config: ByteBPEConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    out: "Output",
) -> "Counts":
    """Learn a vocabulary from the pre-tokens of the kept documents (without a list: of all).

    Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json, counts.arrow and words/*.arrow.
    """
    words, counts = count_documents(
        out,
        Pretokens(),
        documents=documents,
        kept=kept,
        attributes=attributes,
        by_language=config.smoothing is not None,
    )
    if config.smoothing is not None:
        words = smooth(words, config.smoothing)

    def progress(entries: int) -> None:
        out.report.progress(entries, config.vocab_size, "entries")

    vocabulary, merges = learn_byte_bpe(words, config, progress)
    for name, content in byte_bpe_files(vocabulary, merges).items():
        out.write(name, content)
    return {**counts, "distinct_words": words.num_rows, "vocab_size": len(vocabulary)}


def learn_byte_bpe(
    words: pa.Table, config: ByteBPEConfig, progress: Callable[[int], None] = lambda entries: None
) -> tuple[list[str], list[tuple[str, str]]]:
    """(entries in the order of their ids, merges). Pure in the multiset of (word, count) rows.

    Raises ValueError if there is too little text for `config.vocab_size` entries.
    """
    spelled = [in_byte_alphabet(word) for word in words["word"].to_pylist()]
    special = config.special_tokens.names
    symbols = Symbols(spelled, signed_counts(words), special, initial_alphabet=BYTE_ALPHABET, continues="")
    entries = symbols.entries
    while len(entries) < config.vocab_size:
        pair = symbols.most_frequent(config.min_frequency)
        if pair is None:
            raise ValueError(
                f"vocab_size={config.vocab_size} but the text supports only {len(entries)} entries at "
                f"min_frequency={config.min_frequency}; lower vocab_size or add text"
            )
        if "".join(symbols.texts_of(pair)) in special:
            symbols.forbid(pair)
            continue
        symbols.merge(pair)
        if len(entries) % 256 == 0:
            progress(len(entries))
    progress(len(entries))
    return entries, [symbols.texts_of(pair) for pair in symbols.merges]
