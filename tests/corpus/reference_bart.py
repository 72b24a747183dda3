"""BART's noises as plain loops over one example: the oracle of our vectorised ones.

Written from the description of fairseq's DenoisingDataset: lists in, lists out, no numpy. Chance comes from a `draws`
object, so that the same loops run on Python's generator or on the keyed draws of corpus.stream, computed a second time with
Python integers. A token of the text is (its place in the corpus, its id), a mask MASK, another token a bare id.
"""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

from tests.corpus.reference_bert import below, bits, floyd, fold

MASK = "[MASK]"
SPAN = "a span"  # before it is a mask or another token: masks that were there already are text
PERMUTE, MASKING, DELETE, INFILL, INSERT, ROTATE = range(6)


def rows_of(sentences: list[list[Any]], room: int) -> list[list[list[Any]]]:
    """Sentences of a document -> rows of as many whole sentences as fit; longer ones are cut first."""
    rows: list[list[list[Any]]] = []
    for sentence in sentences:
        for begin in range(0, len(sentence), room):
            piece = sentence[begin : begin + room]
            if not rows or sum(map(len, rows[-1])) + len(piece) > room:
                rows.append([])
            rows[-1].append(piece)
    return rows


def corrupt(row: list[list[Any]], begins_word: Any, objective: Any, vocab_size: int, draws: Any) -> list[Any]:
    """What is read instead of the text of a row, without <s> and </s>."""
    text = [token for sentence in row for token in sentence]
    begins = [number == 0 or bool(begins_word[token[0]]) for number, token in enumerate(text)]
    if (noise := objective.permute) is not None:
        order = permuted(sentence_ends(row, noise.ends), len(text), noise.share, draws.of(PERMUTE))
        text, begins = [text[i] for i in order], [begins[i] for i in order]
    if (noise := objective.mask) is not None:
        chance = draws.of(MASKING)
        at = chance.sample(0, len(text), math.ceil(len(text) * noise.share))
        for place, read in zip(
            at, chance.masks(1, len(at), noise.random_share, noise.other, vocab_size), strict=True
        ):
            text[place] = read
    if (noise := objective.delete) is not None:
        gone = draws.of(DELETE).sample(0, len(text), math.ceil(len(text) * noise.share))
        text, begins = ([x for i, x in enumerate(column) if i not in set(gone)] for column in (text, begins))
    if (noise := objective.infill) is not None:
        text = infilled(text, begins, noise, objective.max_seq_len - 2, vocab_size, draws.of(INFILL))
    if (noise := objective.insert) is not None:
        chance = draws.of(INSERT)
        count = min(math.ceil((len(text) + 2) * noise.share), objective.max_seq_len - 2 - len(text))
        new = some_random(count, noise.random_share, noise.other, vocab_size, chance.of(1))
        text = with_more(text, new, chance.sample(0, len(text) + count, count))
    if (noise := objective.rotate) is not None:
        offset = draws.of(ROTATE).offset(noise.share, len(text) + 2)
        text = text[offset - 1 :] + text[: offset - 1]
    return text


def sentence_ends(row: list[list[Any]], ends: Any) -> list[int]:
    """Where sentences end in the text of a row: lengths up to the end, exclusive."""
    if not hasattr(ends, "token_ids"):
        return [sum(map(len, row[: number + 1])) for number in range(len(row))]
    text = [token for sentence in row for token in sentence]
    stops = [token[1] in ends.token_ids for token in text]
    stops[-1] = True
    return [i + 1 for i, stop in enumerate(stops) if stop and not (i and stops[i - 1])]


def permuted(ends: list[int], length: int, share: float, draws: Any) -> list[int]:
    """The order in which the tokens stand afterwards."""
    chosen = draws.shuffled(len(ends))[: math.ceil(len(ends) * share)]
    order = list(range(len(ends)))
    for place, sentence in zip(sorted(chosen), chosen, strict=True):
        order[place] = sentence
    found = [i for sentence in order for i in range(ends[sentence - 1] if sentence else 0, ends[sentence])]
    return found + list(range(ends[-1], length))


