"""Encodings by a stated policy, lines of any length in bounded memory, numbers that stay true."""

import io
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.reading import decode, open_text
from corpus.sources.source import fingerprint
from tests.corpus.source_kit import at_most, one_way


def lines(data: bytes, limit: int = 1000) -> tuple[list[tuple[int, bytes]], Counter[str]]:
    dropped: Counter[str] = Counter()
    reader = open_text(io.BytesIO(data), "a", dropped, limit)
    return list(reader.lines()) if reader else [], dropped


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\n\0\ufeff", exclude_categories=["Cs"]), max_size=20))
)
def test_lines_are_numbered_as_an_editor_numbers_them(parts: list[str]) -> None:
    text = "\n".join(["x", *parts])
    found, dropped = lines(text.encode())
    assert [line.decode() for _, line in found] == (text[:-1] if text.endswith("\n") else text).split("\n")
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert not dropped


def test_a_line_over_the_limit_is_skipped_to_its_end_counted_and_leaves_its_number() -> None:
    data = b"one\n" + b"x" * 1001 + b"\nthree\n" + b"y" * 5_000_000 + b"\nfive\n" + b"z" * 1000 + b"\nseven"
    found, dropped = lines(data)
    assert found == [
        (1, b"one"),
        (2, b""),
        (3, b"three"),
        (4, b""),
        (5, b"five"),
        (6, b"z" * 1000),
        (7, b"seven"),
    ]
    assert dropped == Counter(too_long=2)
    assert lines(b"ok\n" + b"x" * 3_000_000) == ([(1, b"ok"), (2, b"")], Counter(too_long=1))


def test_a_line_of_64_megabytes_is_never_held() -> None:
    dropped: Counter[str] = Counter()
    blocks = (b"word " * 52_429 for _ in range(256))
    with at_most(24):
        reader = open_text(one_way([*[b"first\n"], *()]), "a", dropped)
        assert reader is not None
        reader = open_text(one_way(_joined(b"first\n", blocks, b"\nlast")), "a", dropped, 4 << 20)
        assert reader is not None
        assert list(reader.lines()) == [(1, b"first"), (2, b""), (3, b"last")]
    assert dropped == Counter(too_long=1)


def _joined(first: bytes, blocks: object, last: bytes) -> object:
    yield first
    yield from blocks  # type: ignore[misc]
    yield last


@pytest.mark.parametrize(
    ("data", "text", "counted"),
    [
        (b"\xef\xbb\xbfHello.", "Hello.", {}),
        ("Hello.".encode("utf-16"), "Hello.", {}),
        ("Hé, 你好 🙂.".encode("utf-16-be"), None, {"binary": 1}),
        (b"\xfe\xff" + "Hé, 你好 🙂.".encode("utf-16-be"), "Hé, 你好 🙂.", {}),
        ("Hé, 你好 🙂.".encode("utf-32"), "Hé, 你好 🙂.", {}),
        (b" \n\t\r\n", None, {"empty": 1}),
        (b"", None, {"empty": 1}),
        (b"\x89PNG\0\0", None, {"binary": 1}),
        ("né à l'été".encode("latin-1"), None, {"not_utf8": 1}),
        ("汉字文本的编码".encode("gbk"), None, {"not_utf8": 1}),
        (
            b"A long enough text " * 20 + b"\xff.",
            "A long enough text " * 20 + "\ufffd.",
            {"repaired_utf8": 1},
        ),
        ("🙂".encode(), "🙂", {}),
        ("שלום עליכם e\u0301 \u202eabc".encode(), "שלום עליכם e\u0301 \u202eabc", {}),
        ("a \ufffd is what the author wrote".encode(), "a \ufffd is what the author wrote", {}),
    ],
)
def test_a_file_of_one_document_follows_the_policy(
    data: bytes, text: str | None, counted: dict[str, int]
) -> None:
    dropped: Counter[str] = Counter()
    assert decode(data, dropped) == text
    assert dropped == Counter(counted)


def test_of_a_file_that_mixes_encodings_the_utf8_documents_are_kept() -> None:
    dropped: Counter[str] = Counter()
    data = "\n".join(["déjà vu"] * 50).encode() + b"\n" + "\n".join(["d\xe9j\xe0 vu"] * 50).encode("latin-1")
    reader = open_text(io.BytesIO(data), "a", dropped)
    assert reader is not None
    texts = [reader.text(line) for _, line in reader.lines()]
    assert texts == ["déjà vu"] * 50 + [None] * 50
    assert dropped == Counter(not_utf8=50)


def test_a_file_that_turns_bad_after_its_first_megabyte_loses_only_what_is_bad() -> None:
    dropped: Counter[str] = Counter()
    good, light, heavy = "É" + "word " * 40, "\xc9" + "word " * 40, "\xc9t\xe9 " * 20
    parts = (
        [f"{good}\n".encode()] * 8000
        + [f"{light}\n{heavy}\n".encode("latin-1")] * 1000
        + [f"{good}\n".encode()]
    )
    reader = open_text(io.BytesIO(b"".join(parts)), "a", dropped)
    assert reader is not None
    texts = [reader.text(line) for _, line in reader.lines()]
    assert all(texts[:8000])
    assert texts[-1] == good
    assert not any(texts[8001:-1:2]), "more than 1 % of the document itself is bad"
    repaired = [text is not None for text in texts[8000:-1:2]]
    assert repaired == sorted(repaired, reverse=True), (
        "repaired until 1 % of all so far was bad, then dropped"
    )
    assert dropped == Counter(repaired_utf8=sum(repaired), not_utf8=2000 - sum(repaired))
    assert 100 < sum(repaired) < 900


def test_nuls_within_text_are_for_the_normaliser() -> None:
    dropped: Counter[str] = Counter()
    assert decode(b"w" * 9000 + b"\0", dropped) == "w" * 9000 + "\0"
    assert not dropped


def test_a_fingerprint_is_the_content_and_nothing_else() -> None:
    assert fingerprint(one_way([b"ab", b"c"])) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # FIPS 180-2, appendix B.1
        3,
    )
