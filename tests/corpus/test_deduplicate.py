"""Near duplicates are found, look-alikes stay, and neither cutting, killing nor refreshing changes what is kept."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus import deduplicate as near
from corpus.deduplicate import DeduplicateConfig, deduplicate
from corpus.document import document_id, iterate_documents
from corpus.rows import read_kept, read_rows, write_rows
from infra.artifacts import Artifact, Counts
from infra.collect import repair, verify
from infra.materialize import run_step
from infra.output import Output, PartitionFailed
from infra.storage import Folder, open_folder
from tests.corpus.near_text import artifact, edited, naive_jaccard, naive_shingles, texts_of


def run(
    documents: Artifact, previous: Artifact | None = None, kept: Artifact | None = None, **config: Any
) -> Artifact:
    return run_step(
        deduplicate,
        DeduplicateConfig(**config),
        store=documents.store,
        documents=documents,
        kept=kept,
        previous=previous,
    )


def kept_texts(result: Artifact) -> set[str]:
    documents = result.inputs["documents"]
    parts = [n.removesuffix(".parquet") for n in documents.names()]
    return {t for p in parts for t in read_kept(documents, result, p).column("text").to_pylist()}


def removed(result: Artifact) -> list[dict[str, Any]]:
    return pq.read_table(result.path("removed.parquet")).to_pylist()


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(count)]


def text_of(seed: int, count: int = 300) -> str:
    return " ".join(words(seed, count))


@pytest.mark.parametrize(
    ("name", "spaced"),
    [("pretrain_en/wikipedia-00", True), ("pretrain_zh/wikipedia-00", False), ("pretrain_multi/ru", True)],
)
def test_planted_duplicates_are_found_and_look_alikes_are_kept(
    shared_data: Path, store: Folder, name: str, spaced: bool
) -> None:
    """Edited copies from Jaccard 0.6 to 0.99; beside them other articles, and pages that share most of a template."""
    rng = random.Random(name)
    *texts, header = texts_of(shared_data, name, 251, 1200 if spaced else 700)
    units = len(texts[0].split()) if spaced else len(texts[0])
    pairs = []
    for i, text in enumerate(texts[:180]):
        copy = edited(text, max(1, round(units * (0.0006 if spaced else 0.0004) * (i % 60))), rng, spaced)
        pairs.append((text, copy, naive_jaccard(text, copy)))
    templates = [header + "\n" + t[: len(t) // 2] for t in texts[180:]]  # similar to each other by about 0.5
    assert 0.4 < naive_jaccard(*templates[:2]) < 0.75
    every = list(dict.fromkeys([t for a, b, _ in pairs for t in (a, b)] + texts[180:] + templates))
    result = run(artifact(store, [every[i::3] for i in range(3)]))

    gone = set(every) - kept_texts(result)
    due = [j for a, b, j in pairs if j >= 0.85 and a != b]
    found = [j for a, b, j in pairs if j >= 0.85 and a != b and (a in gone) != (b in gone)]
    assert len(due) >= 60
    assert sum(0.5 < j < 0.8 for *_, j in pairs) >= 20
    assert len(found) >= 0.95 * len(due)
    duplicates = {t for a, b, j in pairs if j >= 0.8 for t in (a, b)}
    assert len(gone & duplicates) >= 0.99 * len(gone)
    assert gone.isdisjoint(templates)
    assert result.counts["read"] == len(every) == result.counts["kept"] + result.counts["near_duplicate"]
    by_id = {document_id(t): t for t in every}
    for row in removed(result):
        a, b = by_id[row["removed_id"]], by_id[row["kept_id"]]
        assert b not in gone
        assert row["jaccard"] == naive_jaccard(a, b)
        assert row["removed_head"] == a[:500]
        assert row["kept_head"] == b[:500]
    assert {r["removed_id"] for r in removed(result)} == {document_id(t) for t in gone}


def test_long_books_of_one_author_are_kept(shared_data: Path, store: Folder) -> None:
    chapters = texts_of(shared_data, "pretrain_en/books-00", 60, 15_000)
    result = run(artifact(store, [chapters]))
    assert result.counts["kept"] == 60
    assert result.counts["pairs_verified"] == 0


def chain(count: int, step: int) -> list[str]:
    """Texts of falling length, each like the next one only: `step` of 300 words differ from one to the next."""
    pool = [f"w{n:04d}" for n in range(300 + step * count)]
    return [" ".join(pool[i * step : 300 + i * step - i]) for i in range(count)]


def test_a_chain_is_not_one_cluster(store: Folder) -> None:
    """A ~ B ~ C ~ D ~ E: B goes for A and D goes for C, since C is no duplicate of the A that is kept."""
    texts = chain(5, 20)
    similar = [[naive_jaccard(a, b) >= 0.8 for b in texts] for a in texts]
    assert similar == [[abs(i - j) <= 1 for i in range(5)] for j in range(5)]
    result = run(artifact(store, [texts[:3], texts[3:]]))
    assert kept_texts(result) == {texts[0], texts[2], texts[4]}
    assert result.counts["pairs_verified"] == 4


def made_corpus(seed: int, count: int) -> list[str]:
    """Originals, copies of copies, and short texts."""
    rng = random.Random(seed)
    texts = [text_of(1000 * seed + i, rng.choice([3, 8, 40, 200, 200, 200])) for i in range(count)]
    for _ in range(count):
        texts.append(edited(rng.choice(texts), rng.randint(1, 6), rng, spaced=True))
    return list(dict.fromkeys(texts))


def test_what_stays_is_what_comparing_every_pair_keeps(store: Folder) -> None:
    """The definition, spelt out: preferred documents first, each compared with all that are kept."""
    texts = made_corpus(7, 100) + chain(8, 20)
    shingles = {t: naive_shingles(t) for t in texts}
    kept: list[str] = []
    for text in sorted(texts, key=lambda t: (-len(t.encode()), document_id(t))):
        mine = shingles[text]
        if not any(len(mine & shingles[k]) >= 0.8 * len(mine | shingles[k]) for k in kept):
            kept.append(text)
    assert len(texts) - len(kept) > 20
    result = run(
        artifact(store, [texts[0::2], texts[1::2]]), bands=60, rows=3
    )  # which misses nothing from 0.8 on
    assert kept_texts(result) == set(kept)


def test_parts_names_and_order_change_nothing(tmp_path: Path) -> None:
    texts = made_corpus(1, 150)
    results = []
    for number, parts in enumerate(([texts], [texts[i::7][::-1] for i in range(7)] + [[]])):
        result = run(artifact(open_folder(tmp_path / str(number)), parts, name="zq"[number]))
        results.append((kept_texts(result), result.counts, removed(result)))
    assert results[0] == results[1]
    assert results[0][1]["near_duplicate"] > 20


def test_ranges_of_keys_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and large corpora cut their keys differently, so generations of all sizes must find one another."""
    texts = made_corpus(2, 120)
    outcomes = []
    for number, sizes in enumerate(((1 << 19, 1 << 19), (300, 1 << 19), (1 << 19, 300), (300, 900))):
        store = open_folder(tmp_path / str(number))
        monkeypatch.setattr("corpus.near.candidates.KEYS_IN_RANGE", sizes[0])
        first = run(artifact(store, [texts[0::2]]))
        monkeypatch.setattr("corpus.near.candidates.KEYS_IN_RANGE", sizes[1])
        second = run(artifact(store, [texts[1::2]]), previous=first)
        outcomes.append((removed(first), removed(second), second.counts))
        assert (len(first.names("index-")) > 2) == (sizes[0] == 300)
    assert all(o == outcomes[0] for o in outcomes)
    assert {r["kept_generation"] for r in outcomes[0][1]} == {0, 1}


