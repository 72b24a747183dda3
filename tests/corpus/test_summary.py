"""The numbers of a report are those that counting one by one gives, and no text can escape from its page."""

import itertools
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.document import document_id, partition_files, read_documents
from corpus.rows import part_of, read_rows
from corpus.sources.text_files import TextFiles
from corpus.summary.differences import CONTEXT_CHARACTERS, excerpts, marked
from corpus.summary.find import find_prefix, read_places
from corpus.summary.markup import Markup, el, size, text
from corpus.summary.measure import LENGTHS, MEASURED, SummaryConfig, histogram, merge
from corpus.summary.page import POLICY, PageConfig, page, report_page
from corpus.summary.summarize import log_spaced
from corpus.vocabulary.counts import COUNTS_FILE, read_counts
from infra.storage import Folder, open_folder
from tests.corpus.summary_kit import (
    HOSTILE,
    SmallCorpus,
    edited,
    kept_documents,
    note,
    two_generations,
    write_lines,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallCorpus:
    root = tmp_path_factory.mktemp("corpus")
    return two_generations(root, open_folder(root / "store"))


@pytest.fixture(scope="module")
def summary(made: SmallCorpus) -> dict:
    return made.summary().read_json("summary.json")


def test_sizes_are_those_of_the_kept_documents_counted_one_by_one(made: SmallCorpus, summary: dict) -> None:
    documents = kept_documents(made)
    assert len(documents) > 70
    tokenizer = Tokenizer.from_file(str(made.vocabulary.path("tokenizer.json")))
    encoded = [tokenizer.encode(d.text, add_special_tokens=False) for d in documents]
    assert summary["totals"]["documents"] == len(documents)
    assert summary["totals"]["bytes"] == sum(len(d.text.encode()) for d in documents)
    assert summary["totals"]["tokens"] == sum(len(e.ids) for e in encoded)
    unknown = sum(e.tokens.count("[UNK]") for e in encoded)
    assert summary["totals"]["unknown"] == unknown > 0
    for row in summary["sources"]:
        mine = [n for n, d in enumerate(documents) if d.source == row["name"]]
        assert row["documents"] == len(mine)
        assert row["tokens"] == sum(len(encoded[n].ids) for n in mine)
    for key in ("documents", "bytes", "sentences", "words", "tokens", "training_tokens"):
        assert sum(r[key] for r in summary["languages"]) == summary["totals"][key]
        assert sum(r["new"][key] for r in summary["sources"]) == summary["generations"][-1][key]
    assert summary["totals"]["words"] <= summary["totals"]["tokens"]
    assert {"zh"} <= {r["name"] for r in summary["languages"]}
    lengths = Counter(len(d.text.encode()).bit_length() for d in documents)
    assert {n: c for n, c in enumerate(summary["lengths"]["bytes"]) if c} == lengths
    assert all(sum(summary["lengths"][name]) == len(documents) for name in LENGTHS)


def test_the_funnel_loses_nothing_between_two_stations(made: SmallCorpus, summary: dict) -> None:
    counts = summary["funnel"]
    repeated, near = summary["repeated"], summary["duplicates"]
    assert repeated == {"exact_duplicate": 2, "in_history": 1}
    assert counts["read"] - sum(repeated.values()) == counts["unique"]
    assert counts["unique"] - sum(r["count"] for r in summary["dropped"].values()) == counts["selected"]
    assert counts["selected"] - near["near_duplicate"] - near["contained"] == counts["near_unique"]
    assert counts["near_unique"] == counts["training"] + counts["held_out"] == len(kept_documents(made))
    assert counts["held_out"] > 0
    assert counts["training"] == summary["totals"]["training_documents"]


def test_dropped_samples_are_the_smallest_ids_of_their_rule(made: SmallCorpus, summary: dict) -> None:
    rule = summary["dropped"]["mostly_symbols"]
    texts = ["*** ---- ==== !!! " * 9, *("??? " * (20 + n) for n in range(8))]
    ids = sorted(document_id(t.strip()).hex() for t in texts)
    assert rule["count"] == 9
    assert [s["id"] for s in rule["samples"]] == ids[:5]
    assert summary["dropped"]["too_short"]["count"] == 1
    (short,) = summary["dropped"]["too_short"]["samples"]
    assert (short["text"], short["source"], short["file"], short["position"]) == (
        "tiny",
        "copies",
        "poor.jsonl",
        1,
    )


def test_pairs_show_both_texts_from_where_they_begin_to_differ(summary: dict) -> None:
    near = summary["duplicates"]
    assert near["near_duplicate"] == 13 == sum(near["similarity"])
    assert len(near["pairs"]) == 10
    assert [p["jaccard"] for p in near["pairs"]] == sorted(p["jaccard"] for p in near["pairs"])
    whole = {t for n in range(40, 60) for t in (note(n, 200), edited(note(n, 200), n))}
    for pair in near["pairs"]:
        for side in ("removed", "kept"):
            one = pair[side]
            (source,) = [t for t in whole if document_id(t).hex() == one["id"]]
            assert source[one["before"] : len(source) - one["after"]] == one["text"]
        left, right = marked(pair["removed"]["text"], pair["kept"]["text"], open_end=True)
        differing = [t for pieces in (left, right) for t, differs in pieces if differs]
        assert any("Änderung" in t for t in differing)
        assert sum(map(len, differing)) < 40


def test_the_second_generation_is_compared_with_the_first(made: SmallCorpus, summary: dict) -> None:
    change = summary["changes"]
    assert change["previous"] == 1
    assert change["read"] == [["notes", "c.jsonl"]]
    assert change["vanished"] == [["copies", "zh.jsonl"]]
    assert (change["documents"], change["in_history"], change["retired"]) == (15, 1, 1)
    assert {w["word"] for w in change["drift"]["new_words"]}.isdisjoint({"note", "river"})
    new = {r["name"]: r["new"]["documents"] for r in summary["sources"]}
    assert new == {"notes": 15, "copies": 0}


def test_an_older_generation_is_not_measured_again(made: SmallCorpus) -> None:
    first, second = made.measured()
    assert first.inputs["documents"].address == made.documents[0].address
    assert second.inputs["documents"].address == made.documents[1].address
    made_at = [m.manifest.made["at"] for m in (first, second)]
    assert [m.manifest.made["at"] for m in made.measured()] == made_at
    merged = merge([m.read_json(MEASURED) for m in (first, second)], 5)
    assert merged == merge([m.read_json(MEASURED) for m in (second, first)], 5)


def test_equal_text_gives_equal_bytes(made: SmallCorpus, tmp_path: Path) -> None:
    again = two_generations(tmp_path, open_folder(tmp_path / "store"))
    one, other = made.summary(), again.summary()
    assert one.read("summary.json") == other.read("summary.json")
    pages = [
        m.step(report_page, PageConfig(), summary=s).read("report.html")
        for m, s in ((made, one), (again, other))
    ]
    assert pages[0] == pages[1]


def test_a_generation_that_only_lost_files_has_a_report(tmp_path: Path, store: Folder) -> None:
    write_lines(tmp_path / "text", "a.jsonl", [note(n) for n in range(30)])
    write_lines(tmp_path / "text", "b.jsonl", [note(n) for n in range(30, 40)])
    made = SmallCorpus(store, (TextFiles(folder=str(tmp_path / "text")),), retire_vanished=True).refresh()
    (tmp_path / "text" / "b.jsonl").unlink()
    found = made.refresh().summary().read_json("summary.json")
    assert (found["generation"]["generation"], found["generation"]["retired"]) == (2, 10)
    assert (found["changes"]["documents"], found["changes"]["files_read"]) == (0, 0)
    assert all(r["new"]["documents"] == 0 for r in found["sources"])
    shown = page("Report", found)
    assert "No document was dropped by a rule." in shown
    assert "No document was removed as a near duplicate." in shown


def test_shards_of_other_documents_are_refused(made: SmallCorpus) -> None:
    from corpus.summary.measure import measure_generation

    inputs = {n: getattr(made, n)[0] for n in ("documents", "attributes", "kept", "shards")}
    with pytest.raises(Exception, match="are not the kept documents of"):
        made.step(measure_generation, SummaryConfig(), **inputs, held_out=made.shards[0])


def test_the_curve_of_words_is_their_sorted_counts(made: SmallCorpus, summary: dict) -> None:
    counts = [r["count"] for r in read_counts(made.vocabulary.path(COUNTS_FILE)).to_pylist()]
    ranked = sorted(counts, reverse=True)
    found = summary["zipf"]
    assert found["words"] == sum(ranked)
    assert found["distinct"] == len(ranked)
    assert found["once"] == ranked.count(1)
    assert all(ranked[rank - 1] == count for rank, count in found["points"])
    assert found["points"][0][0] == 1
    assert found["points"][-1][0] == len(ranked)
    assert [c for _, c in found["top"]] == ranked[:20]


@given(st.integers(1, 10**7))
def test_ranks_are_log_spaced_from_first_to_last(count: int) -> None:
    ranks = log_spaced(count).tolist()
    assert ranks[0] == 1
    assert ranks[-1] == count
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(ranks))


