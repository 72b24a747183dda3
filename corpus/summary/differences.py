"""Two similar texts side by side: the stretch where they begin to differ, and what differs in it.

A word is compared as a whole; a character of a script without spaces is a word. Only an excerpt is compared, so the time
does not grow with the texts.
"""

import re
from difflib import SequenceMatcher

CONTEXT_CHARACTERS = 120  # of equal text before the first difference
LONGEST_WORD = 30
_UNITS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|\w+|\s+|.", re.DOTALL
)

Excerpt = tuple[str, int, int]  # text, characters left out before it, characters left out after it
Piece = tuple[str, bool]  # text, whether the other side lacks it


def excerpts(one: str, other: str, characters: int) -> tuple[Excerpt, Excerpt]:
    """At most `characters` of both texts, from a little before their first difference."""
    pairs = enumerate(zip(one, other, strict=False))
    equal = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(0, equal - CONTEXT_CHARACTERS)
    begin = min(begin, max(0, min(len(one), len(other)) - characters))  # near the end there is room before it
    for _ in range(LONGEST_WORD):
        if not begin or not one[begin - 1].isalnum():
            break
        begin -= 1  # to where the word begins
    return _cut(one, begin, characters), _cut(other, begin, characters)


def _cut(text: str, begin: int, characters: int) -> Excerpt:
    shown = text[begin : begin + characters]
    return shown, begin, len(text) - begin - len(shown)


def marked(one: str, other: str, *, open_end: bool = False) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, each piece equal in both or marked as different. With `open_end` the texts go on, so what
    lies after the last equal piece may be equal too and is not marked."""
    a, b = _UNITS.findall(one), _UNITS.findall(other)
    left: list[Piece] = []
    right: list[Piece] = []
    steps = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    for number, (tag, a1, a2, b1, b2) in enumerate(steps):
        differs = tag != "equal" and not (open_end and number == len(steps) - 1)
        for side, units in ((left, a[a1:a2]), (right, b[b1:b2])):
            if units:
                side.append(("".join(units), differs))
    return left, right
