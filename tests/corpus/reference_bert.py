"""BERT's instance builder as a plain loop, one example at a time: the oracle of our vectorised one, and its
peer in speed.

Written from the description of create_pretraining_data.py (google-research/bert) in issue terms: lists in,
lists out, no numpy. Chance comes from a `draws` object, so that the same loop runs on Python's generator or
on the keyed draws of corpus.stream, computed here a second time with Python integers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

CLS, SEP = "[CLS]", "[SEP]"


@dataclass
class Pair:
    a: list[Any]
    b: list[Any]
    is_random: bool


def pairs_of(
    documents: list[list[list[Any]]], own: int, room: int, short_share: float, draws: Any
) -> list[Pair]:
    """The sentence pairs of one document; a document is a list of sentences, a sentence a list of tokens."""
    document = documents[own]
    others = [i for i, d in enumerate(documents) if d]
    target = draws.target(room, short_share)
    pairs: list[Pair] = []
    chunk: list[list[Any]] = []
    length = i = 0
    while i < len(document):
        chunk.append(document[i])
        length += len(document[i])
        if i == len(document) - 1 or length >= target:
            chance = draws.chunk(len(pairs))
            cut = 1 if len(chunk) == 1 else 1 + chance.cut(len(chunk) - 1)
            a = [token for sentence in chunk[:cut] for token in sentence]
            is_random = len(chunk) == 1 or chance.is_random()
            b: list[Any] = []
            if is_random:
                for attempt in range(10):
                    other = others[chance.document(len(others), attempt)]
                    if other != own:
                        break
                for sentence in documents[other][chance.start(len(documents[other])) :]:
                    b.extend(sentence)
                    if len(b) >= target - len(a):
                        break
                i -= len(chunk) - cut
            else:
                for sentence in chunk[cut:]:
                    b.extend(sentence)
            removed = [0, 0]
            while len(a) + len(b) > room:
                side, tokens = (0, a) if len(a) > len(b) else (1, b)
                if chance.front(side, removed[side]):
                    del tokens[0]
                else:
                    tokens.pop()
                removed[side] += 1
            pairs.append(Pair(a, b, is_random))
            chunk, length = [], 0
        i += 1
    return pairs


def hide(
    tokens: list[Any],
    begins_word: list[bool] | None,
    share: float,
    most: int,
    vocab_size: int,
    mask: Any,
    draws: Any,
) -> tuple[list[Any], list[int], list[Any]]:
    """(what is read, target positions, target tokens) of one row; `begins_word` None hides single tokens."""
    groups: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token in (CLS, SEP):
            continue
        if begins_word is not None and groups and not begins_word[position]:
            groups[-1].append(position)
        else:
            groups.append([position])
    budget = min(most, max(1, round(len(tokens) * share)))
    read, hidden = list(tokens), []
    for group in draws.shuffled(groups, budget):
        if len(hidden) >= budget:
            break
        if len(hidden) + len(group) > budget:
            continue
        for position in group:
            read[position] = draws.replacement(position, tokens[position], mask, vocab_size)
            hidden.append(position)
    hidden.sort()
    return read, hidden, [tokens[position] for position in hidden]


def create_instances(
    documents: list[list[list[tuple[int, int]]]],
    begins_word: dict[int, bool],
    objective: Any,
    vocab_size: int,
) -> list[tuple[Any, ...]]:
    """All instances of a corpus as arrays padded to the full length, as the original writes them.

    Tokens are (place in the corpus, id), so that `begins_word` knows them. Item 0 of an instance is its real
    length.
    """
    import numpy as np

    draws = RandomDraws(12345)
    length, most = objective.max_seq_len, objective.max_predictions
    out = []
    for own in range(len(documents)):
        for pair in pairs_of(documents, own, length - 3, objective.short_share, draws):
            row = [CLS, *pair.a, SEP, *pair.b, SEP]
            begins = [t in (CLS, SEP) or begins_word[t[0]] for t in row] if objective.whole_word else None
            tokens = [t if t in (CLS, SEP) else t[1] for t in row]
            read, positions, targets = hide(
                tokens, begins, objective.masked_share, most, vocab_size, 4, draws
            )
            ids = np.zeros((3, length), np.int32)
            ids[0, : len(read)] = [2 if t == CLS else 3 if t == SEP else t for t in read]
            ids[1, len(pair.a) + 2 : len(read)] = 1
            ids[2, : len(read)] = 1
            predictions = np.zeros((2, most), np.int32)
            predictions[:, : len(positions)] = positions, targets
            out.append((len(read), ids, predictions, pair.is_random))
    draws.rng.shuffle(out)
    return out


class RandomDraws:
    """Python's generator, in the order in which the loop asks."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def target(self, room: int, short_share: float) -> int:
        return self.rng.randint(2, room) if self.rng.random() < short_share else room

    def chunk(self, number: int) -> RandomDraws:
        return self

    def cut(self, ways: int) -> int:
        return self.rng.randrange(ways)

    def is_random(self) -> bool:
        return self.rng.random() < 0.5

    def document(self, count: int, attempt: int) -> int:
        return self.rng.randrange(count)

    def start(self, sentences: int) -> int:
        return self.rng.randrange(sentences)

    def front(self, side: int, removal: int) -> bool:
        return self.rng.random() < 0.5

    def shuffled(self, groups: list[list[int]], budget: int) -> list[list[int]]:
        self.rng.shuffle(groups)
        return groups

    def replacement(self, position: int, token: Any, mask: Any, vocab_size: int) -> Any:
        if self.rng.random() < 0.8:
            return mask
        return token if self.rng.random() < 0.5 else self.rng.randrange(vocab_size)


