"""Pages and crawls: the main text with its paragraphs, in the encoding the page is in, one record after the other."""

import bz2
import gzip
import io
import re
from collections import Counter

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from corpus.sources.html_pages import Html
from corpus.sources.warc import Warc
from tests.corpus.source_kit import one_way, read_broken, read_bytes

HTML = Html(folder=".")
WARC = Warc(folder=".")
SENTENCE = "This sentence stands in the main part of the page and goes on for a while. "


def page(body: str = "", title: str = "A title &amp; more", head: str = "", lang: str = "") -> str:
    return f"""<!doctype html><html{lang}><head>{head}<title>{title}</title><script>var x = "code";</script>
    <style>p {{color: red}}</style></head><body><nav><a href="/">Home</a> <a href="/x">Elsewhere</a></nav>
    <main><h1>Headline</h1><p>First. {SENTENCE * 3}</p><p>Second &eacute;. {body}{SENTENCE * 3}</p></main>
    <footer>All rights reserved by nobody</footer></body></html>"""


def test_the_main_text_comes_out_in_paragraphs_without_what_surrounds_it() -> None:
    found, dropped = read_bytes(HTML, "a.html", page(lang=' lang="en-GB"').encode())
    assert [(d.title, d.position, d.language) for d in found] == [("A title & more", 1, "en")]
    lines = [line for line in found[0].text.split("\n") if line.strip()]
    assert [line[:10].strip() for line in lines] == ["Headline", "First. Thi", "Second é."]
    assert not dropped
    every, _ = read_bytes(Html(folder=".", main_content=False), "a.html", page().encode())
    assert "All rights reserved" in every[0].text
    assert "var x" not in every[0].text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (page("Größe").encode(), "Größe"),
        (page("Größe", head='<meta charset="iso-8859-1">').encode("latin-1"), "Größe"),
        (page("Größe", head='<meta charset="iso-8859-1">').encode(), "Größe"),  # wrong about itself
        (
            page(
                "汉字文本", head='<meta http-equiv="Content-Type" content="text/html; charset=gb2312">'
            ).encode("gbk"),
            "汉字文本",
        ),
        (page("Ελλάδα").encode("utf-16"), "Ελλάδα"),
        (page("日本語", head="<meta charset=Shift_JIS>").encode("shift_jis"), "日本語"),
        (page("سلام 🙂 e\u0301").encode(), "سلام 🙂 e\u0301"),
    ],
)
def test_a_page_is_read_in_the_encoding_it_is_in(data: bytes, text: str) -> None:
    found, dropped = read_bytes(HTML, "a.html", data)
    assert text in found[0].text
    assert not dropped


def test_pages_that_give_no_text_are_counted() -> None:
    assert read_bytes(HTML, "a.html", b"") == ([], Counter(empty=1))
    assert read_bytes(HTML, "a.html", b"<html><script>x</script></html>") == ([], Counter(no_main_text=1))
    assert read_bytes(HTML, "a.html", "<p>déjà été né".encode("latin-1")) == ([], Counter(not_utf8=1))
    assert read_bytes(HTML, "a.html", b"<p>\0\0\0") == ([], Counter(binary=1))
    assert read_bytes(Html(folder=".", max_document_bytes=100), "a.html", b"x" * 101) == (
        [],
        Counter(too_long=1),
    )
    deep = b"<div><br><p>Words." * 100_000 + b"</div>" * 100_000
    assert read_bytes(HTML, "a.html", deep) == ([], Counter(too_deep=1)), "minutes, if extracted"
    assert not read_bytes(HTML, "a.html", b"<div><li>Words of a list." * 500 + b"<p>Words<br>here" * 20_000)[
        1
    ]
    assert len(read_broken(HTML, "a.html.bz2", bz2.compress(page().encode())[:-5])[0]) == 0


class Writer(WARCWriter):
    """warcio's, without the temporary files it leaves open."""

    _create_temp_file = staticmethod(io.BytesIO)


