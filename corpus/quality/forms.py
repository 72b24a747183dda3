"""What kind of text a document is: words with spaces, words without, code, or a sequence such as DNA.

Stated rule, on the characters that are not blanks:

    UNSPACED   at least UNSPACED_SHARE of the letters are of scripts without spaces (corpus.scripts.UNSPACED)
    CODE       more than CODE_SHARE are the marks that programs are full of, {}()[]=;_<>+*/&\\,
               and half of the letters are ASCII
    SEQUENCE   at least SEQUENCE_PURITY are ASCII letters, and they are no words: more than SEQUENCE_WORD or fewer than
               1.5 of them in a row on average, or no more than SEQUENCE_LETTERS different ones

CODE and SEQUENCE are found only where the source declares no language: what is declared to be English is judged as English.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from corpus.columns import byte_set, mark, per_document
from corpus.quality.words import Block, Ints
from corpus.scripts import UNSPACED, UNSPACED_SHARE, columns_of

_CODE_MARKS = byte_set(b"{}()[]=;_<>+*/&\\")


class Form(IntEnum):
    """What kind of text a document is."""

    SPACED = 0
    UNSPACED = 1
    CODE = 2
    SEQUENCE = 3


CODE_SHARE = 0.05  # 98 % of the standard library's files have more, fewer than 1 % of articles do
SEQUENCE_LETTERS = 8  # different letters, case apart: nucleotides, N and a few ambiguity codes
SEQUENCE_WORD = 30  # letters in a row on average: no language writes so without spaces
SEQUENCE_PURITY = 0.99  # ASCII letters among the characters: prose has a mark for every twenty letters
MIN_SEQUENCE = 20


def forms(block: Block, declared: npt.NDArray[np.bool_], narrow: Ints, scripts: Ints) -> Ints:
    """(n,) Form of each document; `narrow`: ASCII letters, `scripts`: other letters (corpus.scripts)."""
    letters, unspaced = scripts.sum(1) + narrow, columns_of(scripts, *UNSPACED)
    form = np.where(
        (letters > 0) & (unspaced >= UNSPACED_SHARE * letters), Form.UNSPACED, Form.SPACED
    ).astype(np.int64)
    visible = block.between(block.visible)
    marks = per_document(mark(block.data, _CODE_MARKS), block.offsets)
    form[~declared & (marks > CODE_SHARE * visible) & (2 * narrow >= letters)] = Form.CODE
    words = np.diff(block.word_offsets)
    pure = ~declared & (narrow >= MIN_SEQUENCE) & (narrow >= SEQUENCE_PURITY * visible)
    wordless = (visible > SEQUENCE_WORD * words) | (visible < 1.5 * words)
    for d in np.flatnonzero(pure).tolist():
        if wordless[d] or _different_letters(block, d) <= SEQUENCE_LETTERS:
            form[d] = Form.SEQUENCE
    return form


def _different_letters(block: Block, document: int) -> int:
    """How many different ASCII letters a document begins with, case apart."""
    begin = block.offsets[document]
    text = block.data[begin : min(begin + 4096, block.offsets[document + 1])].tobytes()
    return sum(ord("a") <= c <= ord("z") for c in set(text.lower()))
