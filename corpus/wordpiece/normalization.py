"""BERT's text normalisation as the `tokenizers` library does it, and what may be concluded from one character alone.

Devlin et al. 2018, `tokenization.py`: control characters are dropped, Chinese characters stand alone, accents go and
letters become small ("uncased"), then words end at whitespace and punctuation. The library is the reference here, for
every input: whatever is not plainly ASCII is asked of it, never re-implemented, so its Unicode tables are ours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

UNKNOWN, JOINS, STANDS_ALONE = 0, 1, 2
_MARK = "@"  # ASCII punctuation that no character decomposes into


class Normalization:
    """Text -> words. `lowercase` is the "uncased" normalisation, which strips accents too; without it both stay."""

    def __init__(self, lowercase: bool) -> None:
        self.lowercase = lowercase
        self.normalizer = BertNormalizer(lowercase=lowercase)
        self.pre_tokenizer = BertPreTokenizer()
        self._classes = np.zeros(0x110000, np.uint8)

    def words(self, text: str) -> list[str]:
        normal = self.normalizer.normalize_str(text)
        return [word for word, _ in self.pre_tokenizer.pre_tokenize_str(normal)]

    def words_of_each(self, units: Sequence[str]) -> list[list[str]]:
        """The words of each unit (see units.py); one call for all, because a call costs more than a unit."""
        words_of_unit: list[list[str]] = [[]]
        for word in self.words(_MARK.join(units)):
            if word == _MARK:
                words_of_unit.append([])
            else:
                words_of_unit[-1].append(word)
        assert len(words_of_unit) == max(1, len(units))
        return words_of_unit[: len(units)]

    def classes(self, code_points: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """JOINS or STANDS_ALONE for each code point, learned from the library when a code point is first seen.

        A character stands alone when a word ends before it and begins after it whatever its neighbours are:
        punctuation, spaces, Chinese characters. Then the text may be cut on both its sides and the parts normalised
        separately. Everything else joins: letters, but also what is deleted (controls, combining marks).
        """
        classes = self._classes[code_points]
        if not classes.all():
            for code_point in np.unique(code_points[classes == UNKNOWN]).tolist():
                character = chr(code_point)
                cut = ["a", *self.words(character), "a"]
                alone = self.words(f"a{character}a") == cut
                self._classes[code_point] = STANDS_ALONE if alone else JOINS
            classes = self._classes[code_points]
        return classes