@given(st.lists(st.integers(0, 2**50)))
def test_a_histogram_counts_binary_digits(values: list[int]) -> None:
    found = {n: c for n, c in enumerate(histogram(np.array(values, np.int64)).tolist()) if c}
    assert found == Counter(v.bit_length() for v in values)


TEXTS = st.text(st.sampled_from("ab 中国\n<>&\"'"), max_size=60)


@given(TEXTS, TEXTS, st.booleans())
def test_marked_pieces_are_the_whole_texts_and_unmarked_ones_are_equal(
    one: str, other: str, open_end: bool
) -> None:
    left, right = marked(one, other, open_end=open_end)
    assert "".join(t for t, _ in left) == one
    assert "".join(t for t, _ in right) == other
    if not open_end:
        assert "".join(t for t, d in left if not d) == "".join(t for t, d in right if not d)
        assert any(d for _, d in left + right) == (one != other)


@given(st.text("ab ", max_size=400), st.text("ab ", max_size=400), st.integers(1, 100))
def test_excerpts_are_stretches_of_both_texts_that_hold_the_difference(
    one: str, other: str, length: int
) -> None:
    for whole, (shown, before, after) in zip((one, other), excerpts(one, other, length), strict=True):
        assert whole[before : len(whole) - after] == shown
        assert len(shown) <= length
    if one != other and length > 2 * CONTEXT_CHARACTERS:
        assert excerpts(one, other, length)[0][0] != excerpts(one, other, length)[1][0]


