"""Counts of words -> a Unigram vocabulary, by SentencePiece's own trainer.

`tokenizers`' UnigramTrainer takes text only, so its work would grow with the corpus; SentencePiece takes words with their
counts (its "tsv" input). Inside, its suffix array still has every word as often as it occurs (20 bytes a character), so
counts are first divided by the smallest power of two at which they stand for at most MOST_CHARACTERS; halves are rounded
up, and what comes to 0 is left out. One thread, words in the order of their bytes: the result is a function of the
counts, and memory is bounded. Its entries and scores are then read by `tokenizers`.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import sentencepiece

from corpus.vocabulary.counts import count_documents
from corpus.vocabulary.smoothing import check_exponent, smooth
from corpus.vocabulary.unigram import SPECIAL_TOKENS, UNKNOWN, NormalizedRuns, UnigramEncoder
from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.train import signed_counts

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output

MOST_CHARACTERS = 1 << 25  # of text that the suffix array stands for: about 0.7 GB
LONGEST_WORD = 4192  # bytes: longer ones teach nothing (SentencePiece's own limit)


@dataclass(frozen=True, kw_only=True)
class UnigramConfig:
    """`character_coverage`: the share of all characters that have entries of their own. `smoothing`: as in WordPieceConfig."""

    vocab_size: int = 8000
    character_coverage: float = 0.9995
    smoothing: float | None = None

    def __post_init__(self) -> None:
        if self.vocab_size < 16:
            raise ValueError(
                f"vocab_size={self.vocab_size} is too small for special tokens and characters; use 1000"
            )
        if not 0.98 <= self.character_coverage <= 1:
            raise ValueError(
                f"character_coverage={self.character_coverage} must be between 0.98 and 1; SentencePiece uses 0.9995"
            )
        check_exponent(self.smoothing)


def train_unigram(
    config: UnigramConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    out: "Output",
) -> "Counts":
    """Learn a vocabulary from the words of the kept documents (without a list: of all).

    Writes vocab.txt, tokenizer.json, tokenizer_config.json, counts.arrow and words/*.arrow.
    """
    words, counts = count_documents(
        out,
        NormalizedRuns(),
        documents=documents,
        kept=kept,
        attributes=attributes,
        by_language=config.smoothing is not None,
    )
    if config.smoothing is not None:
        words = smooth(words, config.smoothing)
    encoder = UnigramEncoder(learn_unigram(words, config))
    for name, content in encoder.files().items():
        out.write(name, content)
    return {**counts, "distinct_words": words.num_rows, "vocab_size": encoder.vocab_size}


def learn_unigram(words: pa.Table, config: UnigramConfig) -> list[tuple[str, float]]:
    """<unk> and the entries with their log probabilities, in the order of their ids. Pure in the (word, count) rows.

    Raises ValueError if there is too little text for `config.vocab_size` entries, or no room for its characters.
    """
    model = io.BytesIO()
    with _tsv_of(words) as path:
        try:
            sentencepiece.SentencePieceTrainer.train(
                input=str(path),
                input_format="tsv",
                model_writer=model,
                model_type="unigram",
                vocab_size=config.vocab_size - len(SPECIAL_TOKENS),
                character_coverage=config.character_coverage,
                normalization_rule_name="identity",
                max_sentence_length=LONGEST_WORD,
                num_threads=1,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                minloglevel=3,
            )
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"vocab_size={config.vocab_size} does not suit {len(words)} distinct words ({error}); "
                "change vocab_size or add text"
            ) from None
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(learned.id_to_piece(i), learned.get_score(i)) for i in range(1, learned.get_piece_size())]
    return [(UNKNOWN, 0.0), *pieces]


def scaled_down(counts: Int64s, lengths: Int64s) -> Int64s:
    """Counts over the smallest power of two such that the words, repeated, have at most MOST_CHARACTERS."""
    shift = 0
    scaled = counts
    while sum(map(int.__mul__, scaled.tolist(), lengths.tolist())) > MOST_CHARACTERS:
        shift += 1
        scaled = (counts + (1 << (shift - 1))) >> shift
    return scaled


@contextmanager
def _tsv_of(words: pa.Table) -> Iterator[Path]:
    """A file of "word<tab>count" lines, in the order of the words' bytes."""
    ordered = words.sort_by("word")
    counts = scaled_down(signed_counts(ordered), pc.utf8_length(ordered["word"]).to_numpy() + 1).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.tsv"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for word, count in zip(ordered["word"].to_pylist(), counts, strict=True):
                if count and "\0" not in word and len(word.encode()) <= LONGEST_WORD:
                    file.write(f"{word}\t{count}\n")
        yield path
