"""The noise of RoBERTa, ALBERT and SpanBERT as plain loops, one row at a time: oracles, and peers in speed.

Written from the descriptions of fairseq's mask_tokens_dataset.py, ALBERT's create_pretraining_data.py and
SpanBERT's masking.py: lists in, lists out, no numpy. A row is a list of tokens; `special` and `begins` say of
each position whether it is special and whether a word begins there. Chance comes from `draws`: Python's
generator (RandomNoise), or the keyed draws of corpus.stream a second time (KeyedNoise). Each function returns
(positions, what is read there), positions ascending.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from tests.corpus.reference_bert import below, bits, floyd, fold

Read = tuple[list[int], list[int]]


def words_of(positions: list[int], begins: list[bool] | None) -> list[list[int]]:
    """Positions in lists, one per word; every position for itself without `begins`."""
    words: list[list[int]] = []
    for position in positions:
        if begins is None or begins[position] or not words:
            words.append([position])
        else:
            words[-1].append(position)
    return words


def instead(row: list[int], units: list[list[int]], together: bool, draws: Any) -> Read:
    """80 / 10 / 10, once for each token or once for each hidden unit."""
    read = {}
    for unit in units:
        for position in unit:
            kind = draws.kind(unit[0] if together else position)
            read[position] = (draws.mask, row[position])[kind] if kind < 2 else draws.other(position)
    positions = sorted(read)
    return positions, [read[position] for position in positions]


def hide_evenly(
    row: list[int],
    special: list[bool],
    begins: list[bool] | None,
    share: float,
    mask_special: bool,
    together: bool,
    draws: Any,
) -> Read:
    """RoBERTa: int(share x n + U) of n units."""
    positions = [p for p in range(len(row)) if mask_special or not special[p]]
    words = words_of(positions, begins)
    count = int(share * len(words) + draws.uniform())
    chosen = [words[i] for i in draws.sample(len(words), count)]
    return instead(row, chosen, together, draws)


def hide_ngrams(
    row: list[int],
    special: list[bool],
    begins: list[bool] | None,
    share: float,
    most: int,
    longest: int,
    favour_short: bool,
    cross: bool,
    together: bool,
    draws: Any,
) -> Read:
    """ALBERT: n-grams of words in random order, shortened to fit, none over another."""
    segments: list[list[list[int]]] = [[]]  # words of each segment
    for word in words_of(list(range(len(row))), begins):
        if special[word[0]]:
            segments.append([])
        else:
            segments[-1].append(word)
    if cross:
        segments = [[word for words in segments for word in words]]
    starts = []
    for words in segments:
        for i in range(len(words)):
            starts.append([words[i : i + n] for n in range(1, longest + 1)])
    budget = min(most, max(1, round(len(row) * share)))
    shares = [Fraction(1, n) for n in range(1, longest + 1)]
    if not favour_short:
        shares.reverse()
    hidden: list[list[int]] = []
    covered: set[int] = set()

    def hopeful() -> list[int]:
        left = budget - len(covered)
        words = [grams[0][0] for grams in starts]
        return [i for i, word in enumerate(words) if len(word) <= left and not covered.intersection(word)]

    for number in draws.starts(len(starts), min(budget, special.count(False)), hopeful):
        if len(covered) >= budget:
            break
        grams = starts[number]
        n = draws.number(shares)
        gram = [p for word in grams[n - 1] for p in word]
        while len(covered) + len(gram) > budget and n > 1:
            n -= 1
            gram = [p for word in grams[n - 1] for p in word]
        if len(covered) + len(gram) > budget or any(p in covered for p in gram):
            continue
        covered.update(gram)
        hidden.append(gram)
    return instead(row, hidden, together, draws)


def hide_spans(
    row: list[int],
    special: list[bool],
    begins: list[bool],
    share: float,
    stop: float,
    longest: int,
    cut_words: bool,
    together: bool,
    draws: Any,
) -> Read:
    """SpanBERT: spans of words at random tokens until the budget is reached; spans that touch are one."""
    text = [p for p in range(len(row)) if not special[p]]
    words = words_of(text, begins)
    word_of = {p: i for i, word in enumerate(words) for p in word}
    budget = math.ceil(share * len(text))
    shares = [stop * (1 - stop) ** n for n in range(longest)]
    hidden: set[int] = set()
    attempt = 0
    while len(hidden) < budget:
        anchor, length = text[draws.anchor(len(text), attempt)], draws.length(shares, attempt)
        attempt += 1
        if anchor in hidden:
            continue
        first = word_of[anchor]
        for word in words[first : first + length]:
            if len(hidden) >= budget:
                break
            for p in word:
                if cut_words and len(hidden) >= budget:
                    break
                hidden.add(p)
    spans: list[list[int]] = []
    for p in sorted(hidden):
        if spans and spans[-1][-1] == p - 1:
            spans[-1].append(p)
        else:
            spans.append([p])
    return instead(row, spans, together, draws)


class RandomNoise:
    """Python's generator. `others` are the tokens a random one is drawn from."""

    def __init__(self, seed: int, mask: int, others: Any, masked: float = 0.8, kept: float = 0.1) -> None:
        self.rng, self.mask, self.others = random.Random(seed), mask, others
        self.masked, self.kept = masked, kept
        self.last: tuple[int, int] = (-1, 0)

    def kind(self, head: int) -> int:
        """0 mask, 1 kept, 2 another; the same when asked again about the same unit."""
        if head != self.last[0]:
            draw = self.rng.random()
            self.last = head, 0 if draw < self.masked else 1 if draw < self.masked + self.kept else 2
        return self.last[1]

    def other(self, position: int) -> int:
        return int(self.others[self.rng.randrange(len(self.others))])

    def uniform(self) -> float:
        return self.rng.random()

    def sample(self, count: int, wanted: int) -> list[int]:
        return self.rng.sample(range(count), wanted)

    def starts(self, count: int, budget: int, hopeful: Callable[[], list[int]]) -> Iterator[int]:
        order = list(range(count))
        self.rng.shuffle(order)
        yield from order

    def number(self, shares: list[Fraction]) -> int:
        return self.rng.choices(range(1, len(shares) + 1), [float(share) for share in shares])[0]

    def anchor(self, count: int, attempt: int) -> int:
        return self.rng.randrange(count)

    def length(self, shares: list[float], attempt: int) -> int:
        return self.rng.choices(range(1, len(shares) + 1), shares)[0]


