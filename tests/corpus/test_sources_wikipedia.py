"""Dumps of Wikipedia: articles as a reader sees them, one after the other, wherever the dump breaks off."""

import bz2
import io
from collections import Counter
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from corpus.sources.wikipedia import Wikipedia
from corpus.sources.wikitext import plain
from tests.corpus.source_kit import at_most, one_way, read_broken, read_bytes

SOURCE = Wikipedia(folder=".")
HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de">
  <siteinfo><sitename>Wikipedia</sitename><namespaces><namespace key="0" case="first-letter" />
    <namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace></namespaces></siteinfo>
"""


def page(title: str, text: str, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return f"""  <page>
    <title>{escape(title)}</title>
    <ns>{ns}</ns>
    <id>1</id>{extra}
    <revision><model>{model}</model><text bytes="9" xml:space="preserve">{escape(text)}</text></revision>
  </page>
"""


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>\n").encode()


def test_articles_come_out_with_title_line_and_language_and_others_are_counted() -> None:
    data = dump(
        page(
            "Ada & Co.",
            "'''Ada''' war eine [[Mathematik|Mathematikerin]].\n\n[[Datei:A.jpg|mini|Bild]]\n[[Kategorie:X]]",
        ),
        page("Diskussion:Ada", "Gerede.", ns=1),
        page("Lovelace", "#WEITERLEITUNG [[Ada]]", extra='<redirect title="Ada" />'),
        page("Leer", "{{Vorlage}}"),
        page("Code", "local x", model="Scribunto"),
        page("Zuletzt", "Noch ein Artikel."),
    )
    found, dropped = read_bytes(SOURCE, "dewiki.xml", data)
    assert [(d.title, d.text, d.language) for d in found] == [
        ("Ada & Co.", "Ada war eine Mathematikerin.", "de"),
        ("Zuletzt", "Noch ein Artikel.", "de"),
    ]
    lines = data.decode().split("\n")
    for document in found:
        assert lines[document.position - 1] == "  <page>"
        assert escape(document.title) in lines[document.position]
    assert dropped == Counter(other_namespace=1, redirect=1, empty=1, not_wikitext=1)
    assert read_bytes(Wikipedia(folder=".", language="als"), "a.xml", data)[0][0].language == ""


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("A [[b]] and [[c|d ''e'']] and [[:Category:F]].", "A b and d e and Category:F."),
        ("It is.<ref name=x>No {{cite}}</ref> So.<ref name=y/>", "It is. So."),
        ("Before.\n{| class=x\n! a !! b\n|-\n| 1 || 2\n|}\nAfter.", "Before.\nAfter."),
        ("== Life ==\nBorn.\n=== ''Early'' ===\nWent.", "Life\nBorn.\nEarly\nWent."),
        ("* one\n* two ''b''\n# three\n: four", "one\ntwo b\nthree\nfour"),
        (
            "[[File:a.jpg|thumb|A [[nested]] caption]] Text.\n[[Category:X|y]]\n[[de:Text]] [[zh-min-nan:T]]",
            "Text.",
        ),
        ("H<sub>2</sub>O, <math>x^2</math> &nbsp;and &amp; x<!-- no -->.", "H2O, and & x."),
        ("He ({{lang|fr|x}}; , ) said [http://x.org so] [http://y.org].", "He said so ."),
        ("-{zh-hans:简体;zh-hant:繁體}-和-{字}-。 __NOTOC__", "简体和字。"),
        ("A<br/>B\n<gallery>\nFile:a.jpg|c\n</gallery>\n<nowiki>[[x]]</nowiki>", "A\nB\n[[x]]"),
        ("عربي '''غامق''' [[ربط|رابط]] 🙂", "عربي غامق رابط 🙂"),
        ("{{unclosed\n\nText '''stays.", "{{unclosed\nText '''stays."),
        ("", ""),
    ],
)
def test_wikitext_becomes_what_a_reader_sees(wikitext: str, text: str) -> None:
    assert plain(wikitext) == text


def test_the_same_articles_as_a_whole_tree_would_give_also_from_a_multistream_dump() -> None:
    pages = [
        page(f"Titel {i}", f"Artikel Nummer {i}.\n\nEr hat zwei Absätze & <nichts> sonst.")
        for i in range(300)
    ]
    data = dump(*pages)
    tree = ElementTree.parse(io.BytesIO(data))
    expected = [node.text for node in tree.iter("{http://www.mediawiki.org/xml/export-0.11/}title")]
    streams = b"".join(bz2.compress(data[i : i + 7000]) for i in range(0, len(data), 7000))
    found, dropped = read_bytes(SOURCE, "a.xml.bz2", streams)
    assert [d.title for d in found] == expected
    assert not dropped


def test_a_dump_that_breaks_off_keeps_its_whole_articles() -> None:
    data = dump(*[page(f"Titel {i}", f"Artikel Nummer {i}.") for i in range(3000)])
    every, _ = read_bytes(SOURCE, "a.xml", data)
    found, error = read_broken(SOURCE, "a.xml", data[: len(data) // 2])
    assert 1400 < len(found) < 1600
    assert found == every[: len(found)]
    assert "a.xml of source 'wikipedia' breaks off or is damaged at line" in error
    packed = bz2.compress(data, 1)
    found, error = read_broken(SOURCE, "a.xml.bz2", packed[: len(packed) - 4])
    assert len(found) > 1000
    assert found == every[: len(found)]
    assert "breaks off inside its bzip2 data" in error
    found, error = read_broken(SOURCE, "a.xml", data.replace(b"<title>Titel 2000", b"<title>\x01 2000"))
    assert len(found) == 2000


def test_other_xml_and_nothing_are_counted() -> None:
    assert read_bytes(SOURCE, "a.xml", b"<html><p>Text</p></html>") == ([], Counter(not_mediawiki=1))
    assert read_bytes(SOURCE, "a.xml", b"no xml at all") == ([], Counter(not_mediawiki=1))
    assert read_bytes(SOURCE, "a.xml", b"  ") == ([], Counter(empty=1))


def test_an_article_of_64_megabytes_costs_no_memory() -> None:
    first, last = page("Kurz", "Ein Artikel."), page("Auch kurz", "Noch einer.")
    before, _, after = page("Lang", "@").partition("@")
    blocks = [
        (HEAD + first + before).encode(),
        *[b"wort\n" * 52_429] * 256,
        (after + last + "</mediawiki>").encode(),
    ]
    dropped: Counter[str] = Counter()
    with at_most(20):
        source = Wikipedia(folder=".", max_document_bytes=4 << 20)
        found = list(source.documents("a.xml", one_way(iter(blocks)), dropped))
    assert [d.title for d in found] == ["Kurz", "Auch kurz"]
    assert dropped == Counter(too_long=1)