def test_earlier_survivors_win_and_never_change(store: Folder) -> None:
    original = text_of(5)
    longer = original + " " + text_of(6, 20)
    assert naive_jaccard(original, longer) > 0.85
    first = run(artifact(store, [[original, text_of(7)]]))
    before = {n: first.read(n) for n in first.names()}
    second = run(artifact(store, [[text_of(8)], [text_of(10)]]), previous=first)
    third = run(artifact(store, [[text_of(11), longer], [text_of(12)]]), previous=second)
    assert kept_texts(third) == {text_of(11), text_of(12)}
    (row,) = removed(third)
    assert (row["removed_id"], row["kept_id"]) == (document_id(longer), document_id(original))
    assert row["kept_generation"] == 2
    assert row["kept_head"] == original[:500]
    assert {n: first.read(n) for n in first.names()} == before


def test_what_an_earlier_generation_removed_removes_nothing(store: Folder) -> None:
    a, b, c = chain(3, 20)
    first = run(artifact(store, [[a, b]]))
    second = run(artifact(store, [[c]]), previous=first)
    assert kept_texts(first) == {a}
    assert kept_texts(second) == {c}, "c is like b, which went; it is not like a"


def test_ten_refreshes_keep_what_one_big_run_keeps(tmp_path: Path) -> None:
    """Where the longest of each family arrives first, nothing competes, and the sets are equal."""
    rng = random.Random(4)
    texts = []
    for i in range(60):
        family = [text_of(500 + i, 200)]
        family += [" ".join(family[0].split()[: 200 - n]) for n in range(1, rng.randint(1, 6))]
        texts.append(family)
    together = run(artifact(open_folder(tmp_path / "one"), [[t for f in texts for t in f]]))
    store, previous, kept = open_folder(tmp_path / "ten"), None, set()
    for n in range(10):
        arriving = [t for i, f in enumerate(texts) for j, t in enumerate(f) if min(9, i % 5 + j) == n]
        previous = run(artifact(store, [arriving[0::2], arriving[1::2]]), previous=previous)
        kept |= kept_texts(previous)
    assert kept == kept_texts(together) == {f[0] for f in texts}
    assert together.counts["near_duplicate"] > 60


