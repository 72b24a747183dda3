"""One spelling for one text: newlines, spaces, composed letters, nothing invisible.

    "Caf\\u0065\\u0301\\r\\n\\tis \\u00a0open\\ufeff\\n\\n"   ->   "Café\\nis open"

NFC, not NFKC: "ﬁ", "²" and full-width letters stay what the author wrote; a tokenizer may fold them, and the text is
kept once for all tokenizers. ZWJ and ZWNJ stay: Persian, Indic scripts and emoji need them.
"""

import re
import unicodedata

_NEWLINES = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(  # controls, lone surrogates, soft hyphen, zero width space, marks of direction, BOM, U+FFFD, noncharacters
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\uffff\ufdd0-\ufdef\ud800-\udfff]"
)
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BREAKS = re.compile(r" *\n[ \n]*")


def normalize(text: str) -> str:
    """The normal form. Idempotent; `normalize(a) == normalize(b)` is what "the same text" means here."""
    text = _INVISIBLE.sub("", _NEWLINES.sub("\n", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return _BREAKS.sub("\n", _SPACES.sub(" ", text)).strip(" \n")


def unwrap(text: str) -> str:
    """Join hard-wrapped lines: a blank line ends a paragraph, any other line break is a space.

    For plain text that was wrapped at a fixed width (books, mails), before `normalize`.
    """
    paragraphs = re.split(r"\n[^\S\n]*\n\s*", _NEWLINES.sub("\n", text))
    return "\n".join(" ".join(p.split("\n")) for p in paragraphs)
