"""Sampling, searching, comparing and finding the origin of documents agree with doing it one document at a time."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from corpus.document import document_id
from corpus.normalize import normalize
from corpus.shard_index import ShardIndex
from corpus.sources.text_files import TextFiles
from corpus.summary.comparing import compare
from corpus.summary.origins import find, origin
from corpus.summary.sampling import pieces, sample, sample_dropped, sample_duplicates
from corpus.summary.searching import Pattern, count, search
from corpus.summary.texts import Corpus, Wanted
from infra.storage import Folder, open_folder
from tests.corpus.summary_kit import SmallCorpus, edited, kept_documents, note, two_generations, write_lines

ALL = Wanted()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def made(root: Path) -> SmallCorpus:
    return two_generations(root, open_folder(root / "store"))


@pytest.fixture(scope="module")
def corpus(made: SmallCorpus) -> Corpus:
    return Corpus.of(made.generation)


@pytest.fixture(scope="module")
def texts(made: SmallCorpus) -> dict[str, str]:
    """Kept and not retired, by id: the Chinese document's file is gone."""
    return {d.id.hex(): d.text for d in kept_documents(made) if "今天" not in d.text}


def test_a_sample_is_uniform_and_the_same_for_the_same_seed(corpus: Corpus, texts: dict[str, str]) -> None:
    assert sample(corpus, ALL, 5, 1) == sample(corpus, ALL, 5, 1)
    drawn = Counter(r["id"] for seed in range(200) for r in sample(corpus, ALL, 5, seed))
    assert set(drawn) == set(texts)
    mean = 1000 / len(texts)
    assert 0.5 < sum((n - mean) ** 2 / mean for n in drawn.values()) / (len(texts) - 1) < 1.6  # chi-square
    assert all(r["text"] == texts[r["id"]] for r in sample(corpus, ALL, 5, 3))
    every = sample(corpus, ALL, 10_000, 0)
    assert len(every) == len(texts)
    assert [r["id"] for r in every[:5]] == [r["id"] for r in sample(corpus, ALL, 5, 0)]


def test_a_sample_is_of_the_wanted_source_and_language(corpus: Corpus, made: SmallCorpus) -> None:
    mine = sample(corpus, Wanted(source="copies"), 1000, 0)
    assert {r["source"] for r in mine} == {"copies"}
    assert sample(corpus, Wanted(language="zh"), 10, 0) == []
    first = Corpus.of(made.generation.inputs["previous"])
    (chinese,) = sample(first, Wanted(language="zh"), 10, 0)
    assert (chinese["language"], chinese["generation"]) == ("zh", 1)
    assert "今天" in chinese["text"]


def test_dropped_documents_are_sampled_by_rule(corpus: Corpus) -> None:
    found = sample_dropped(corpus, ALL, "mostly_symbols", 100, 0)
    assert len(found) == 9
    assert {r["rule"] for r in found} == {"mostly_symbols"}
    assert {r["rule"] for r in sample_dropped(corpus, ALL, "", 100, 0)} == {"mostly_symbols", "too_short"}
    assert sample_dropped(corpus, Wanted(source="notes"), "", 100, 0) == []
    with pytest.raises(ValueError, match="rules that dropped some: mostly_symbols, too_short"):
        sample_dropped(corpus, ALL, "gopher", 3, 0)


def test_duplicates_are_shown_beside_what_stays(corpus: Corpus, texts: dict[str, str]) -> None:
    found = sample_duplicates(corpus, ALL, 100, 0)
    assert len(found) == 13
    for pair in found:
        assert pair["kept_id"] in texts
        assert pair["removed_id"] not in texts
        for side, shown in zip(("removed", "kept"), pieces(pair), strict=True):
            assert "".join(t for t, _ in shown) == pair[f"{side}_head"]


@pytest.mark.parametrize(
    ("pattern", "regex", "ignore_case"),
    [
        ("river4", False, False),
        ("NOTE 1", False, True),
        ("A\u0308nderung", False, False),  # decomposed; documents are composed
        ("a.b(", False, False),
        (r"note \d0:", True, True),
        (r"(?:silver|paper)\d+ story", True, False),
        (r"Änd[a-z]+", True, False),
    ],
)
def test_a_search_finds_what_python_finds(
    corpus: Corpus, texts: dict[str, str], pattern: str, regex: bool, ignore_case: bool
) -> None:
    wanted = Pattern(text=pattern, regex=regex, ignore_case=ignore_case)
    plain = normalize(pattern)
    expression = re.compile(plain if regex else re.escape(plain), re.IGNORECASE if ignore_case else 0)
    matches = {id: list(expression.finditer(text)) for id, text in texts.items()}
    found = {record["id"]: (record, times) for record, times in search(corpus, ALL, wanted)}
    assert {id: times for id, (_, times) in found.items()} == {id: len(m) for id, m in matches.items() if m}
    assert all(wanted.first(r["text"]) == matches[id][0].span() for id, (r, _) in found.items())
    assert count(corpus, ALL, wanted) == (len(found), sum(times for _, times in found.values()))
    assert bool(found) == (pattern != "a.b(")


