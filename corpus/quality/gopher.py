"""The quality and repetition rules of Gopher (Rae et al. 2021, "Scaling Language Models", A.1.1 and table A1).

Where they apply:

    all prose                       words, hash_ratio, ellipsis_ratio, bullet_lines, ellipsis_lines, all repetition
    scripts with spaces             alphabetic_words
    alphabets (Latin, Cyrillic ...) mean_word_length, unless the language builds long words (AGGLUTINATIVE)
    English                         stop_words
    code, DNA, protein              none

The limits on repeated n-grams were published for English web pages. Elsewhere they are `outside_english` times as high:
at the published ones 72 % of Chinese statutes and 52 % of classical Arabic prose would go, whose idioms are long and
fixed (shared/data; FineWeb-2 tunes them for each language). At 2.5 times it is 7 % and 15 %; spam repeats far more.

Words are counted in characters where a script has no spaces. A text holds one paragraph a line, so the published
limits for duplicate lines and for duplicate paragraphs, which are equal, are one rule here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from corpus.quality.figures import Figures
from corpus.quality.forms import Form
from corpus.quality.repetition import DUPLICATE, TOP
from corpus.quality.rule import AGGLUTINATIVE, Verdict, above, below, check_limits, is_prose


@dataclass(frozen=True, kw_only=True)
class Gopher:
    """The published limits; None leaves a rule out. Shares are of words, lines or characters of words."""

    name: ClassVar[str] = "gopher"

    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3.0
    max_mean_word_length: float | None = 10.0
    max_hash_ratio: float | None = 0.1
    max_ellipsis_ratio: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_stop_words: int | None = 2
    max_duplicate_lines: float | None = 0.30
    max_duplicate_line_characters: float | None = 0.20
    max_top_2_grams: float | None = 0.20
    max_top_3_grams: float | None = 0.18
    max_top_4_grams: float | None = 0.16
    max_duplicate_5_grams: float | None = 0.15
    max_duplicate_6_grams: float | None = 0.14
    max_duplicate_7_grams: float | None = 0.13
    max_duplicate_8_grams: float | None = 0.12
    max_duplicate_9_grams: float | None = 0.11
    max_duplicate_10_grams: float | None = 0.10

    outside_english: float = 2.5

    def __post_init__(self) -> None:
        check_limits(self)

    def verdicts(self, figures: Figures, language: npt.NDArray[np.object_]) -> Iterator[Verdict]:
        """One verdict per rule, in the paper's order."""
        prose = is_prose(figures)
        spaced = prose & (figures["form"] == Form.SPACED)
        alphabet = spaced & (figures["alphabet"] > 0) & ~np.isin(language, AGGLUTINATIVE)
        english = prose & (language == "en")
        length = figures["mean_word_length"]
        return chain(
            below("gopher.words", figures["words"], self.min_words, prose),
            above("gopher.words", figures["words"], self.max_words, prose),
            below("gopher.mean_word_length", length, self.min_mean_word_length, alphabet),
            above("gopher.mean_word_length", length, self.max_mean_word_length, alphabet),
            above("gopher.hash_ratio", figures["hash_ratio"], self.max_hash_ratio, prose),
            above("gopher.ellipsis_ratio", figures["ellipsis_ratio"], self.max_ellipsis_ratio, prose),
            above("gopher.bullet_lines", figures["bullet_lines"], self.max_bullet_lines, prose),
            above("gopher.ellipsis_lines", figures["ellipsis_lines"], self.max_ellipsis_lines, prose),
            below("gopher.alphabetic_words", figures["alphabetic_words"], self.min_alphabetic_words, spaced),
            below("gopher.stop_words", figures["stop_words"], self.min_stop_words, english),
            *self._repetition(figures, prose, english),
        )

    def _repetition(
        self, figures: Figures, prose: npt.NDArray[np.bool_], english: npt.NDArray[np.bool_]
    ) -> Iterator[Iterator[Verdict]]:
        for name in ("duplicate_lines", "duplicate_line_characters"):
            yield above(f"gopher.{name}", figures[name], getattr(self, f"max_{name}"), prose)
        for name in (*(f"top_{n}_grams" for n in TOP), *(f"duplicate_{n}_grams" for n in DUPLICATE)):
            limit: float | None = getattr(self, f"max_{name}")
            if limit is not None:
                yield above(f"gopher.{name}", figures[name], limit, english)
                higher = limit * self.outside_english
                yield above(f"gopher.{name}", figures[name], higher, prose & ~english)
