"""One spelling for one text."""

from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.normalize import normalize, unwrap


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
