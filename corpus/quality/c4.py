"""The rules of C4 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2).

C4 cuts pages down to good lines and then judges what is left. Here a text is never rewritten, so a document is judged
by what C4 would leave of it: `sentences` counts the sentences in lines that end with a terminal mark, hold five words,
and mention neither javascript nor policies (corpus.quality.figures). Terminal marks are those of all scripts. The
paper's list of bad words is off; name words in AnnotateConfig.bad_words and set `max_bad_words` to use one.

`sentences` is not judged in Thai and Lao, which end none with a mark, nor in Arabic, whose classical prose has few;
code and sequences (corpus.quality.forms) are not judged at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from corpus.quality.figures import Figures
from corpus.quality.rule import NO_FULL_STOPS, Verdict, above, below, check_limits, is_prose


@dataclass(frozen=True, kw_only=True)
class C4:
    """The published limits; None leaves a rule out."""

    name: ClassVar[str] = "c4"

    min_sentences: int | None = 3
    max_lorem_ipsum: int | None = 0
    max_curly_brackets: int | None = 0
    max_bad_words: int | None = None

    def __post_init__(self) -> None:
        check_limits(self)

    def verdicts(self, figures: Figures, language: npt.NDArray[np.object_]) -> Iterator[Verdict]:
        """One verdict per rule."""
        prose = is_prose(figures)
        sentences = prose & ~np.isin(language, NO_FULL_STOPS)
        return chain(
            above("c4.lorem_ipsum", figures["lorem_ipsum"], self.max_lorem_ipsum, prose),
            above("c4.curly_brackets", figures["curly_brackets"], self.max_curly_brackets, prose),
            above("c4.bad_words", figures["bad_words"], self.max_bad_words, prose),
            below("c4.sentences", figures["c4_sentences"], self.min_sentences, sentences),
        )
