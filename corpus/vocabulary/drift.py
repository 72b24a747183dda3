"""How well a vocabulary still fits: measured on a generation of text, reported, never acted upon.

    drift.json    fertility (tokens per word) and the share of unknown tokens, of all text and by language, beside the
                  same figures on the words that the vocabulary was trained on; the most frequent words that are split
                  into many pieces; the most frequent words that its training never met

A refresh keeps its vocabulary: tokens of older shards would mean something else. A person who reads this report may
decide to train a new one, which begins a new line of shards.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.ragged import sums
from corpus.vocabulary.columns import Encoded, Encoder
from corpus.vocabulary.counts import (
    COUNTS_FILE,
    SCHEMA,
    column_of,
    counts_file,
    languages_of,
    merge_counts,
    read_counts,
    rows_by_language,
    write_counts,
)
from corpus.vocabulary.open import encoder_of, shared_encoder_of

if TYPE_CHECKING:
    from infra.artifacts import Artifact, Counts
    from infra.output import Output, PartitionOutput

DRIFT_FILE: Final = "drift.json"
FIT_FILE: Final = "training.json"
_WORDS_A_CALL: Final = 1 << 17

Figures = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Nothing to choose: all words count as often as they were counted."""


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """`pieces`: a word of so many tokens is split too far; `shown`: so many words in each list; `examined`: of the so
    many most frequent words."""

    pieces: int = 4
    shown: int = 200
    examined: int = 100_000

    def __post_init__(self) -> None:
        if self.pieces < 2:
            raise ValueError(f"pieces={self.pieces} must be at least 2; a word of one piece is not split")
        if self.shown < 1:
            raise ValueError(f"shown={self.shown} must be at least 1; use 200 words in each list")
        if self.examined < self.shown:
            raise ValueError(
                f"examined={self.examined} must be at least shown={self.shown}; use 100000 frequent words"
            )


def measure_training(config: FitConfig, *, vocabulary: "Artifact", out: "Output") -> "Counts":
    """Measure `vocabulary` on the words it was trained on, once for all refreshes: it encodes every distinct one.

    Writes FIT_FILE (null where a vocabulary was not trained on words). Counts: words, tokens, unknown.
    """
    from infra.output import total

    words = 0
    if encoder_of(vocabulary).counting is not None and COUNTS_FILE in vocabulary.names():
        words = len(read_counts(vocabulary.path(COUNTS_FILE)))
    parts = {f"{begin // _WORDS_A_CALL:04d}": begin for begin in range(0, words, _WORDS_A_CALL)}
    figures = total(out.map(fit_of_words, parts, vocabulary=vocabulary))
    out.write_json(FIT_FILE, with_rates(figures) if figures else None)
    return figures


def fit_of_words(begin: int, *, out: "PartitionOutput", vocabulary: "Artifact") -> "Counts":
    """Words, tokens and unknown tokens of some counted words, each as often as it was counted.

    The process that has written shards knows most of these words already.
    """
    encoder = shared_encoder_of(vocabulary)
    some = read_counts(vocabulary.path(COUNTS_FILE)).slice(begin, _WORDS_A_CALL).combine_chunks()
    encoded = encoder.encode(column_of(some, "word"))
    counts = column_of(some, "count").to_pylist()
    unknown = sums(_unknown(encoder, encoded), encoded.offsets).tolist()
    return {
        "words": sum(counts),
        "tokens": sum(map(int.__mul__, counts, np.diff(encoded.offsets).tolist())),
        "unknown": sum(map(int.__mul__, counts, unknown)),
    }


def measure_drift(
    config: DriftConfig,
    *,
    documents: "Artifact",
    kept: "Artifact | None" = None,
    attributes: "Artifact | None" = None,
    vocabulary: "Artifact",
    training: "Artifact",
    out: "Output",
) -> "Counts":
    """Measure `vocabulary` on the kept documents of a generation. Writes DRIFT_FILE and the words of each part.

    `training` is what `measure_training` found, to compare with.

    Counts: documents, words, tokens, unknown, split_words and new_words (distinct, among those examined).
    """
    from corpus.document import partition_files
    from corpus.rows import part_of

    parts = {part_of(name): part_of(name) for name in partition_files(documents)}
    shared = {"documents": documents, "kept": kept, "attributes": attributes, "vocabulary": vocabulary}
    counted = out.map(measure_partition, parts, **shared)
    by_language: dict[str, Figures] = {}
    for counts in counted.values():
        for key, value in counts.items():
            figure, _, language = key.partition(":")
            if language:
                figures = by_language.setdefault(language, {})
                figures[figure] = figures.get(figure, 0) + value
    encoder = shared_encoder_of(vocabulary)
    report: dict[str, Any] = {
        "overall": with_rates(_total(by_language)),
        "languages": {language: with_rates(by_language[language]) for language in sorted(by_language)},
        "vocabulary": {"artifact": vocabulary.address, "digest": encoder.digest, "size": encoder.vocab_size},
    }
    split = new = Striking(0, [])
    if encoder.counting is not None:
        words = merge_counts(read_counts(out.folder.local(counts_file(part))) for part in counted)
        trained = read_counts(vocabulary.path(COUNTS_FILE)) if COUNTS_FILE in vocabulary.names() else None
        report["training"] = training.read_json(FIT_FILE)
        split, new = striking_words(config, encoder, words, trained)
    report |= {"split_words": split.shown, "new_words": new.shown}
    out.write_json(DRIFT_FILE, report)
    overall = _total(by_language)
    return {**overall, "split_words": split.words, "new_words": new.words}


