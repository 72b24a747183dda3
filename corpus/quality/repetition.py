"""How much of a document repeats itself: Gopher's repetition figures (Rae et al. 2021, A.1.1), exact, by sorted hashes.

An n-gram can only be repeated where the shorter n-grams inside it are, so only pairs of words are looked at everywhere:
in an English article a quarter of them is repeated, and the others begin no repeated n-gram.
"""

import numpy as np
import numpy.typing as npt

from corpus.quality.words import Block, Ints
from corpus.rolling import U64, mix, prefix, span

TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)

_SALT = np.uint64(0xD6E8FEB86659FD93)


def repeated(keys: U64) -> tuple[Ints, Ints, Ints]:
    """Values that occur more than once: (M,) their places, (M,) the group of each, (G,) the first place of each group."""
    likely = _not_alone(keys)
    order = likely[np.argsort(keys[likely])]
    ordered = keys[order]
    edges = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], [True] * (len(order) > 0))) + 1
    edges = np.insert(edges, 0, 0)
    sizes = np.diff(edges)
    shared = sizes > 1
    places = order[np.repeat(shared, sizes)]
    sizes = sizes[shared]
    group = np.repeat(np.arange(len(sizes)), sizes)
    first = np.minimum.reduceat(places, np.cumsum(sizes) - sizes) if len(sizes) else np.zeros(0, np.int64)
    return places, group, first


def _not_alone(keys: U64) -> Ints:
    """The places of all values that occur more than once, and of a few others: in prose a third is left to sort.

    Each place writes itself into its bucket; who does not find itself there has met another, and so has the one found.
    """
    bits = max(1, (4 * len(keys)).bit_length())
    bucket = (keys >> np.uint64(64 - bits)).view(np.int64)
    place = np.arange(len(keys), dtype=np.int32)
    last = np.empty(1 << bits, np.int32)
    last[bucket] = place
    found = last[bucket]
    met = found != place
    met[found[met]] = True
    return np.flatnonzero(met)


def line_repetition(block: Block) -> dict[str, npt.NDArray[np.float32]]:
    """The share of lines that say what an earlier line of the document says, and the share of characters in them."""
    hashes = prefix(block.word_hash)
    keys = mix(
        span(hashes, block.line_word[:-1], block.line_word[1:]) + block.of_line().astype(np.uint64) * _SALT
    )
    places, group, first = repeated(keys)
    again = np.zeros(len(keys), np.bool_)
    again[places[places != first[group]]] = True
    size = (block.characters[block.line_end] - block.characters[block.line]).astype(np.int64)
    return {
        "duplicate_lines": share(block.count_lines(again), np.diff(block.line_offsets)),
        "duplicate_line_characters": share(block.count_lines(size * again), block.count_lines(size)),
    }


def gram_repetition(block: Block, unspaced: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float32]]:
    """The share of characters in the most frequent n-gram (n = 2-4), and in n-grams seen earlier (n = 5-10).

    The n-gram with the highest count, and among those the longest, is the most frequent one; one that occurs once is
    none. Characters are those of words, each counted once. In a document whose script has no spaces a word is a
    character, and n is doubled: Chinese and Japanese words have one to two characters.
    """
    figures = {f"top_{n}_grams": np.zeros(block.documents, np.float32) for n in TOP}
    figures |= {f"duplicate_{n}_grams": np.zeros(block.documents, np.float32) for n in DUPLICATE}
    for wide in (False, True):
        chosen = (unspaced == wide) & (np.diff(block.word_offsets) > 0)
        if chosen.any():
            _grams(block, chosen, 2 if wide else 1, figures)
    return figures


def _grams(block: Block, chosen: np.ndarray, step: int, figures: dict[str, npt.NDArray[np.float32]]) -> None:
    """Fill in the figures of the chosen documents, with n-grams of `step` * n words."""
    document = block.of_word()
    characters = np.concatenate([[0], np.cumsum(block.word_size)])
    total = np.maximum(characters[block.word_offsets[1:]] - characters[block.word_offsets[:-1]], 1)
    last = block.word_offsets[1:][document]  # the word behind the document's last
    hashes = prefix(block.word_hash)
    at = np.flatnonzero(chosen[document])
    held = np.zeros(len(document) + 1, np.bool_)
    size = 0
    for n in (*TOP, *DUPLICATE):
        if size:  # only where both shorter n-grams are repeated
            at = at[held[np.minimum(at + step * n - size, len(document))]]
            held[:] = False
        size = step * n
        at = at[at + size <= last[at]]
        keys = mix(span(hashes, at, at + size) + document[at].astype(np.uint64) * _SALT)
        places, group, first = repeated(keys)
        first, at = at[first], at[places]
        if n in TOP:
            count = np.bincount(group, minlength=len(first))
            length = characters[first + size] - characters[first]
            best = np.zeros(block.documents, np.int64)
            np.maximum.at(best, document[first], count << 32 | length)
            top = np.minimum((best >> 32) * (best & 0xFFFFFFFF) / total, 1)
            figures[f"top_{n}_grams"][chosen] = top[chosen]
        else:
            again = np.sort(at[at != first[group]])
            end = np.minimum(again + size, np.append(again[1:], len(document)))  # a word counts once
            covered = np.bincount(document[again], characters[end] - characters[again], block.documents)
            figures[f"duplicate_{n}_grams"][chosen] = (covered / total)[chosen]
        held[at] = True
        at = np.sort(at)


def share(part: Ints, whole: Ints) -> npt.NDArray[np.float32]:
    """part / whole, 0 where there is no whole."""
    return (part / np.maximum(whole, 1)).astype(np.float32)
