"""Sentences cover the text, begin at characters, and are those of a plain one-document-at-a-time reference."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sentences import (
    ALWAYS,
    BEFORE_DIGIT,
    CLOSERS,
    MAX_RUN,
    OPENERS,
    WIDE_CLOSERS,
    WIDE_CONTINUES,
    WIDE_STOPS,
    sentence_starts,
)


def split(text: str) -> list[str]:
    starts, _ = sentence_starts(pa.array([text], pa.large_string()))
    data = text.encode()
    return [data[a:b].decode() for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def opens(c: str) -> bool:
    return (
        c in OPENERS
        or unicodedata.category(c) in ("Lu", "Lt", "Lo", "Lm", "Nd", "Nl", "No", "So", "Ps", "Pi")
        or c > "\uffff"
    )


NARROW = re.compile(rf"[.!?…][{re.escape(CLOSERS)}]{{0,{MAX_RUN}}}+[ \u3000]{{1,{MAX_RUN}}}+")
WIDE = re.compile(
    rf"(?:[{WIDE_STOPS}]|……|\.{{6}}|[!?])[{re.escape(WIDE_CLOSERS)}]{{0,{MAX_RUN}}}+([ \u3000]{{0,{MAX_RUN}}}+)"
)
NOT_AFTER = WIDE_CONTINUES + WIDE_STOPS + WIDE_CLOSERS + "… \u3000\n"


def abbreviated(before: str, following: str) -> bool:
    """Whether the full stop behind `before` belongs to its last word or number."""
    if re.search(r"(?:^|\n)[0-9]{1,3}$", before):
        return True
    word = re.search(r"(?<![A-Za-z0-9_\u0080-\U0010ffff])[A-Za-z]{1,8}$", before)
    if word is None:
        return False
    lower, edge = word[0].lower(), before[: word.start()][-1:]
    if lower in ALWAYS.split() or ("0" <= following <= "9" and lower in BEFORE_DIGIT.split()):
        return True
    return len(lower) == 1 and (word[0].isupper() or edge == ".")


def reference(text: str) -> list[int]:
    """Start offsets in characters, by regular expressions tried at every position."""
    starts = {0} if text else set()
    starts |= {m.end() for m in re.finditer(r"\n", text) if text[m.end() : m.end() + 1] not in ("", "\n")}
    for i in range(len(text)):
        m = NARROW.match(text, i)
        if m and m.end() < len(text) and opens(text[m.end()]):
            starts |= set() if text[i] == "." and abbreviated(text[:i], text[m.end()]) else {m.end()}
        m = WIDE.match(text, i)
        if m and m.end() < len(text) and text[m.end()] not in NOT_AFTER:
            starts |= {m.end()} if text[i] not in ".!?" or (text[m.end()] >= "\u2e80" and not m[1]) else set()
    return sorted(starts)


PIECES = st.sampled_from(
    [
        *"aB1é中あ. ! ?\n\"')]”’。！？，；」…、।🙂\u3000",
        ". ",
        ".\n",
        "......",
        "……",
        "Dr",
        "e.g",
        "No",
        "etc",
        "Fig",
        "U.S",
        "12",
        "? ",
        "！",
        " I",
        "Ж",
        "ж",
    ]
)
TEXTS = st.lists(PIECES, max_size=24).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(TEXTS, st.text(max_size=20)), max_size=5))
def test_vectorised_equals_one_document_at_a_time(texts: list[str]) -> None:
    starts, documents = sentence_starts(pa.array(texts, pa.large_string()))
    expected = [(d, len(t[:s].encode())) for d, t in enumerate(texts) for s in reference(t)]
    begins = np.cumsum([0, *(len(t.encode()) for t in texts)])
    assert [(int(d), int(s - begins[d])) for s, d in zip(starts, documents, strict=True)] == expected


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_sentences_cover_every_document_and_begin_at_characters(texts: list[str]) -> None:
    starts, documents = sentence_starts(pa.array(texts, pa.large_string()))
    data = "".join(texts).encode()
    assert (np.diff(starts) > 0).all()
    assert all(data[s] & 0xC0 != 0x80 for s in starts)
    assert set(documents.tolist()) == {i for i, t in enumerate(texts) if t}
    firsts = np.cumsum([0, *(len(t.encode()) for t in texts)])[:-1]
    assert {int(f) for f, t in zip(firsts, texts, strict=True) if t} <= set(starts.tolist())


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith et al. came at 5 p.m. yesterday. ", "He (see Fig. 3, e.g. No. 5) left."],
        ['"Why?" ', "Nobody knows... ", "Yes! ", "Version 3.5 of foo.Bar is ok. see below. ", "And so on."],
        ["1. Install it. ", "Then run.\n\n", "2. Remove it."],
        ["J. R. Smith wrote it in 1999. ", "The end."],
        ["Élan? ", "Über. ", "Да. нет. ", "Да."],
        [
            "他说：“你好。”",
            "他走了。",
            "真的吗？！",
            "是的……",
            "好吧……。",
            "嗯！",
            "（好）「什么？」",
            "是啊。\n",
            "新行",
        ],
        ["中文?", "中文 a?b!"],
        ["そうです。", "「はい。」", "と言った。"],  # the rule does not know that the sentence goes on
        ["वह गया। ", "वह आया।"],
        ["See https://x.org/?q=Abc. ", "It works."],
    ],
)
def test_boundaries_are_where_a_reader_sees_them(sentences: list[str]) -> None:
    assert split("".join(sentences)) == sentences


def test_a_slice_of_a_column_is_split_like_the_column() -> None:
    column = pa.array(["One. Two.", "Three. Four.", "", "Five."], pa.large_string())
    starts, documents = sentence_starts(column.slice(1))
    assert starts.tolist() == [0, 7, 12]
    assert documents.tolist() == [0, 0, 2]


def test_no_text_has_no_sentence() -> None:
    for texts in ([], ["", ""]):
        starts, documents = sentence_starts(pa.array(texts, pa.large_string()))
        assert starts.tolist() == documents.tolist() == []


def test_a_drawing_does_not_take_long() -> None:
    text = ("A." + ")" * 100_000 + " B." + " " * 100_000 + "C") * 3
    assert len(split(text)) == 1