# The keyed draws once more, with Python's integers.
_64 = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(word: int) -> int:
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & _64
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _64
    return word ^ word >> 31


def key_of(seed: int, purpose: str, pass_number: int, *words: int) -> int:
    key = int.from_bytes(
        blake2b(f"{seed}\0{purpose}\0{pass_number}".encode(), digest_size=8).digest(), "little"
    )
    for word in words:
        key = mix(key ^ word)
    return key


def bits(key: int, counter: int) -> int:
    return mix((key + (counter + 1) * GOLDEN) & _64)


def fold(key: int, number: int) -> int:
    return mix(bits(key, number) ^ 0xD1B54A32D192ED03)


def below(word: int, bound: int) -> int:
    return (word >> 32) * bound >> 32


class KeyedSegments:
    """The draws of one document, as corpus.corruption.pairs numbers them."""

    def __init__(self, key: int) -> None:
        self.key = key

    def target(self, room: int, short_share: float) -> int:
        short = (bits(self.key, 0) >> 11) < round(short_share * 2**53)
        return 2 + below(bits(self.key, 1), room - 1) if short else room

    def chunk(self, number: int) -> KeyedSegments:
        return KeyedSegments(fold(self.key, number))

    def cut(self, ways: int) -> int:
        return below(bits(self.key, 0), ways)

    def is_random(self) -> bool:
        return bits(self.key, 1) >> 63 == 0

    def start(self, sentences: int) -> int:
        return below(bits(self.key, 2), sentences)

    def document(self, count: int, attempt: int) -> int:
        return below(bits(self.key, 3 + attempt), count)

    def front(self, side: int, removal: int) -> bool:
        return bool(bits(fold(self.key, side), removal // 64) >> removal % 64 & 1)


class KeyedNoise:
    """The draws of one instance, as corpus.corruption.masking numbers them."""

    def __init__(self, key: int, whole_word: bool) -> None:
        self.pick, self.other, self.whole_word = fold(key, 0), fold(key, 1), whole_word

    def shuffled(self, groups: list[list[int]], budget: int) -> list[list[int]]:
        if self.whole_word:
            order = sorted(range(len(groups)), key=lambda u: bits(self.pick, u) >> 18)
        else:
            order = floyd(len(groups), min(budget, len(groups)), self.pick)
        return [groups[i] for i in order]

    def replacement(self, position: int, token: Any, mask: Any, vocab_size: int) -> Any:
        word = bits(self.other, position)
        if word >> 32 < round(0.8 * 2**32):
            return mask
        return token if word >> 32 < round(0.9 * 2**32) else (word & 0xFFFFFFFF) * vocab_size >> 32


def floyd(count: int, wanted: int, key: int) -> list[int]:
    """Floyd's sample of `wanted` from range(count)."""
    taken: list[int] = []
    for step in range(wanted):
        last = count - wanted + step
        pick = below(bits(key, step), last + 1)
        taken.append(last if pick in taken else pick)
    return taken
