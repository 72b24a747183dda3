"""n-grams and spans one example at a time, in the manner of the originals: what bench_masking.py compares
with.

Rows are lists of (place in the corpus, token); the instances come out as the padded arrays that the originals
write. As in the originals, lengths of n-grams and spans, and the places and tokens of spans, are drawn by
numpy's old `choice`.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from tests.corpus import reference_bert as bert
from tests.corpus.reference_rows import ordered_pairs, pack

Texts = list[list[list[tuple[int, int]]]]
CLS, SEP, MASK = (-1, 2), (-1, 3), 4
CHANCE = np.random.RandomState(0)  # what `numpy.random.choice` calls


def albert(texts: Texts, begins: dict[int, bool], objective: Any, vocab_size: int) -> int:
    """ALBERT's create_pretraining_data: pairs, n-grams, arrays. Returns the tokens of all rows."""
    draws, done = bert.RandomDraws(0), 0
    length, most = objective.max_seq_len, objective.max_predictions
    for own in range(len(texts)):
        for row in ordered_pairs(texts, own, length - 3, objective.short_share, objective.pair_lone, draws):
            a, b = row.segments
            tokens = [CLS, *a, SEP, *b, SEP]
            read, positions, targets = _ngrams(tokens, begins, objective, vocab_size, draws.rng)
            ids = np.zeros((3, length), np.int32)
            ids[0, : len(read)] = read
            ids[1, len(a) + 2 : len(read)] = 1
            ids[2, : len(read)] = 1
            predictions = np.zeros((2, most), np.int32)
            predictions[:, : len(positions)] = positions, targets
            done += len(read)
    return done


def _ngrams(
    tokens: list[tuple[int, int]],
    begins: dict[int, bool],
    objective: Any,
    vocab_size: int,
    rng: random.Random,
) -> tuple[list[int], list[int], list[int]]:
    words: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token[0] < 0:
            continue
        if words and not begins[token[0]]:
            words[-1].append(position)
        else:
            words.append([position])
    read = [token[1] for token in tokens]
    budget = min(objective.max_predictions, max(1, round(len(tokens) * objective.masked_share)))
    lengths = list(range(1, objective.longest_ngram + 1))
    shares = 1 / np.arange(1, objective.longest_ngram + 1)
    shares /= shares.sum()
    grams = [[words[i : i + n] for n in lengths] for i in range(len(words))]
    rng.shuffle(grams)
    hidden: list[tuple[int, int]] = []
    covered: set[int] = set()
    for choices in grams:
        if len(hidden) >= budget:
            break
        n = CHANCE.choice(lengths, p=shares)
        gram = [position for word in choices[n - 1] for position in word]
        while len(hidden) + len(gram) > budget and n > 1:
            n -= 1
            gram = [position for word in choices[n - 1] for position in word]
        if len(hidden) + len(gram) > budget or any(position in covered for position in gram):
            continue
        for position in gram:
            covered.add(position)
            hidden.append((position, read[position]))
            if rng.random() < 0.8:
                read[position] = MASK
            elif rng.random() < 0.5:
                read[position] = rng.randint(0, vocab_size - 1)
    hidden.sort()
    return read, [position for position, _ in hidden], [token for _, token in hidden]


def spanbert(texts: Texts, begins: dict[int, bool], objective: Any, vocab_size: int) -> int:
    """SpanBERT's data set and masking scheme: rows, spans, arrays. Returns the tokens of all rows."""
    done, room = 0, objective.max_seq_len - 2
    text = np.array([token for document in texts for sentence in document for _, token in sentence])
    shares = objective.stop_share * (1 - objective.stop_share) ** np.arange(objective.longest_span)
    shares /= shares.sum()
    for row in pack(texts, room, False, objective.packing.drop_long):
        tokens = row.segments[0]
        starts = [i == 0 or begins[place] for i, (place, _) in enumerate(tokens)]
        sentence = np.array([token for _, token in tokens])
        read, target = _spans(sentence, starts, objective, shares, text)
        ids = np.zeros((2, objective.max_seq_len), np.int32)
        ids[0, : len(read) + 2] = [CLS[1], *read, SEP[1]]
        ids[1, 1 : len(read) + 1] = target
        done += len(read) + 2
    return done


def _spans(
    sentence: np.ndarray,
    starts: list[bool],
    objective: Any,
    shares: np.ndarray,
    text: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    count, lengths = len(sentence), list(range(1, len(shares) + 1))
    budget = math.ceil(count * objective.masked_share)
    hidden: set[int] = set()
    spans: list[list[int]] = []
    while len(hidden) < budget:
        length = CHANCE.choice(lengths, p=shares)
        anchor = CHANCE.choice(count)
        if anchor in hidden:
            continue
        while not starts[anchor]:
            anchor -= 1
        spans.append([anchor, anchor])
        words, position = 0, anchor
        while words < length and position < count and len(hidden) < budget:
            words += 1
            while position < count and len(hidden) < budget:
                hidden.add(position)
                spans[-1][1] = position
                position += 1
                if position < count and starts[position]:
                    break
    spans.sort()
    merged: list[list[int]] = []
    for start, end in spans:
        if merged and merged[-1][1] + 1 >= start:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    read, target = sentence.copy(), np.zeros(count, np.int64)
    for start, end in merged:
        draw = CHANCE.random_sample()
        for position in range(start, end + 1):
            target[position] = sentence[position]
            if draw < 0.8:
                read[position] = MASK
            elif draw < 0.9:
                read[position] = CHANCE.choice(text)
    return read, target
