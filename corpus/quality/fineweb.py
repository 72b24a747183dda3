"""The rules that FineWeb adds to Gopher's and C4's (Penedo et al. 2024, "The FineWeb Datasets", section 3.6).

The paper drops documents with at most 12 % of lines that end with punctuation, at least 10 % of characters in
duplicated lines, or at least 67 % of lines shorter than 30 characters. Its published code (datatrove) compares with
"below" and "above", counts a line of 30 characters as short, sets the duplicates to 1 %, and adds a limit on newlines
per word. Here: the code's comparisons, the paper's 10 %, and the code's list rule.

Terminal marks are those of all scripts. Not judged: code and sequences; terminal_lines in Thai, Lao and Arabic, whose
sentences need not end with a mark; short_lines in scripts without spaces, where 30 characters are a long sentence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from corpus.quality.figures import Figures
from corpus.quality.forms import Form
from corpus.quality.rule import NO_FULL_STOPS, Verdict, above, below, check_limits, is_prose


@dataclass(frozen=True, kw_only=True)
class FineWeb:
    """The published limits; None leaves a rule out."""

    name: ClassVar[str] = "fineweb"

    min_terminal_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    max_duplicate_line_characters: float | None = 0.1
    max_list_ratio: float | None = 0.3

    def __post_init__(self) -> None:
        check_limits(self)

    def verdicts(self, figures: Figures, language: npt.NDArray[np.object_]) -> Iterator[Verdict]:
        """One verdict per rule, in the order of the published code."""
        prose = is_prose(figures)
        stops = prose & ~np.isin(language, NO_FULL_STOPS)
        spaced = prose & (figures["form"] == Form.SPACED)
        repeated = figures["duplicate_line_characters"]
        return chain(
            below("fineweb.terminal_lines", figures["terminal_lines"], self.min_terminal_lines, stops),
            above("fineweb.short_lines", figures["short_lines"], self.max_short_lines, spaced),
            above("fineweb.duplicate_line_characters", repeated, self.max_duplicate_line_characters, prose),
            above("fineweb.list_ratio", figures["list_ratio"], self.max_list_ratio, prose),
        )
