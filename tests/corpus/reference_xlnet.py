"""XLNet's rows, targets and masks as plain loops, one row at a time: the oracle of the vectorised ones, and their peer.

Written from the description of data_utils.py (zihangdai/xlnet) in issue terms: lists in, lists out. Chance comes from a
`draws` object, so that the same loops run on Python's generator or on keyed draws (tests/corpus/reference_bert.py).
"""

from __future__ import annotations

import random
from typing import Any

from tests.corpus.reference_bert import below, bits, floyd, fold


def split(boundaries: set[int], size: int, begin: int, total: int, draws: Any) -> tuple[Any, ...]:
    """(a range, b range, label) of the pair that begins at `begin`; `boundaries` are the first tokens of sentences."""
    cuts, end = [], begin + 1
    while end < size:
        if end in boundaries:
            if end - begin >= total:
                break
            cuts.append(end)
        end += 1
    if not cuts or draws.is_random():
        label = 0
        a_end = cuts[draws.cut(len(cuts))] if cuts else end
        wanted = max(1, total - (a_end - begin))
        b_begin = draws.place(size - wanted)
        b_end = b_begin + wanted
        while b_begin > 0 and b_begin not in boundaries:
            b_begin -= 1
        while b_end < size - 1 and b_end not in boundaries:
            b_end += 1
    else:
        label = 1
        a_end = b_begin = cuts[draws.cut(len(cuts))]
        b_end = end
    while a_end - begin + b_end - b_begin > total:
        if a_end - begin > b_end - b_begin:
            a_end -= 1
        else:
            b_end -= 1
    return (begin, a_end), (b_begin, b_end), label


def sample(kind: str, begins_word: list[bool], special: list[bool], goal: int, draws: Any) -> list[bool]:
    """Which tokens of a part are sampled, special ones too if `kind` is pieces; `goal` of them."""
    size, taken, count = len(special), [False] * len(special), 0
    at = number = 0
    while at < size and count < goal:
        n = min(draws.count(number), goal - count)
        context = n * 6
        ahead = draws.ahead(number, context)
        begin = at + ahead
        number += 1
        if kind == "pieces":
            while begin < size and not (begins_word[begin] or special[begin]):
                begin += 1
            end = begin + n
        elif kind == "words":
            while begin < size and (special[begin] or not begins_word[begin]):
                begin += 1
            if begin >= size:
                break
            end, best = begin, begin
            for _ in range(n):
                end += 1
                while end < size and not (begins_word[end] or special[end]):
                    end += 1
                if end - begin <= goal - count:
                    best = end
                if end == size or special[end]:
                    break
            end = best
        else:
            while begin < size and special[begin]:
                begin += 1
            end = begin
            while end < size and end < begin + n and not special[end]:
                end += 1
        if begin >= size or end >= size or end == begin:
            break
        for position in range(begin, end):
            taken[position] = True
        count += end - begin
        at = end + context - ahead
    free = [i for i in range(size) if not taken[i] and (kind == "pieces" or not special[i])]
    for place in draws.fill(len(free), goal - count):
        taken[free[place]] = True
    return taken


def ranks(selected: list[bool], perm_size: int, draws: Any) -> list[int]:
    """The place of each selected token in the factorisation of its part, -1 for the others."""
    chosen = [i for i, is_selected in enumerate(selected) if is_selected]
    order = sorted(range(len(chosen)), key=lambda u: (chosen[u] // perm_size, draws.rank(u)))
    out = [-1] * len(selected)
    for rank, number in enumerate(order):
        out[chosen[number]] = rank
    return out


def perm_mask(order: list[int], targets: set[int], special: set[int], reuse_len: int) -> list[list[int]]:
    """1 where i may not attend to j, for the query stream, from the text of 8.7: part by part, then between parts."""
    size = len(order)
    mask = [[0] * size for _ in range(size)]
    for i in range(size):
        own = order[i] if i in targets else order[i] + 1
        for j in range(size):
            if i < reuse_len <= j:
                mask[i][j] = 1
            elif j < reuse_len <= i:
                mask[i][j] = 0
            else:
                mask[i][j] = int(own <= order[j] and (j in targets or j in special))
    return mask


class RandomDraws:
    """Python's generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def is_random(self) -> bool:
        return self.rng.random() < 0.5

    def cut(self, ways: int) -> int:
        return self.rng.randrange(ways)

    def place(self, ways: int) -> int:
        return self.rng.randrange(ways)

    def count(self, number: int) -> int:
        return self.rng.choices(range(1, 6), [1 / n for n in range(1, 6)])[0]

    def ahead(self, number: int, context: int) -> int:
        return self.rng.randrange(context)

    def fill(self, ways: int, wanted: int) -> list[int]:
        return self.rng.sample(range(ways), wanted)

    def rank(self, number: int) -> float:
        return self.rng.random()


class KeyedPair:
    """The draws of one row, as corpus.corruption.text_stream numbers them."""

    def __init__(self, key: int) -> None:
        self.key = key

    def is_random(self) -> bool:
        return bits(self.key, 0) >> 63 == 0

    def cut(self, ways: int) -> int:
        return below(bits(self.key, 1), ways)

    def place(self, ways: int) -> int:
        return below(bits(self.key, 2), ways)


class KeyedPart:
    """The draws of one part of a row, as corpus.corruption.partial_prediction numbers them."""

    def __init__(self, key: int) -> None:
        self.targets, self.order = fold(key, 0), fold(key, 1)

    def count(self, number: int) -> int:
        word = bits(self.targets, 2 * number) >> 11
        total = sum(1 / n for n in range(1, 6))
        sums = [sum(1 / k for k in range(1, n + 1)) for n in range(1, 5)]
        return 1 + sum(word >= round(s / total * 2.0**53) for s in sums)

    def ahead(self, number: int, context: int) -> int:
        return below(bits(self.targets, 2 * number + 1), context)

    def fill(self, ways: int, wanted: int) -> list[int]:
        return floyd(ways, wanted, fold(self.targets, 0))

    def rank(self, number: int) -> int:
        return bits(self.order, number) >> 15 & (1 << 49) - (1 << 15)