def test_retired_documents_are_not_found_but_were(corpus: Corpus, made: SmallCorpus) -> None:
    first = Corpus.of(made.generation.inputs["previous"])
    assert count(corpus, ALL, Pattern(text="今天天气")) == (0, 0)
    assert count(first, ALL, Pattern(text="今天天气")) == (1, 3)
    assert Pattern(text="散步").first("去公园散步") == (3, 5)


@pytest.mark.parametrize(("text", "regex"), [("", False), ("(", True), ("(?=x)", True)])
def test_a_bad_pattern_is_one_sentence(text: str, regex: bool) -> None:
    with pytest.raises(ValueError, match=r"is empty|is no regular expression"):
        Pattern(text=text, regex=regex)


def test_two_generations_differ_by_what_is_new_and_what_is_retired(made: SmallCorpus, corpus: Corpus) -> None:
    first = Corpus.of(made.generation.inputs["previous"])
    found = compare(first, corpus)
    new = {r["id"]: r["text"] for r in sample(corpus, ALL, 1000, 0)}
    old = {r["id"]: r["text"] for r in sample(first, ALL, 1000, 0)}
    added, gone = set(new) - set(old), set(old) - set(new)
    assert (len(added), len(gone)) == (15, 1)
    assert found["documents"] == {
        "added": 15,
        "added_bytes": sum(len(new[id].encode()) for id in added),
        "gone": 1,
        "gone_bytes": sum(len(old[id].encode()) for id in gone),
        "retired": 1,
    }
    assert {n: s["added"] for n, s in found["sources"].items()} == {"notes": 15, "copies": 0}
    assert found["languages"]["zh"]["gone"] == 1
    assert found["files"]["added_names"] == [["notes", "c.jsonl"]]
    assert found["files"]["vanished_names"] == [["copies", "zh.jsonl"]]
    back = compare(corpus, first)["documents"]
    assert (back["added"], back["gone"]) == (1, 15)
    assert compare(corpus, corpus)["documents"] == dict.fromkeys(found["documents"], 0)


def test_corpora_that_share_no_generation_are_compared_by_text(tmp_path: Path, store: Folder) -> None:
    sets = {"one": range(30), "two": range(10, 45)}
    made = {}
    for name, numbers in sets.items():
        write_lines(tmp_path / name, f"{name}.jsonl", [note(n) for n in numbers])
        source = TextFiles(folder=str(tmp_path / name), name=name)
        made[name] = Corpus.of(
            SmallCorpus(store, (source,), name=f"corpus-{name}", vocab_size=200).refresh().generation
        )
    found = compare(made["one"], made["two"])["documents"]
    assert (found["added"], found["gone"], found["retired"]) == (15, 10, 0)


def test_every_training_sample_leads_back_to_its_line(root: Path, made: SmallCorpus, corpus: Corpus) -> None:
    index = ShardIndex(*made.shards)
    assert len(index) > 50
    for number in range(0, len(index), 3):
        file, row = index.document_at(number)
        id = bytes(index.shard(file).document_ids[row]).hex()
        record = origin(corpus, *find(corpus, id)[0])
        if record["file"] == "zh.jsonl":  # vanished
            assert record["fate"].startswith("retired")
            continue
        line = (root / record["source"] / record["file"]).read_text().splitlines()[record["position"] - 1]
        assert normalize(json.loads(line)["text"]) == record["text"] == index.document(number).text
        assert record["fate"] == "kept"


def test_what_became_of_a_document_is_known(corpus: Corpus) -> None:
    def fate(text: str) -> str:
        (found,) = find(corpus, document_id(text).hex())
        return str(origin(corpus, *found)["fate"])

    assert fate("tiny") == "dropped by too_short: 4, the limit is 60"
    original, copy = note(45, 200), edited(note(45, 200), 45)
    fates = {document_id(t).hex(): fate(t) for t in (original, copy)}
    (kept,) = [id for id, f in fates.items() if f == "kept"]
    (other,) = [f for f in fates.values() if f != "kept"]
    assert other.startswith(f"removed as a near duplicate of {kept} (Jaccard 0.")
    (first,) = find(corpus, document_id(note(3)).hex())
    copies = origin(corpus, *first)["copies"]
    assert [(c["generation"], c["source"], c["file"], c["position"]) for c in copies] == [
        (2, "notes", "c.jsonl", 16)
    ]


@pytest.mark.parametrize("digits", ["abc", "xyz1", "0" * 33])
def test_what_is_no_id_is_refused_in_a_sentence(corpus: Corpus, digits: str) -> None:
    with pytest.raises(ValueError, match="is no document id; give 4 to 32 hexadecimal digits"):
        find(corpus, digits)