def infilled(
    text: list[Any], begins: list[bool], noise: Any, room: int, vocab_size: int, draws: Any
) -> list[Any]:
    """Spans walk from token to token and use up one of their words where the next token begins one."""
    starts = [i for i, begin in enumerate(begins) if begin]
    budget = math.ceil(len(starts) * noise.share)
    if not budget:
        return text
    lengths: list[int] = []
    while sum(lengths) < budget:
        lengths.append(draws.length(0, len(lengths), noise.mean_span))
    lengths[-1] -= sum(lengths) - budget
    inserts = lengths.count(0)
    lengths = [length for length in lengths if length]
    other = draws.one_of(1, len(lengths))
    lengths[-1], lengths[other] = lengths[other], lengths[-1]
    if noise.exact:
        words, passed = [], 0
        places = draws.sample(2, len(starts) - sum(lengths) + len(lengths), len(lengths))
        for place, length in zip(places, lengths, strict=True):
            words.append(place + passed)
            passed += length - 1
    else:
        words = draws.sample(2, len(starts), len(lengths))
    read, keep = list(text), [True] * len(text)
    for word in words:
        read[starts[word]] = SPAN
    for word, length in zip(words, lengths, strict=True):
        at, left = starts[word] + 1, length - 1
        while at < len(text) and left - begins[at] >= 0:
            left -= begins[at]
            keep[at] = False
            at += 1
    out = [token for token, kept in zip(read, keep, strict=True) if kept]
    where = [i for i, token in enumerate(out) if token is SPAN]
    masks = draws.masks(3, len(where), noise.random_share, noise.other, vocab_size)
    for i, mask in zip(where, masks, strict=True):
        out[i] = mask
    inserts = min(inserts, room - len(out))
    if noise.exact:
        new = draws.masks(5, inserts, noise.random_share, noise.other, vocab_size)
    else:
        new = some_random(inserts, noise.random_share, noise.other, vocab_size, draws.of(5))
    return with_more(out, new, draws.sample(4, len(out) + inserts, inserts))


def some_random(count: int, share: float, other: Any, vocab_size: int, draws: Any) -> list[Any]:
    """Masks, of which the share, rounded up, are other tokens."""
    new: list[Any] = [MASK] * count
    if share > 0:
        at = draws.sample(0, count, math.ceil(count * share))
        for number, place in enumerate(at):
            new[place] = draws.token(number, other, vocab_size)
    return new


def with_more(text: list[Any], new: list[Any], at: list[int]) -> list[Any]:
    """The new tokens stand at these places of the longer text."""
    old, more = iter(text), dict(zip(at, new, strict=True))
    return [more[i] if i in more else next(old) for i in range(len(text) + len(new))]


@cache
def poisson_bounds(mean: float) -> list[float]:
    """Where each length but the first begins, in 0 ... 1."""
    shares = []
    for k in range(128):
        shares.append(math.exp(-mean) * mean**k / math.factorial(k))
        if shares[-1] < 1e-7:
            break
    total = sum(shares)
    return [sum(shares[: k + 1]) / total for k in range(len(shares) - 1)]


def other_token(word: int, other: Any, vocab_size: int) -> int:
    """By 32 random bits."""
    if type(other).__name__ == "AnyTokenButTheFirst":
        return 1 + (word * (vocab_size - 1) >> 32)
    assert type(other).__name__ == "AnyToken"
    return word * vocab_size >> 32


class RandomDraws:
    """Python's generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def of(self, part: int) -> RandomDraws:
        return self

    def shuffled(self, count: int) -> list[int]:
        return self.rng.sample(range(count), count)

    def sample(self, part: int, count: int, wanted: int) -> list[int]:
        return sorted(self.rng.sample(range(count), wanted))

    def length(self, part: int, number: int, mean: float) -> int:
        drawn = self.rng.random()
        return sum(bound <= drawn for bound in poisson_bounds(mean))

    def one_of(self, part: int, count: int) -> int:
        return self.rng.randrange(count)

    def masks(self, part: int, count: int, share: float, other: Any, vocab_size: int) -> list[Any]:
        return [self.token(0, other, vocab_size) if self.rng.random() < share else MASK for _ in range(count)]

    def token(self, number: int, other: Any, vocab_size: int) -> int:
        return other_token(self.rng.getrandbits(32), other, vocab_size)

    def offset(self, share: float, length: int) -> int:
        return self.rng.randint(1, length - 1) if self.rng.random() < share else 1


class KeyedDraws:
    """The draws of one instance, as the noises number them."""

    def __init__(self, key: int) -> None:
        self.key = key

    def of(self, part: int) -> KeyedDraws:
        return KeyedDraws(fold(self.key, part))

    def shuffled(self, count: int) -> list[int]:
        return sorted(range(count), key=lambda number: bits(self.key, number) >> 18)

    def sample(self, part: int, count: int, wanted: int) -> list[int]:
        return sorted(floyd(count, wanted, fold(self.key, part)))

    def length(self, part: int, number: int, mean: float) -> int:
        word = bits(fold(self.key, part), number) >> 32
        return sum(round(bound * 2**32) <= word for bound in poisson_bounds(mean))

    def one_of(self, part: int, count: int) -> int:
        return below(bits(fold(self.key, part), 0), count)

    def masks(self, part: int, count: int, share: float, other: Any, vocab_size: int) -> list[Any]:
        words = [bits(fold(self.key, part), number) for number in range(count)]
        return [
            other_token(word & 0xFFFFFFFF, other, vocab_size) if word >> 32 < round(share * 2**32) else MASK
            for word in words
        ]

    def token(self, number: int, other: Any, vocab_size: int) -> int:
        return other_token(bits(self.key, number) >> 32, other, vocab_size)

    def offset(self, share: float, length: int) -> int:
        rotates = bits(self.key, 0) >> 11 < round(share * 2**53)
        return 1 + below(bits(self.key, 1), length - 1) if rotates else 1
