"""One spelling for one text."""

import re
import sys
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.normalize import _INVISIBLE, _RARE, normalize, unwrap


def test_newlines_spaces_and_invisible_characters_have_one_form() -> None:
    assert normalize("Cafe\u0301\r\n\t is \u00a0open\ufeff\u200b\n \n\n") == "Café\nis open"
    assert normalize("a\u2028b\x85c\x0cd\re") == "a\nb\nc\nd\ne"
    assert normalize("soft\u00adhyphen \x00nul \ud800surrogate \ufffdbad") == "softhyphen nul surrogate bad"


def test_joiners_that_carry_meaning_stay() -> None:
    for text in ("می\u200cخواهم", "👩\u200d🔬", "क्\u200dष", "ﬁ ² ｗｉｄｅ"):
        assert normalize(text) == text


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_normalising_twice_is_normalising_once_and_the_result_is_utf8(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    once.encode()
    assert "\n\n" not in once
    assert "  " not in once
    assert once == once.strip()


def test_unwrap_joins_lines_and_keeps_paragraphs() -> None:
    assert (
        unwrap("One line\r\nof many.\r\n \r\n\r\nAnother\nparagraph.")
        == "One line of many.\nAnother paragraph."
    )


def plainly(text: str) -> str:
    """The rules one after the other, as they are said."""
    text = re.sub("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    text = "".join(c for c in text if not _INVISIBLE.match(c))
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r" *\n[ \n]*", "\n", text).strip(" \n")


BLANKS = st.sampled_from(
    ["\n", " ", "  ", "\t", " \n", "\n ", "\r\n", "\u3000", "\xa0", "a", "é", "e\u0301", "\u200b"]
)


@settings(deadline=None, max_examples=500)
@given(st.one_of(st.text(st.characters(codec=None)), st.lists(BLANKS).map("".join)))
def test_the_short_cuts_change_nothing(text: str) -> None:
    assert normalize(text) == plainly(text)


def test_no_kind_of_space_escapes_the_first_look() -> None:
    spaces = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace() and chr(c) not in " \n"]
    assert all(_RARE.match(c) for c in spaces)
    assert len(spaces) > 20
