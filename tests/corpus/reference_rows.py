"""Rows of sentences as plain loops, one document at a time: what packing.py and ALBERT's pairs must give.

A document is a list of sentences, a sentence a list of tokens; a row is a `PlainRow` of segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class PlainRow:
    segments: list[list[Any]]
    document: int  # where it begins
    chunk: int
    label: bool | None = None


def pack(documents: list[list[list[Any]]], room: int, cross: bool, drop_long: bool) -> list[PlainRow]:
    """Greedily whole sentences; a border inside a row costs a separator."""
    rows: list[PlainRow] = []
    begun: dict[int, int] = {}

    def new_row(document: int) -> PlainRow:
        begun[document] = begun.get(document, -1) + 1
        rows.append(PlainRow([], document, begun[document]))
        return rows[-1]

    row: PlainRow | None = None
    for number, document in enumerate(documents):
        if not cross:
            row = None
        at_border = True
        for sentence in document:
            if drop_long and len(sentence) > room:
                row = None
                continue
            for begin in range(0, len(sentence), room):
                part = sentence[begin : begin + room]
                used = 0 if row is None else sum(map(len, row.segments)) + len(row.segments) - 1
                if row is None or used + at_border + len(part) > room:
                    row = new_row(number)
                    row.segments.append([])
                elif at_border:
                    row.segments.append([])
                row.segments[-1].extend(part)
                at_border = False
    return rows


def ordered_pairs(
    documents: list[list[list[Any]]], own: int, room: int, short_share: float, pair_lone: bool, draws: Any
) -> list[PlainRow]:
    """ALBERT's pairs of one document, with the draws of reference_bert."""
    document = documents[own]
    others = [i for i, d in enumerate(documents) if d]
    target = draws.target(room, short_share)
    rows: list[PlainRow] = []
    chunk: list[list[Any]] = []
    number = 0
    for i, sentence in enumerate(document):
        chunk.append(sentence)
        if i < len(document) - 1 and sum(map(len, chunk)) < target:
            continue
        chance = draws.chunk(number)
        cut = 1 if len(chunk) == 1 else 1 + chance.cut(len(chunk) - 1)
        a = [token for s in chunk[:cut] for token in s]
        b = [token for s in chunk[cut:] for token in s]
        label = len(chunk) == 1
        if label:
            other = own
            for attempt in range(10):
                other = others[chance.document(len(others), attempt)]
                if other != own:
                    break
            for lent in documents[other][chance.start(len(documents[other])) :]:
                b.extend(lent)
                if len(b) >= target - len(a):
                    break
        elif chance.is_random():
            a, b, label = b, a, True
        removed = [0, 0]
        while len(a) + len(b) > room:
            side, tokens = (0, a) if len(a) > len(b) else (1, b)
            if chance.front(side, removed[side]):
                del tokens[0]
            else:
                tokens.pop()
            removed[side] += 1
        if len(chunk) > 1 or pair_lone:
            rows.append(PlainRow([a, b], own, number, label))
        chunk, number = [], number + 1
    return rows
