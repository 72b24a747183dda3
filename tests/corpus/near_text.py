"""Near duplicates by definition: shingles as Python sets of tuples, and texts edited to a wanted similarity."""

import random
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq

from corpus.document import Document, document_id, sort_documents, to_table, write_table
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder

WEIGHT = {"word": 16, "character": 10, "letter": 5}


def naive_units(text: str) -> list[tuple[str, int]]:
    """(unit, weight), one character at a time."""
    units: list[tuple[str, int]] = []
    word = ""
    for c in [*text, " "]:
        name = unicodedata.name(c, "")
        letter = unicodedata.category(c)[0] in "LMN"
        kind = None
        if letter and name.startswith(("CJK", "HIRAGANA", "KATAKANA")):
            kind = "character"
        elif letter and name.startswith(("THAI", "LAO", "KHMER", "MYANMAR")):
            kind = "letter"
        if letter and kind is None:
            word += c.casefold() if len(c.casefold()) == 1 else c
            continue
        if len(word) > 40:
            units += [(w, WEIGHT["letter"]) for w in word]
        elif word:
            units.append((word, WEIGHT["word"]))
        word = ""
        if kind is not None:
            units.append((c, WEIGHT[kind]))
    return units


def naive_shingles(text: str) -> set[tuple[str, ...]]:
    units = naive_units(text)
    found = set()
    for i in range(len(units)):
        weight = 0
        for j in range(i, len(units)):
            weight += units[j][1]
            if weight >= 80:
                found.add(tuple(u for u, _ in units[i : j + 1]))
                break
    return found or ({tuple(u for u, _ in units)} if units else set())


def naive_jaccard(a: str, b: str) -> float:
    one, two = naive_shingles(a), naive_shingles(b)
    return len(one & two) / max(1, len(one | two))


def edited(text: str, edits: int, rng: random.Random, spaced: bool) -> str:
    """The text with random words (characters in unspaced text) replaced by others of its own."""
    words = text.split(" ") if spaced else list(text)
    for at in rng.sample(range(len(words)), min(edits, len(words))):
        words[at] = rng.choice(words)[::-1] + ("x" if spaced else "")
    return (" " if spaced else "").join(words)


def texts_of(shared_data: Path, name: str, count: int, characters: int, skip: int = 0) -> list[str]:
    """Beginnings of real documents of at least that length."""
    column = pq.read_table(shared_data / f"{name}.parquet", columns=["text"]).column("text").to_pylist()
    return [t[:characters] for t in column if len(t) >= characters][skip : skip + count]


def document(text: str, file: str = "made.txt", position: int = 1, source: str = "made-up") -> Document:
    return Document(document_id(text), text, f"{file}:{position}", source, file, position, "und")


def artifact(store: Folder, parts: list[list[str]], name: str = "p") -> Artifact:
    """A documents artifact of the given texts, one list per part, each sorted as parts are."""

    def made_up_documents(config: dict[str, object], *, out: Output) -> Counts:
        for i, part in enumerate(parts):
            with out.writer(f"{name}{i:03d}.parquet") as path:
                write_table(path, to_table(sort_documents([document(t) for t in part])))
        return {"kept": sum(map(len, parts))}

    return run_step(made_up_documents, {"parts": parts, "name": name}, store=store)
