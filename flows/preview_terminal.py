"""Instances in a terminal: hidden tokens in colour with what must be predicted below them.

    the  [MASK]  sat  on            red: hidden; yellow: another token; blue: kept, but asked for
         cat                        green, one line lower: the answer

Without colours (no terminal, NO_COLOR) a predicted place is written [MASK]{cat}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flows.corpus_terminal import line, terminal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console
    from rich.text import Text

    from corpus.corruption.describe import Piece, Strand
    from corpus.instances import InstanceShard

__all__ = ["print_instance", "terminal"]

STYLES = {"replaced": "bold red", "kept": "bold blue", "": ""}


def print_instance(
    console: Console,
    instances: InstanceShard,
    row: int,
    vocabulary: Sequence[str],
    *,
    title: str,
    losses: Iterator[float] | None = None,
) -> None:
    """One instance: its strands, then what is to be said of it. `losses` gives that of every target, in their order."""
    from corpus.corruption.describe import describe

    described = describe(instances, row, vocabulary)
    console.print(line(title, "bold"))
    for strand in described.strands:
        if len(described.strands) > 1:
            console.print(line(strand.name, "cyan"))
        if losses is not None:
            strand = replace(strand, pieces=tuple(_with_loss(piece, losses) for piece in strand.pieces))
        for text in _lines(strand, console.width, plain=not console.is_terminal or console.no_color):
            console.print(text)
    for name, mask in described.masks:
        console.print(line(name, "cyan"))
        for picture in mask_lines(mask):
            console.print(line(picture))
    for note in described.notes:
        console.print(line(note, "dim"))
    console.print()


def mask_lines(mask: npt.NDArray[np.bool_]) -> list[str]:
    """A mask as a picture, two rows to a line of text: seen is black, not seen is blank."""
    rows = mask.tolist()
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    blocks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return [
        "|" + "".join(blocks[pair] for pair in zip(*pair_of_rows, strict=True)) + "|"
        for pair_of_rows in zip(rows[::2], rows[1::2], strict=True)
    ]


def _with_loss(piece: Piece, losses: Iterator[float]) -> Piece:
    return piece if piece.answer is None else replace(piece, mark=f"{next(losses):.2f}")


def _lines(strand: Strand, width: int, *, plain: bool) -> list[Text]:
    """Rows of columns, one per token, as many as fit; each row is one to three lines."""
    columns = [_column(piece, strand.answers_are_next, plain) for piece in strand.pieces]
    rows: list[list[list[Text]]] = [[]]
    used = 0
    for column in columns:
        wide = max(text.cell_len for text in column) + 1
        if used + wide > width and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append(column)
        used += wide
    lines = []
    for row in rows:
        for level in range(max((len(column) for column in row), default=0)):
            text = line("")
            for column in row:
                size = max(part.cell_len for part in column) + 1
                part = column[level].copy() if level < len(column) else line("")
                part.pad_right(size - part.cell_len)
                text.append_text(part)
            if text.plain.strip():
                text.rstrip()
                lines.append(text)
    return lines


def _column(piece: Piece, answers_are_next: bool, plain: bool) -> list[Text]:
    answer = "" if piece.answer is None else f"→{piece.answer}" if answers_are_next else piece.answer
    if plain:
        mark = f"/{piece.mark}" if piece.mark else ""
        return [line(piece.read + (f"{{{answer}}}" if answer else "") + mark)]
    style = "" if answers_are_next else STYLES[piece.noise]
    return [line(piece.read, style), line(answer, "green"), line(piece.mark, "dim")]