class Page(HTMLParser):
    """Tags with attributes, and the text of a page as a browser would show it; checks that tags are closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def hostile(value: object) -> object:
    """The same summary, every string of it hostile."""
    if isinstance(value, dict):
        return {k: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return (
        f"\"'><script src=//bad.example></script>\x00\u202e</style><svg onload=x>{value}"
        if isinstance(value, str)
        else value
    )


def test_no_text_becomes_markup_and_nothing_is_loaded_from_outside(summary: dict) -> None:
    rules = summary["dropped"]
    bad = hostile(summary) | {"dropped": {"<script>rule</script>": hostile(rules["mostly_symbols"])}}
    calm, wild = Page(page("Report", summary)), Page(page("<script>title</script>", bad))
    assert len(wild.tags) > 200
    for found in (calm, wild):
        assert {t for t, _ in found.tags}.isdisjoint(
            {"script", "img", "link", "iframe", "a", "object", "form", "base"}
        )
        for tag, attributes in found.tags:
            assert not any(name.startswith("on") for name in attributes), tag
            assert not {"href", "src", "srcset", "action", "xlink:href"} & set(attributes), tag
        policies = [a["content"] for t, a in found.tags if a.get("http-equiv")]
        assert policies == [POLICY]
    shown = "".join(wild.words)
    assert "\"'><script src=//bad.example></script>␀\u202e</style><svg onload=x>tiny" not in "".join(
        calm.words
    )
    assert shown.count("<svg onload=x>") > 50
    assert "\x00" not in page("Report", bad)


def test_a_hostile_document_is_shown_as_it_is(tmp_path: Path, store: Folder) -> None:
    pair = [start + HOSTILE + note(7, 200) for start in ("", "See: ")]
    write_lines(tmp_path / "text", "a.jsonl", [note(n) for n in range(20)] + pair)
    made = SmallCorpus(store, (TextFiles(folder=str(tmp_path / "text")),)).refresh()
    found = Page(page("Report", made.summary().read_json("summary.json")))
    assert "<script>alert('boo')</script>" in "".join(found.words)
    assert "script" not in {t for t, _ in found.tags}


@given(st.text())
def test_escaped_text_is_read_back_as_it_was(value: str) -> None:
    parser = Page("<p>" + text(value) + "</p>")
    read = "".join(parser.words)
    assert len(read) == len(value)
    assert all(a == b for a, b in zip(read, value, strict=True) if b.isprintable() or b in "\t\n")


def test_elements_escape_what_is_not_markup() -> None:
    assert (
        el("p", "1 < 2 ", el("b", "&"), class_="n", data_x=None) == '<p class="n">1 &lt; 2 <b>&amp;</b></p>'
    )
    assert el("i", Markup("<b>"), title='"') == '<i title="&quot;"><b></i>'
    assert size(1_234_567) == "1.23\u00a0MB"


def test_a_document_is_found_by_every_prefix_of_its_id(made: SmallCorpus) -> None:
    documents = made.documents[0]
    ids = [
        (part_of(name), row, id.as_py())
        for name in partition_files(documents)
        for row, id in enumerate(read_documents(documents, name, ["id"]).column("id"))
    ]
    assert len(ids) > 60
    for part, row, id in ids[::7]:
        for digits in (4, 5, 9, 32):
            prefix = id.hex()[:digits]
            half = int(prefix[-1], 16) if digits % 2 else None
            found = find_prefix(documents, bytes.fromhex(prefix[: digits // 2 * 2]), half)
            assert [f[1] for f in found] == [i for *_, i in ids if i.hex().startswith(prefix)]
            assert ((part, row), id) in [(tuple(p), i) for p, i in found]
    places = [find_prefix(documents, id)[0][0] for *_, id in ids[::-5]]
    assert [r["id"] for r in read_places(documents, places, ["id"])] == [id for *_, id in ids[::-5]]


@pytest.mark.parametrize("change", [{"samples": 0}, {"pairs": 101}, {"shown_characters": 10_000}])
def test_a_page_is_for_reading(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="use 1 to"):
        SummaryConfig(**change)


def test_kept_rows_are_all_in_the_groups(made: SmallCorpus) -> None:
    for measured, documents, kept in zip(made.measured(), made.documents, made.kept, strict=True):
        rows = sum(len(read_rows(kept, part_of(n))) for n in partition_files(documents))
        assert measured.counts["documents"] == rows
        assert json.loads(measured.read(MEASURED))["funnel"]["near_unique"] == rows
