"""One text made fit to keep: broken encodings repaired, then the normal form, then personal data masked.

    repair   "schÃ¶n", "â€œyesâ€\\x9d"   ->  "schön", "“yes”"     text that was decoded with the wrong table (ftfy)
    normal   corpus/normalize.py
    mask     "write to anna@host.org"  ->  "write to <EMAIL>"  corpus/pii.py, on the normal form, so that one spelling is looked for

Repair works line by line: a line is broken or not, and one that mixes both is left as it is. A line is only looked at
closely if it holds a character that misread UTF-8 begins with, so clean text costs one search.
"""

import re
from collections import Counter
from dataclasses import dataclass

import ftfy
from ftfy.badness import is_bad

from corpus.normalize import normalize
from corpus.pii import Pii, mask_pii

# UTF-8 read with the wrong table: what a lead byte (C2-F4) becomes, then what a continuing byte (80-BF) becomes, in
# Latin-1 and the Windows tables; or a sign that only MacRoman or CP437 makes of a lead byte.
_SUSPECT = re.compile(
    r"[\xc2-\xf4\u0102-\u0180\u0390-\u03ce\u0410-\u044f]"
    r"[\x80-\xbf\u0104-\u0107\u0118-\u011b\u0139-\u0144\u0152-\u0165\u0178-\u0192\u02c6-\u02dd\u0384-\u038f\u0401-\u040f"
    r"\u0451-\u045f\u0490\u0491\u2013-\u2122]"
    r"|[\u2013\u2014\u221a\u2248\u201a\u0192\u2206\u251c\u252c\u0393][^\x00-\x7f]"
)


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """What to do to a text besides normalising it.

    `repair_unicode`: undo mojibake. `mask_pii`: the kinds of personal data to replace, e.g. corpus.pii.ALL.
    """

    repair_unicode: bool = False
    mask_pii: tuple[Pii, ...] = ()

    def __post_init__(self) -> None:
        kinds = [k.name for k in self.mask_pii]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"mask_pii names a kind twice ({', '.join(kinds)}); keep one of each")


def clean_text(config: CleanConfig, text: str, counts: Counter[str]) -> str:
    """The normal form of a raw text, repaired and masked as configured.

    Adds to counts: repaired_lines, and masked_<kind> per item that was replaced.
    """
    if config.repair_unicode:
        text = repair(text, counts)
    text = normalize(text)
    return mask_pii(config.mask_pii, text, counts) if config.mask_pii else text


def repair(text: str, counts: Counter[str]) -> str:
    """Undo mojibake line by line; clean text comes back as the same object."""
    if text.isascii() or not _SUSPECT.search(text):
        return text
    lines = text.split("\n")
    changed = 0
    for k, line in enumerate(lines):
        if not line.isascii() and _SUSPECT.search(line) and is_bad(line):
            fixed = ftfy.fix_encoding(line)
            changed += fixed != line
            lines[k] = fixed
    if not changed:
        return text
    counts["repaired_lines"] += changed
    return "\n".join(lines)