def test_only_the_chosen_rows_take_part(store: Folder) -> None:
    original, copy = text_of(20), text_of(20) + " more"
    documents = artifact(store, [[original, copy, text_of(21)], [text_of(22)]])

    def select(config: dict[str, object], *, documents: Artifact, out: Output) -> Counts:
        for part in ("p000", "p001"):
            texts = [d.text for d in iterate_documents(documents)] if part == "p000" else []
            with out.writer(f"{part}.rows") as path:
                write_rows(path, np.array([i for i, t in enumerate(texts[:3]) if t != copy], np.int64))
        return {"kept": 2}

    chosen = run_step(select, {}, store=store, documents=documents)
    result = run(documents, kept=chosen)
    assert kept_texts(result) == {original, text_of(21)}
    assert result.counts["near_duplicate"] == 0
    assert kept_texts(run(documents)) == {copy, text_of(21), text_of(22)}
    assert len(read_rows(result, "p001")) == 0
    later = run(artifact(store, [[text_of(22)[:-1]]]), previous=result)
    assert later.counts["near_duplicate"] == 0, "a row that was not chosen is not in the index"


def test_containment_removes_only_the_contained_one(store: Folder) -> None:
    whole = text_of(30, 300)
    part = " ".join(whole.split()[:200])
    settings = {
        "min_containment": 0.9,
        "bands": 40,
        "rows": 3,
    }  # which surely propose what is two thirds similar
    documents = artifact(store, [[whole, part, text_of(31)]])
    assert run(documents, bands=40, rows=3).counts["near_duplicate"] == 0
    result = run(documents, **settings)
    assert kept_texts(result) == {whole, text_of(31)}
    assert (result.counts["near_duplicate"], result.counts["contained"]) == (0, 1)
    (row,) = removed(result)
    assert (row["rule"], row["containment"]) == ("contained", 1.0)
    assert row["jaccard"] == pytest.approx(196 / 296)
    earlier = run(artifact(store, [[part]]), **settings)
    later = run(artifact(store, [[whole]]), previous=earlier, **settings)
    assert kept_texts(later) == {whole}, "a longer text is not contained in the shorter one that came before"