class KeyedNoise:
    """The draws of one instance as the objectives number them, with Python's integers."""

    def __init__(self, key: int, mask: int, others: Any, masked: float = 0.8, kept: float = 0.1) -> None:
        self.pick, self.instead, self.draw = fold(key, 0), fold(key, 1), fold(key, 2)
        self.mask, self.others, self.masked, self.kept = mask, others, masked, kept
        self.word = 0

    def kind(self, head: int) -> int:
        draw = bits(self.instead, head) >> 32
        if draw < round(self.masked * 2**32):
            return 0
        return 1 if draw < round((self.masked + self.kept) * 2**32) else 2

    def other(self, position: int) -> int:
        low = bits(self.instead, position) & 0xFFFFFFFF
        return int(self.others[low * len(self.others) >> 32])

    def uniform(self) -> float:
        return (bits(self.draw, 0) >> 11) / 2**53

    def sample(self, count: int, wanted: int) -> list[int]:
        return floyd(count, wanted, self.pick)

    def starts(self, count: int, budget: int, hopeful: Callable[[], list[int]]) -> Iterator[int]:
        """In random order: drawn, unless drawn before; then what is left, sorted by random numbers."""
        tried = set()
        for attempt in range(2 * budget + 8):
            self.word = bits(self.pick, attempt)
            start = below(self.word, count)
            if start not in tried:
                tried.add(start)
                yield start
        rest, key = [start for start in hopeful() if start not in tried], fold(self.pick, 0)
        for place in sorted(range(len(rest)), key=lambda i: bits(key, i) >> 18):
            self.word = bits(key, place)
            yield rest[place]

    def number(self, shares: list[Fraction]) -> int:
        """The length that goes with the start just drawn."""
        return _nth(shares, Fraction(self.word & 0xFFFFFFFF, 2**32))

    def anchor(self, count: int, attempt: int) -> int:
        return below(bits(self.pick, attempt), count)

    def length(self, shares: list[float], attempt: int) -> int:
        return _nth(shares, (bits(self.pick, attempt) & 0xFFFFFFFF) / 2**32)


def _nth(shares: list[Any], uniform: Any) -> int:
    """1 ... n, by where a number in [0, 1) falls among the shares, scaled to sum to 1."""
    reached, total = 0 * shares[0], sum(shares)
    for n, share in enumerate(shares, 1):
        reached += share
        if uniform * total < reached:
            return n
    return len(shares)