def measure_partition(
    part: str,
    *,
    out: "PartitionOutput",
    documents: "Artifact",
    kept: "Artifact | None",
    attributes: "Artifact | None",
    vocabulary: "Artifact",
) -> "Counts":
    """The figures of one part, by language ("tokens:de"), and its words."""
    from corpus.rows import read_kept

    encoder = shared_encoder_of(vocabulary)
    table = read_kept(documents, kept, part, ["text", "language"]).combine_chunks()
    texts = column_of(table, "text")
    encoded = encoder.encode(texts)
    each = {
        "documents": np.ones(len(texts), np.int64),
        "words": sums(encoded.word_start_T.view(np.uint8), encoded.offsets),
        "tokens": np.diff(encoded.offsets),
        "unknown": sums(_unknown(encoder, encoded), encoded.offsets),
    }
    counts: Counts = {}
    for language, rows in rows_by_language(languages_of(table, kept, attributes, part)):
        counts |= {f"{figure}:{language}": int(values[rows].sum()) for figure, values in each.items()}
    if encoder.counting is not None:
        with out.writer(counts_file(out.id)) as path:
            write_counts(path, encoder.counting.count(texts))
    return counts


def with_rates(figures: Figures) -> dict[str, int | float | None]:
    """The figures, with fertility (tokens per word) and the share of unknown tokens; None where there is no text."""
    words, tokens = figures["words"], figures["tokens"]
    return {
        **figures,
        "fertility": tokens / words if words else None,
        "unknown_rate": figures["unknown"] / tokens if tokens else None,
    }


class Striking(NamedTuple):
    """How many words there are of a kind, and the most frequent of them, described."""

    words: int
    shown: list[dict[str, Any]]


def striking_words(
    config: DriftConfig, encoder: Encoder, words: pa.Table, trained: pa.Table | None
) -> tuple[Striking, Striking]:
    """(words split into many pieces, words unknown to training), the most frequent first; ties by their text."""
    frequent = words.sort_by([("count", "descending"), ("word", "ascending")]).slice(0, config.examined)
    frequent = frequent.select(SCHEMA.names).combine_chunks()
    texts = column_of(frequent, "word")
    encoded = encoder.encode(texts)
    pieces = np.diff(encoded.offsets)
    before = pa.nulls(len(texts), pa.uint64())
    if trained is not None:
        found = pc.index_in(texts, column_of(trained, "word"))
        before = pc.fill_null(column_of(trained, "count").take(found), pa.scalar(0, pa.uint64()))

    def described(row: int) -> dict[str, Any]:
        tokens = encoded.tokens_T[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
        return {
            "word": texts[row].as_py(),
            "count": frequent["count"][row].as_py(),
            "count_in_training": before[row].as_py(),
            "pieces": [encoder.vocabulary[token] for token in tokens],
        }

    def striking(rows: NDArray[np.int64]) -> Striking:
        return Striking(len(rows), [described(row) for row in rows[: config.shown].tolist()])

    new = pc.fill_null(pc.equal(before, pa.scalar(0, pa.uint64())), False).to_numpy(zero_copy_only=False)
    return striking(np.flatnonzero(pieces >= config.pieces)), striking(np.flatnonzero(new))


def _unknown(encoder: Encoder, encoded: Encoded) -> NDArray[np.uint8]:
    return (encoded.tokens_T == encoder.unk_id).view(np.uint8)


def _total(by_language: dict[str, Figures]) -> Figures:
    names = ("documents", "words", "tokens", "unknown")
    return {name: sum(figures[name] for figures in by_language.values()) for name in names}
