"""CoNLL-U treebanks (Universal Dependencies) as running text.

    # newdoc id = d1              a document begins (in files without it, every `sentences_per_document` sentences)
    # newpar                      a paragraph begins
    # text = It works.            the sentence; without it, it is put together from the words and their SpaceAfter=No
    1   It   it   PRON ...

Sentences are joined by a space, and without one where the last word says SpaceAfter=No, as Chinese and Japanese do.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from corpus.sources.folder import FolderSource, with_compression
from corpus.sources.reading import open_text
from corpus.sources.source import Found

COLUMNS = 10


@dataclass(frozen=True, kw_only=True)
class ConllU(FolderSource):
    """One document per `# newdoc`; a position is the line of the document's first sentence."""

    sentences_per_document: int = 20
    patterns: tuple[str, ...] = field(default=with_compression(".conllu", ".conll"), compare=False)
    name: str = "conllu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sentences_per_document < 1:
            raise ValueError(
                f"sentences_per_document of source {self.name!r} is {self.sentences_per_document}; it must be 1 or more"
            )

    def documents(self, name: str, stream: BinaryIO, dropped: Counter[str]) -> Iterator[Found]:
        open_document = _Document(name)
        divided = False  # the file says itself where documents begin
        for number, lines in self._sentences(name, stream, dropped):
            sentence = _Sentence(lines, dropped)
            divided |= sentence.new_document is not None
            full = not divided and open_document.count >= self.sentences_per_document
            if sentence.new_document is not None or full or open_document.size > self.max_document_bytes:
                yield from open_document.found()
                open_document = _Document(name, sentence.new_document or "")
            open_document.add(sentence, number)
        yield from open_document.found()

    def _sentences(
        self, name: str, stream: BinaryIO, dropped: Counter[str]
    ) -> Iterator[tuple[int, list[str]]]:
        """(first line, lines) between blank lines; one that holds a line no encoding rule lets through is left out."""
        reader = open_text(stream, self.label(name), dropped, self.max_document_bytes)
        lines: list[str] = []
        size = first = 0
        if reader is None:
            return
        for number, line in reader.lines():
            if line.strip():
                first = first or number
                size += len(line)
                if size <= self.max_document_bytes and (text := reader.text(line.rstrip(b"\r"))) is not None:
                    lines.append(text)
                continue
            if size > self.max_document_bytes:
                dropped["too_long"] += 1
            elif lines:
                yield first, lines
            lines, size, first = [], 0, 0
        if lines and size <= self.max_document_bytes:
            yield first, lines


class _Sentence:
    def __init__(self, lines: list[str], dropped: Counter[str]) -> None:
        self.new_document: str | None = None  # its id, or ""
        self.new_paragraph = False
        self.text = ""
        words: list[list[str]] = []
        for line in lines:
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                match key.split():
                    case ["text"]:
                        self.text = value.strip()
                    case ["newdoc", *_]:
                        self.new_document = value.strip()
                    case ["newpar", *_]:
                        self.new_paragraph = True
            elif line.count("\t") == COLUMNS - 1:
                words.append(line.split("\t"))
            else:
                dropped["bad_line"] += 1
        surface = _surface(words)
        self.text = self.text or "".join(surface).strip()
        self.spaced = not surface or surface[-1].endswith(" ")
        if not self.text:
            dropped["empty"] += 1


def _surface(words: list[list[str]]) -> list[str]:
    """Words as written, each with the space after it: of "2-3 du", "2 de", "3 le" only the first; no empty nodes."""
    out, covered = [], 0
    for number, form, *_, misc in words:
        first, dash, last = number.partition("-")
        if "." in number or (not dash and first.isdigit() and int(first) <= covered):
            continue
        covered = int(last) if dash and last.isdigit() else covered
        out.append(form if "SpaceAfter=No" in misc.split("|") else form + " ")
    return out


class _Document:
    def __init__(self, name: str, title: str = "") -> None:
        self._name, self._title = name, title
        self._parts: list[str] = []
        self._spaced = True
        self._position = self.count = self.size = 0

    def add(self, sentence: _Sentence, line: int) -> None:
        if not sentence.text:
            return
        if not self._parts:
            self._position = line
        else:
            self._parts.append("\n" if sentence.new_paragraph else " " if self._spaced else "")
        self._parts.append(sentence.text)
        self._spaced = sentence.spaced
        self.count += 1
        self.size += len(sentence.text.encode("utf-8", "replace"))

    def found(self) -> Iterator[Found]:
        if self._parts:
            yield Found(self._title or f"{self._name}:{self._position}", self._position, "".join(self._parts))
