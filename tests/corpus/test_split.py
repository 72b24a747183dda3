"""What is held out is decided by names and texts alone, and nothing is on both sides."""

import pytest

from corpus.document import iterate_documents
from corpus.split import SplitConfig, held_out_rows, pretraining_rows, split_of
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.storage import Folder
from tests.corpus.made import document, documents_of, every_row, kept_documents

SPLIT = SplitConfig(dev_share=0.2, test_share=0.2)


@pytest.fixture
def documents(store: Folder) -> Artifact:
    rows = [
        document(f"Docstring {j} of module {i}.", file=f"pkg/m{i}.py", position=j, source="python-docs")
        for i in range(40)
        for j in (1, 2, 3)
    ]
    rows += [document(f"Line {i} of a long file.", file="all.jsonl", position=i) for i in range(200)]
    return documents_of(store, rows, parts=3)


def test_both_sides_together_are_everything_and_share_nothing(store: Folder, documents: Artifact) -> None:
    kept = every_row(store, documents)
    train, aside = (
        run_step(step, SPLIT, store=store, documents=documents, kept=kept)
        for step in (pretraining_rows, held_out_rows)
    )
    assert train.counts == {"read": 320, "kept": train.counts["kept"], "held_out": aside.counts["kept"]}
    assert aside.counts["pretraining"] == train.counts["kept"]
    both = [*kept_documents(documents, train), *kept_documents(documents, aside)]
    assert sorted(both) == sorted(iterate_documents(documents))


def test_modules_stay_whole_and_a_long_file_is_split_by_document(store: Folder, documents: Artifact) -> None:
    kept = every_row(store, documents)
    aside = kept_documents(
        documents, run_step(held_out_rows, SPLIT, store=store, documents=documents, kept=kept)
    )
    files = [d.file for d in aside if d.source == "python-docs"]
    assert files
    assert all(files.count(name) == 3 and split_of(name, SPLIT) != "train" for name in files)
    assert 40 < sum(d.source == "made" for d in aside) < 120


def test_the_split_is_a_pure_function_of_the_name_with_the_stated_shares() -> None:
    config = SplitConfig(dev_share=0.1, test_share=0.2)
    splits = [split_of(f"pkg/module{i}.py", config) for i in range(4000)]
    assert splits[:4] == [split_of(f"pkg/module{i}.py", config) for i in range(4)]
    assert splits.count("test") == pytest.approx(800, abs=100)
    assert splits.count("dev") == pytest.approx(400, abs=80)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"leave something to train on; use e\.g\. 0\.05 and 0\.1"):
        SplitConfig(dev_share=0.5, test_share=0.5)