@pytest.mark.parametrize("refreshed", [False, True])
def test_copies_are_found_among_many_pages_of_one_template(store: Folder, refreshed: bool) -> None:
    """The template's bands make buckets far above the limit; a page's own bands find its copy."""
    template = words(60, 200)
    pages = [" ".join([*template, *words(2000 + i, 38)]) for i in range(500)]
    assert 0.65 < naive_jaccard(*pages[:2]) < 0.75
    rng = random.Random(6)
    copies = [edited(page, 1, rng, spaced=True) for page in pages[:300:6]]
    assert min(map(naive_jaccard, copies, pages[:300:6])) > 0.9
    if refreshed:
        first = run(artifact(store, [pages]), bucket_limit=4)
        assert first.counts["kept"] == 500
        result = run(artifact(store, [copies]), previous=first, bucket_limit=4)
    else:
        result = run(artifact(store, [pages, copies]), bucket_limit=4)
    assert result.counts["pairs_left_out"] > 1000
    assert result.counts["near_duplicate"] >= 0.95 * len(copies)


def test_a_large_bucket_is_bounded_and_counted(store: Folder) -> None:
    base = text_of(40, 400).split()
    texts = [" ".join([*base, *words(100 + i, 2)]) for i in range(120)]
    result = run(artifact(store, [texts]), bucket_limit=16)
    assert result.counts["kept"] == 1
    assert result.counts["pairs_left_out"] > 0
    assert result.counts["pairs_proposed"] < 120 * 119 / 4, "half of all pairs"
    assert run(artifact(store, [texts]), bucket_limit=128).counts["pairs_left_out"] == 0


def test_a_killed_run_and_a_damaged_result_end_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = made_corpus(3, 60)
    parts = [texts[i::3] for i in range(3)]
    whole = run(artifact(open_folder(tmp_path / "whole"), parts))
    store = open_folder(tmp_path / "killed")
    documents = artifact(store, parts)
    for name, victim in (
        ("sign", "sign-p001"),
        ("extract", "extract-0-p002"),
        ("verify", "verify-p001"),
        ("keep_rows", "rows-p002"),
        ("write_index", "index-00000"),
    ):
        with monkeypatch.context() as patch:
            function = getattr(near, name)

            def dies(
                item: Any, *, out: Any, function: Any = function, victim: str = victim, **shared: Any
            ) -> Counts:
                if out.id == victim:
                    raise RuntimeError("killed")
                return function(item, out=out, **shared)

            patch.setattr(near, name, dies)
            with pytest.raises(PartitionFailed, match=victim):
                run(documents)
    result = run(documents)
    assert result.manifest.content == whole.manifest.content
    assert result.manifest.made["partitions"]["kept"] >= 9
    assert not [n for n in result.folder.names() if n.startswith("work/")]

    for name in ("p001.rows", "index-00000.keys", "removed.parquet"):
        result.folder.local(name).write_bytes(b"damaged")
    repair(result, verify(result))
    again = run(documents)
    assert again.manifest.content == whole.manifest.content
    assert verify(again) == []


@pytest.mark.parametrize("parts", [[], [[]], [["😀"], ["...", ""]]])
def test_nothing_to_compare_is_kept(store: Folder, parts: list[list[str]]) -> None:
    first = run(artifact(store, parts))
    count = sum(map(len, parts))
    assert (first.counts["read"], first.counts["kept"], first.counts["pairs_proposed"]) == (count, count, 0)
    assert removed(first) == []
    second = run(artifact(store, [[text_of(1)]]), previous=first)
    assert second.counts["kept"] == 1


def test_settings_of_another_index_are_refused(store: Folder) -> None:
    first = run(artifact(store, [[text_of(1)]]))
    with pytest.raises(ValueError, match="was indexed with"):
        run(artifact(store, [[text_of(2)]]), previous=first, bands=20)


@pytest.mark.parametrize(
    "bad", [{"min_jaccard": 0.0}, {"min_containment": 1.5}, {"bands": 0}, {"rows": 65}, {"bucket_limit": 7}]
)
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DeduplicateConfig(**bad)  # type: ignore[arg-type]


def test_similarity_is_recorded_exactly(store: Folder) -> None:
    a, b = text_of(50), text_of(50) + " tail end"
    (row,) = removed(run(artifact(store, [[a, b]])))
    assert row["jaccard"] == len(naive_shingles(a) & naive_shingles(b)) / len(
        naive_shingles(a) | naive_shingles(b)
    )
    assert (row["containment"], row["rule"], row["kept_generation"]) == (1.0, "near_duplicate", 0)
