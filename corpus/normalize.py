"""One spelling for one text: newlines, spaces, composed letters, nothing invisible.

    "Caf\\u0065\\u0301\\r\\n\\tis \\u00a0open\\ufeff\\n\\n"   ->   "Café\\nis open"

NFC, not NFKC: "ﬁ", "²" and full-width letters stay what the author wrote; a tokenizer may fold them, and the text is
kept once for all tokenizers. ZWJ and ZWNJ stay: Persian, Indic scripts and emoji need them.
"""

import re
import unicodedata

_NEWLINES = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
# controls, lone surrogates, soft hyphen, zero width space, marks of direction, BOM, U+FFFD, noncharacters
_HIDDEN = (
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\uffff\ufdd0-\ufdef\ud800-\udfff"
)
_INVISIBLE = re.compile(f"[{_HIDDEN}]")
# Anything but a blank and a line feed that one of the rules could change: most texts have none, and one search says so.
_RARE = re.compile(rf"[{_HIDDEN}\t\r\v\f\x1c-\x1e\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BLANK_LINES = re.compile(r"\n[ \n]+")


def normalize(text: str) -> str:
    """The normal form. Idempotent; `normalize(a) == normalize(b)` is what "the same text" means here."""
    if _RARE.search(text):
        text = _INVISIBLE.sub("", _NEWLINES.sub("\n", text))
        text = _SPACES.sub(" ", text if text.isascii() else unicodedata.normalize("NFC", text))
    else:
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        while "  " in text:
            text = text.replace("  ", " ")
    text = text.replace(" \n", "\n")
    if "\n\n" in text or "\n " in text:
        text = _BLANK_LINES.sub("\n", text)
    return text.strip(" \n")


def unwrap(text: str) -> str:
    """Join hard-wrapped lines: a blank line ends a paragraph, any other line break is a space.

    For plain text that was wrapped at a fixed width (books, mails), before `normalize`.
    """
    paragraphs = re.split(r"\n[^\S\n]*\n\s*", _NEWLINES.sub("\n", text))
    return "\n".join(" ".join(p.split("\n")) for p in paragraphs)
