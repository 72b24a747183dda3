"""The figures of each document that the published rules compare with their limits: columns in, columns out.

    size_bytes            the whole text
    letter_share          letters / bytes that are not blanks; every byte of a character beyond ASCII counts as a letter
    form                  what kind of text it is (Form); rules for prose skip code and sequences
    alphabet              1 where half of the letters are of ALPHABETS: vowels are letters, words have spaces
    words                 runs between blanks; in a script without spaces each character is one
    mean_word_length      in characters
    hash_ratio            "#" per word;  ellipsis_ratio: "…" or "..." per word
    alphabetic_words      share of words that hold a letter (Unicode category L)
    stop_words            how many of STOP_WORDS occur
    lines                 lines that hold a word; `text` holds one paragraph a line, so these are also paragraphs
    bullet_lines          share that begin with a bullet;  ellipsis_lines: that end with an ellipsis
    terminal_lines        share that end with a mark that ends a sentence, in any script, or with a closing quote
    short_lines           share with at most SHORT_LINE characters
    list_ratio            newlines per word
    duplicate_*, top_*    corpus/quality/repetition.py
    c4_sentences          sentences in the lines that C4 retains: they end with a terminal mark, have C4_LINE_WORDS words,
                          and speak neither of javascript nor of cookies and terms of use
    curly_brackets, lorem_ipsum, bad_words     occurrences

A text longer than MEASURED_BYTES is measured on its beginning, so that memory is bounded.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.columns import per_document, utf8
from corpus.quality.forms import Form, forms
from corpus.quality.repetition import gram_repetition, line_repetition, share
from corpus.quality.words import Block, Ints, beginnings, block_of, word_hash
from corpus.ragged import blocks
from corpus.scripts import ascii_letters, columns_of, wide_script_counts
from corpus.sentences import sentence_starts
from corpus.unicode_categories import major

MEASURED_BYTES = 4 << 20
BLOCK_BYTES = 1 << 20  # keeps the temporaries near the cache
SHORT_LINE = 30
C4_LINE_WORDS = 5
ALPHABETS = ("Latin", "Greek", "Cyrillic", "Armenian", "Georgian")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = "•‣◦▪●■○∙·"
TERMINAL = '.!?…"”’»›。！？｡।॥؟۔።။។།」』”）'
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


Shares = npt.NDArray[np.float32]
Figures = dict[str, npt.NDArray[Any]]


def measure(
    texts: pa.LargeStringArray, declared: npt.NDArray[np.bool_], bad_words: Sequence[str] = ()
) -> Figures:
    """All figures of a column of normalised texts; `declared`: the source says which language the text is in."""
    offsets, _ = utf8(texts)
    sizes = np.diff(offsets)
    if (sizes > MEASURED_BYTES).any():
        texts = beginnings(texts, MEASURED_BYTES)
    parts = [
        _measure(texts.slice(first, last - first), declared[first:last], bad_words)
        for first, last in blocks(utf8(texts)[0], BLOCK_BYTES)
    ]
    parts = parts or [_measure(texts, declared, bad_words)]
    figures = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return {"size_bytes": np.minimum(sizes, 2**31 - 1).astype(np.int32)} | figures


def basic_figures(texts: pa.LargeStringArray) -> Figures:
    """size_bytes and letter_share alone, which need no words."""
    offsets, data = utf8(texts)
    sizes = np.diff(offsets)
    letters = per_document(ascii_letters(data) | (data >= 0x80), offsets)
    blanks = per_document((data == ord(" ")) | (data == ord("\n")), offsets)
    return {
        "size_bytes": np.minimum(sizes, 2**31 - 1).astype(np.int32),
        "letter_share": share(letters, sizes - blanks),
    }


def _measure(
    texts: pa.LargeStringArray, declared: npt.NDArray[np.bool_], bad_words: Sequence[str]
) -> Figures:
    block = block_of(texts)
    narrow = per_document(ascii_letters(block.data), block.offsets)
    scripts = wide_script_counts(block.data, block.offsets)
    form = forms(block, declared, narrow, scripts)
    alphabet = narrow + columns_of(scripts, *ALPHABETS)
    counts, shares = _of_characters(block, narrow, bad_words)
    ends_well = _is_last(block, TERMINAL)
    counts |= {
        "form": form,
        "alphabet": 2 * alphabet >= narrow + scripts.sum(1),
        "words": np.diff(block.word_offsets),
        "lines": np.diff(block.line_offsets),
        "stop_words": _stop_words(block),
        "c4_sentences": _c4_sentences(block, texts, ends_well),
    }
    shares |= _of_lines(block, ends_well)
    shares |= line_repetition(block) | gram_repetition(block, form == Form.UNSPACED)
    figures: Figures = {name: count.astype(np.int32) for name, count in counts.items()}
    figures.update(shares)
    return figures


def _of_characters(
    block: Block, narrow: Ints, bad_words: Sequence[str]
) -> tuple[dict[str, Ints], dict[str, Shares]]:
    data, offsets = block.data, block.offsets
    words = np.diff(block.word_offsets)
    blanks = block.between(block.characters) - block.between(block.visible)
    letters = narrow + per_document(data >= 0x80, offsets)
    bad = np.zeros(block.documents, np.int64)
    for word in bad_words:
        bad += _per_document(block, block.find(word, whole=True))
    counts = {
        "curly_brackets": _per_document(block, np.flatnonzero((data == ord("{")) | (data == ord("}")))),
        "lorem_ipsum": _per_document(block, block.find("lorem ipsum")),
        "bad_words": bad,
    }
    shares = {
        "letter_share": share(letters, np.diff(offsets) - blanks),
        "mean_word_length": share(block.count_words(block.word_size), words),
        "hash_ratio": share(_per_document(block, np.flatnonzero(data == ord("#"))), words),
        "ellipsis_ratio": share(_ellipses(block), words),
        "alphabetic_words": share(block.count_words(block.has(_is_letter())), words),
        "list_ratio": share(_per_document(block, np.flatnonzero(data == ord("\n"))), words),
    }
    return counts, shares


def _of_lines(block: Block, ends_well: npt.NDArray[np.bool_]) -> dict[str, Shares]:
    lines = np.diff(block.line_offsets)
    size = block.characters[block.line_end] - block.characters[block.line]
    first = block.character(block.line)
    follows = block.data.take(block.line + 1, mode="clip")
    bullets = _among(first, BULLETS) | (_among(first, "-*–") & (follows == ord(" ")))
    dots = _is_last(block, ".")
    for back in (2, 3):
        dots &= (block.line_end - back >= block.line) & (
            block.data.take(block.line_end - back, mode="clip") == ord(".")
        )
    return {
        "bullet_lines": share(block.count_lines(bullets), lines),
        "ellipsis_lines": share(block.count_lines(dots | _is_last(block, "…")), lines),
        "terminal_lines": share(block.count_lines(ends_well), lines),
        "short_lines": share(block.count_lines(size <= SHORT_LINE), lines),
    }


def _ellipses(block: Block) -> Ints:
    """(n,) how often "…" or "..." occurs; six dots are two."""
    dots = np.flatnonzero(block.data == ord("."))
    document = block.document_at(dots)
    edges = np.flatnonzero((np.diff(dots, prepend=-2) > 1) | (np.diff(document, prepend=-1) > 0))
    runs = np.diff(np.append(edges, len(dots)))
    counts = np.bincount(document[edges], runs // 3, block.documents).astype(np.int64)
    return counts + _per_document(block, block.find("…"))


def _stop_words(block: Block) -> Ints:
    """(n,) how many of STOP_WORDS occur, in lower case or capitalised."""
    found = np.zeros((block.documents, len(STOP_WORDS)), np.bool_)
    for k, word in enumerate(STOP_WORDS):
        for spelling in (word, word.capitalize()):
            at = np.flatnonzero(block.word_hash == word_hash(spelling))
            found[np.searchsorted(block.word_offsets, at, side="right") - 1, k] = True
    return found.sum(1)


def _c4_sentences(block: Block, texts: pa.LargeStringArray, ends_well: npt.NDArray[np.bool_]) -> Ints:
    retained = ends_well & (np.diff(block.line_word) >= C4_LINE_WORDS)
    cookies = b"cookie" in block.lower
    for phrase in ("javascript", *(p for p in POLICY if cookies or "cookie" not in p)):
        at = block.find(phrase)
        retained[np.searchsorted(block.line, at, side="right") - 1] = False
    starts, document = sentence_starts(texts)
    if not len(block.line):
        return np.zeros(block.documents, np.int64)
    line = np.searchsorted(block.line, starts, side="right") - 1
    return np.bincount(document[(line >= 0) & retained[line]], minlength=block.documents)


def _is_last(block: Block, characters: str) -> npt.NDArray[np.bool_]:
    """(L,) whether a line ends with one of the characters."""
    return _among(block.character(block.line_end - 1), characters)


def _among(codes: Ints, characters: str) -> npt.NDArray[np.bool_]:
    return np.isin(codes, [ord(c) for c in characters])


def _per_document(block: Block, places: Ints) -> Ints:
    return np.bincount(block.document_at(places), minlength=block.documents)


@cache
def _is_letter() -> npt.NDArray[np.bool_]:
    """(0x40000,) code points of category L: letters of all scripts, ideographs among them."""
    return major("L")
