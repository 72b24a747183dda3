"""The words of a corpus as one column of symbols in which adjacent pairs are counted and merged.

The inner part of WordPiece training (train.py) and of byte-level BPE training. Each place of the column has a symbol (an entry's number) and links to
its neighbours in the same word. A merge touches only the places of its pair, all at once, and adjusts the counts of
the pairs around them by the word's count:

    symbols  h ##u ##g ##s      merge (##u, ##g):   h ##ug  .  ##s      down: (h, ##u) (##u, ##g) (##g, ##s)
    next     1  2   3   -                           1   3   -   -       up:   (h, ##ug) (##ug, ##s)

The most frequent pair comes from a heap whose entries may be too high (counts that sank since); they are corrected
when they surface. A merge costs about 0.2 ms: 8,000 entries from 131,000 distinct words take 2 s.
"""

import heapq
from collections.abc import Sequence
from typing import Final

import numpy as np

from corpus.wordpiece.interning import Int32s, Int64s

CONTINUES: Final = "##"
_NONE: Final = -1  # no neighbour; no symbol, because it was merged into the one before
_FORBIDDEN: Final = -(1 << 62)  # stays below every count, whatever is added later
_LOW: Final = (1 << 32) - 1


class Symbols:
    """`entries` begins with the given ones, then the characters, then the continuing characters, by code point.

    A pair (left, right) of symbols is the integer left << 32 | right, which sorts as the pair does.
    """

    def __init__(
        self,
        words: Sequence[str],
        counts: Int64s,
        entries: Sequence[str],
        *,
        alphabet_size: int | None = None,
        initial_alphabet: str = "",
        continues: str = CONTINUES,
    ) -> None:
        """Keep the `alphabet_size` most frequent characters; a word simply lacks the others.

        Of `initial_alphabet` every character is an entry, met or not. With `continues` empty (byte-level BPE), a
        character has one entry wherever it stands.
        """
        self._continues = continues
        self.merges: list[int] = []
        codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
        word = np.repeat(np.arange(len(words)), np.fromiter(map(len, words), np.int64, len(words)))
        given = np.frombuffer(initial_alphabet.encode("utf-32-le"), np.uint32)
        characters, kinds = np.unique(np.concatenate([given, codes]), return_inverse=True)
        kinds = kinds[len(given) :]
        frequency = np.zeros(len(characters), np.int64)
        np.add.at(frequency, kinds, counts[word])
        alphabet = np.sort(np.lexsort((characters, -frequency))[:alphabet_size])
        begins = np.ones(len(codes), np.bool_)
        begins[1:] = word[1:] != word[:-1]
        kept = np.flatnonzero(np.isin(kinds, alphabet))
        kinds, begins, word = kinds[kept], begins[kept], word[kept]
        continuing = np.unique(kinds[~begins])

        self.entries = list(entries)
        first = np.zeros(len(characters), np.int32)
        first[alphabet] = len(self.entries) + np.arange(len(alphabet))
        self.entries += [chr(c) for c in characters[alphabet].tolist()]
        later = first
        if continues:
            later = np.zeros(len(characters), np.int32)
            later[continuing] = len(self.entries) + np.arange(len(continuing))
            self.entries += [continues + chr(c) for c in characters[continuing].tolist()]
        self._numbers = {entry: number for number, entry in enumerate(self.entries)}

        places = np.arange(len(kinds), dtype=np.int32)
        same_word = word[1:] == word[:-1]
        self._symbol: Int32s = np.where(begins, first[kinds], later[kinds])
        self._weight: Int64s = counts[word]
        self._next: Int32s = np.append(np.where(same_word, places[1:], _NONE), _NONE)[: len(places)]
        self._previous: Int32s = np.insert(np.where(same_word, places[:-1], _NONE), 0, _NONE)[: len(places)]
        self._merging = np.zeros(len(places), np.bool_)
        self._count: dict[int, int] = {}
        self._places: dict[int, list[Int64s]] = {}
        self._queue: list[tuple[int, int]] = []
        pairs = np.flatnonzero(self._next != _NONE)
        self._adjust(*self._pairs_at(np.zeros(0, np.int64)), *self._pairs_at(pairs), pairs)

    def most_frequent(self, least: int) -> int | None:
        """The pair with the highest count, of equal ones the lowest; None if its count is below `least`."""
        while self._queue:
            negated, pair = self._queue[0]
            count = self._count[pair]
            if count == -negated:
                return pair if count >= least else None
            heapq.heapreplace(self._queue, (-count, pair))
        return None

    def forbid(self, pair: int) -> None:
        """Never merge this pair."""
        self._count[pair] = _FORBIDDEN

    def count_of(self, pair: int) -> int:
        return self._count[pair]

    def texts_of(self, pair: int) -> tuple[str, str]:
        return self.entries[pair >> 32], self.entries[pair & _LOW]

    def pairs_with(self, count: int) -> list[int]:
        """All pairs with this count, ascending (a scan, for analysis)."""
        return sorted(pair for pair, c in self._count.items() if c == count)

    def merge(self, pair: int) -> None:
        """Make the pair one symbol wherever it stands, and an entry if its text is not one yet."""
        self.merges.append(pair)
        left, right = pair >> 32, pair & _LOW
        text = self.entries[left] + self.entries[right].removeprefix(self._continues)
        number = self._numbers.setdefault(text, len(self.entries))
        if number == len(self.entries):
            self.entries.append(text)
        at = self._places_of(pair, left, right)
        after = self._next[at]
        beyond = self._next[after]

        # What goes: the pairs that begin at the place before, at the place, and at the swallowed one. Where two merges
        # touch, the pair between them is the later one's "before" and the earlier one's "swallowed": taken once.
        self._merging[after] = True
        before = self._previous[at]
        before = before[(before != _NONE) & ~self._merging[before]]
        self._merging[after] = False
        gone = self._pairs_at(np.concatenate([before, at, after[beyond != _NONE]]))

        self._symbol[at] = number
        self._symbol[after] = _NONE
        self._next[at] = beyond
        self._previous[beyond[beyond != _NONE]] = at[beyond != _NONE]

        # What comes: the pairs that begin before and at the new symbols; one between two of them is taken once.
        self._merging[at] = True
        before = self._previous[at]
        before = before[(before != _NONE) & ~self._merging[before]]
        self._merging[at] = False
        new = np.concatenate([before, at[beyond != _NONE]])
        self._adjust(*gone, *self._pairs_at(new), new)

    def _places_of(self, pair: int, left: int, right: int) -> Int64s:
        """Where the pair stands now, ascending; in a run of one symbol ("aaa") every second place, from the left."""
        at = np.unique(np.concatenate(self._places.pop(pair)))
        at = at[self._symbol[at] == left]
        after = self._next[at]
        fits = (after != _NONE) & (self._symbol[after] == right)
        at, after = at[fits], after[fits]
        if left == right:
            index = np.arange(len(at))
            runs = np.ones(len(at), np.bool_)
            runs[1:] = at[1:] != after[:-1]
            at = at[(index - np.maximum.accumulate(np.where(runs, index, 0))) % 2 == 0]
        return at

    def _pairs_at(self, places: Int64s) -> tuple[Int64s, Int64s]:
        """The pairs that begin at these places, and the counts of their words."""
        left = self._symbol[places].astype(np.int64)
        return left << 32 | self._symbol[self._next[places]], self._weight[places]

    def _adjust(self, gone: Int64s, less: Int64s, new: Int64s, more: Int64s, places: Int64s) -> None:
        """Lower the counts of the pairs that went; raise those that came, note their places and queue them."""
        count = self._count
        pairs, sums, _, _ = _grouped(gone, less)
        for pair, weight in zip(pairs, sums, strict=True):
            count[pair] -= weight
        pairs, sums, begins, order = _grouped(new, more)
        places = places[order]
        for i, (pair, weight) in enumerate(zip(pairs, sums, strict=True)):
            count[pair] = raised = count.get(pair, 0) + weight
            self._places.setdefault(pair, []).append(places[begins[i] : begins[i + 1]])
            heapq.heappush(self._queue, (-raised, pair))


def _grouped(pairs: Int64s, weights: Int64s) -> tuple[list[int], list[int], list[int], Int64s]:
    """Distinct pairs and the sums of their weights; group g is order[begins[g] : begins[g + 1]]."""
    if not len(pairs):
        return [], [], [0], pairs
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    first = np.ones(len(pairs), np.bool_)
    first[1:] = pairs[1:] != pairs[:-1]
    begins = np.flatnonzero(first)
    sums = np.add.reduceat(weights[order], begins)
    return pairs[begins].tolist(), sums.tolist(), [*begins.tolist(), len(pairs)], order
