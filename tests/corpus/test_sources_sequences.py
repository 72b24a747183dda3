"""Treebanks as running text, sequences as letters."""

import gzip
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.sources.conllu import ConllU
from corpus.sources.fasta import Fasta
from tests.corpus.source_kit import at_most, one_way, read_broken, read_bytes

BANK = ConllU(folder=".")
FASTA = Fasta(folder=".")


def word(number: str, form: str, misc: str = "_") -> str:
    return "\t".join([number, form, *["_"] * 7, misc])


def sentence(*lines: str) -> str:
    return "\n".join([*lines, "", ""])


def test_documents_begin_where_the_file_says_so() -> None:
    data = sentence("# newdoc id = d1", "# sent_id = 1", "# text = It works.", word("1", "It"))
    data += sentence("# text = Always.", word("1", "Always"))
    data += sentence("# newpar id = p2", "# text = Next paragraph.", word("1", "Next"))
    data += sentence("# newdoc", "# text = Another one.", word("1", "Another"))
    found, dropped = read_bytes(BANK, "a.conllu", data.replace("\n", "\r\n").encode())
    assert [(d.title, d.position, d.text) for d in found] == [
        ("d1", 1, "It works. Always.\nNext paragraph."),
        ("a.conllu:13", 13, "Another one."),
    ]
    assert not dropped


def test_a_sentence_without_its_text_is_put_together_from_its_words() -> None:
    data = sentence(
        word("1", "Vámonos", "SpaceAfter=No|x=y").replace("1\t", "1-2\t", 1),
        word("1", "Vamos"),
        word("2", "nos"),
        word("2.1", "(empty)"),
        word("3", "al"),
        "not a word line",
        word("4", "mar", "SpaceAfter=No"),
        word("5", "."),
    )
    found, dropped = read_bytes(BANK, "a.conllu", data.encode())
    assert [d.text for d in found] == ["Vámonosal mar."]
    assert dropped == Counter(bad_line=1)


def test_sentences_of_scripts_without_spaces_are_joined_without() -> None:
    data = "".join(
        sentence(f"# text = 第{i}句。", word("1", "第", "SpaceAfter=No"), word("2", "。", "SpaceAfter=No"))
        for i in "一二三"
    )
    found, _ = read_bytes(ConllU(folder=".", sentences_per_document=2), "a.conllu", data.encode())
    assert [(d.position, d.text) for d in found] == [(1, "第一句。第二句。"), (9, "第三句。")]
    with pytest.raises(
        ValueError, match="sentences_per_document of source 'conllu' is 0; it must be 1 or more"
    ):
        ConllU(folder=".", sentences_per_document=0)


def test_the_shared_treebanks_come_back_as_they_were(shared_data: Path) -> None:
    for name, joint in (("pos/en_ewt_dev.parquet", " "), ("pos/ja_gsd_dev.parquet", "")):
        rows = pq.read_table(shared_data / name, columns=["text", "tokens"]).slice(0, 200).to_pylist()
        after = "SpaceAfter=No" if not joint else "_"
        data = "".join(
            sentence(f"# text = {r['text']}", *(word(str(i), t, after) for i, t in enumerate(r["tokens"], 1)))
            for r in rows
        )
        found, dropped = read_bytes(
            ConllU(folder=".", sentences_per_document=10), "a", gzip.compress(data.encode())
        )
        assert [d.text for d in found] == [
            joint.join(r["text"] for r in rows[i : i + 10]) for i in range(0, 200, 10)
        ]
        assert not dropped
        lines = data.split("\n")
        assert all(lines[d.position - 1] == f"# text = {rows[10 * i]['text']}" for i, d in enumerate(found))


def test_sequences_are_letters() -> None:
    data = b"; a comment\n>one first of all\r\nacgt\r\nAC GT\r\n\r\n>\nmkv*\n>empty\n>two\nNNacgu\n"
    found, dropped = read_bytes(FASTA, "a.fa", data)
    assert [(d.title, d.position, d.text) for d in found] == [
        ("one first of all", 2, "ACGTACGT"),
        ("a.fa:6", 6, "MKV"),
        ("two", 9, "NNACGU"),
    ]
    assert dropped == Counter(empty=1, no_header=1)
    assert FASTA.language == "und"


def test_the_shared_genes_come_back_as_they_were(shared_data: Path) -> None:
    rows = pq.read_table(
        shared_data / "dna/gene_family_chimp.parquet", columns=["id", "sequence"]
    ).to_pylist()
    data = "".join(
        f">{r['id']}\n"
        + "".join(f"{r['sequence'][i : i + 60].lower()}\n" for i in range(0, len(r["sequence"]), 60))
        for r in rows
    )
    found, dropped = read_bytes(FASTA, "a.fa.gz", gzip.compress(data.encode(), 1))
    assert [(d.title, d.text) for d in found] == [(str(r["id"]), r["sequence"].upper()) for r in rows]
    assert not dropped
    some, _ = read_broken(FASTA, "a.fa.gz", gzip.compress(data.encode(), 1)[:50_000])
    assert 10 < len(some) < len(found)
    assert some == found[: len(some)]


def test_a_chromosome_goes_on_as_further_documents() -> None:
    blocks = [b">chr1\n", *[(b"acgtacgtac" * 100 + b"\n") * 100] * 200]
    dropped: Counter[str] = Counter()
    with at_most(24):
        size = 0
        positions = []
        for document in Fasta(folder=".", max_document_bytes=1 << 20).documents(
            "a.fa", one_way(iter(blocks)), dropped
        ):
            size += len(document.text)
            positions.append(document.position)
            assert document.title == "chr1"
            assert len(document.text) <= 1 << 20
    assert size == 20_000_000
    assert positions[:2] == [1, 1050], "the record's line, then the lines on which it goes on"
    assert len(positions) == 20
    assert not dropped