def record(
    writer: WARCWriter,
    number: int,
    body: bytes,
    kind: str = "text/html; charset=utf-8",
    status: str = "200 OK",
    **headers: str,
) -> None:
    encoding = [("Content-Encoding", "gzip")] if headers.pop("encoded", "") else []
    http = StatusAndHeaders(status, [("Content-Type", kind), *encoding], protocol="HTTP/1.1")
    writer.write_record(
        writer.create_warc_record(
            f"http://example.org/{number}",
            "response",
            payload=io.BytesIO(gzip.compress(body) if encoding else body),
            http_headers=http,
            warc_headers_dict={key.replace("_", "-"): value for key, value in headers.items()},
        )
    )


def crawl(*, compressed: bool) -> bytes:
    sink = io.BytesIO()
    writer = Writer(sink, gzip=compressed)
    writer.write_record(writer.create_warcinfo_record("crawl.warc.gz", {"software": "test"}))
    for number in range(2, 12):
        record(writer, number, page(f"Number {number}. ").encode())
    record(writer, 12, b"%PDF", kind="application/pdf")
    record(writer, 13, page().encode(), status="404 Not Found")
    record(writer, 14, page("Cut. ").encode(), WARC_Truncated="length")
    record(writer, 15, page("Größe. ").encode("latin-1"), kind="text/html; charset=ISO-8859-1")
    record(writer, 16, page("Packed. ").encode(), encoded="yes")
    writer.write_record(
        writer.create_warc_record(
            "http://example.org/17",
            "conversion",
            payload=io.BytesIO("Plain text, as in WET files. é\n".encode()),
            warc_content_type="text/plain",
        )
    )
    return sink.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_crawl_gives_its_pages_by_record(compressed: bool) -> None:
    data = crawl(compressed=compressed)
    found, dropped = read_bytes(WARC, "a.warc.gz", data)
    assert [d.position for d in found] == [*range(2, 12), 14, 15, 16, 17]
    assert [d.title for d in found] == [f"http://example.org/{d.position}" for d in found]
    assert all(f"Number {d.position}. " in d.text for d in found[:10])
    assert "Größe" in found[11].text
    assert "Packed" in found[12].text
    assert found[13].text == "Plain text, as in WET files. é\n"
    assert dropped == Counter(not_html=1, http_error=1, truncated_record=1)
    counted: Counter[str] = Counter()
    assert list(WARC.documents("a.warc.gz", one_way([data], most=999), counted)) == found
    assert counted == dropped


@pytest.mark.parametrize("compressed", [True, False])
def test_a_crawl_that_breaks_off_keeps_its_whole_records(compressed: bool) -> None:
    data = crawl(compressed=compressed)
    every, _ = read_bytes(WARC, "a.warc", data)
    counts = []
    for cut in (len(data) // 4, len(data) // 2, len(data) - 40):
        found, error = read_broken(WARC, "a.warc", data[:cut])
        assert found == every[: len(found)]
        assert "a.warc of source 'warc' breaks off" in error
        assert "replace the file with a whole copy" in error
        assert "\n" not in error
        counts.append(len(found))
    assert 0 < counts[0] < counts[1] < counts[2] == len(every) - 1


def test_something_else_than_a_crawl_is_one_sentence() -> None:
    found, error = read_broken(WARC, "a.warc", b"This is no archive at all.\r\n" * 20)
    assert not found
    assert "is damaged after record 0, for it begins like no WARC archive" in error
    assert read_bytes(WARC, "a.warc", b"") == ([], Counter(empty=1))


def test_a_record_over_the_limit_is_passed_over() -> None:
    found, dropped = read_bytes(Warc(folder=".", max_document_bytes=100), "a.warc", crawl(compressed=True))
    assert [d.position for d in found] == [17]
    assert dropped["too_long"] == 14


def test_a_record_whose_length_is_wrong_costs_itself() -> None:
    data = crawl(compressed=False)
    every, _ = read_bytes(WARC, "a.warc", data)
    lengths = list(re.finditer(rb"Content-Length: (\d+)", data))
    for wrong in (b"Content-Length: 300", b"Content-Length: -1", b"Content-Size: 1"):
        cut = lengths[3]
        found, dropped = read_bytes(WARC, "a.warc", data[: cut.start()] + wrong + data[cut.end() :])
        assert found == [d for d in every if d.position != 4]
        assert dropped["damaged_record"] == 1
