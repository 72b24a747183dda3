"""The published definitions once more, word for word and document by document: what the vectorised figures are held to."""

import re
import unicodedata
from collections import Counter
from typing import Any

import pyarrow as pa

from corpus.sentences import sentence_starts

UNSPACED = (
    (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x107F), (0x1780, 0x17FF), (0x3040, 0x30FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF),
)  # fmt: skip
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
TERMINAL = tuple('.!?…"”’»›。！？｡।॥؟۔።။။។」』”）')
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def alone(c: str) -> bool:
    return any(first <= ord(c) <= last for first, last in UNSPACED)


def words_of(text: str) -> list[str]:
    words = []
    for run in text.split():
        word = ""
        for c in run:
            if alone(c):
                words += [word, c] if word else [c]
                word = ""
            else:
                word += c
        words += [word] if word else []
    return words


def top(words: list[str], n: int) -> float:
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    longest = max(sum(map(len, g)) for g, c in counts.items() if c == most)
    return min(1.0, longest * most / sum(map(len, words)))


def duplicate(words: list[str], n: int) -> float:
    seen, covered = set(), set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            covered |= set(range(i, i + n))
        seen.add(gram)
    return sum(len(words[i]) for i in covered) / max(1, sum(map(len, words)))


def c4_sentences(text: str) -> int:
    """Sentences that begin in a line that C4 retains."""
    starts, _ = sentence_starts(pa.array([text], pa.large_string()))
    count, at, data = 0, 0, text.encode()
    for line in data.split(b"\n"):
        begin, end = at, at + len(line)
        at = end + 1
        said = line.decode()
        good = said.endswith(TERMINAL) and len(words_of(said)) >= 5
        good = good and not any(p in said.lower() for p in ("javascript", *POLICY))
        count += good * sum(begin <= s <= end for s in starts.tolist())
    return count


def naive(text: str, unspaced: bool) -> dict[str, Any]:
    """The figures of one normalised text, without language or form."""
    words = words_of(text)
    lines = [line for line in text.split("\n") if line.strip()]
    n, many = max(1, len(words)), max(1, len(lines))
    visible = [c for c in text if c not in " \n"]
    repeated, seen = [], set()
    for line in lines:
        key = tuple(words_of(line))
        repeated.append(key in seen)
        seen.add(key)
    step = 2 if unspaced else 1
    bullets = [bool(re.match(r"[•‣◦▪●■○∙·]|[-*–] ", line)) for line in lines]
    figures: dict[str, Any] = {
        "size_bytes": len(text.encode()),
        "letter_share": sum(len(c.encode()) for c in visible if ord(c) > 127 or c.isalpha())
        / max(1, sum(len(c.encode()) for c in visible)),
        "words": len(words),
        "mean_word_length": sum(map(len, words)) / n,
        "hash_ratio": text.count("#") / n,
        "ellipsis_ratio": (text.count("...") + text.count("…")) / n,
        "alphabetic_words": sum(any(unicodedata.category(c)[0] == "L" for c in w) for w in words) / n,
        "stop_words": len({w.lower() for w in words if w[1:] == w[1:].lower()} & STOP_WORDS),
        "lines": len(lines),
        "bullet_lines": sum(bullets) / many,
        "ellipsis_lines": sum(line.endswith(("…", "...")) for line in lines) / many,
        "terminal_lines": sum(line.endswith(TERMINAL) for line in lines) / many,
        "short_lines": sum(len(line) <= 30 for line in lines) / many,
        "list_ratio": text.count("\n") / n,
        "duplicate_lines": sum(repeated) / many,
        "duplicate_line_characters": sum(len(x) for x, r in zip(lines, repeated, strict=True) if r)
        / max(1, sum(map(len, lines))),
        "c4_sentences": c4_sentences(text),
        "curly_brackets": text.count("{") + text.count("}"),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
    }
    figures |= {f"top_{k}_grams": top(words, k * step) for k in (2, 3, 4)}
    return figures | {f"duplicate_{k}_grams": duplicate(words, k * step) for k in range(5, 11)}
