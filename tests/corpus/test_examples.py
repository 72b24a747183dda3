"""A task in the corpus itself, with nothing leaking between training, development, test and pretraining."""

import pyarrow.parquet as pq
import pytest

from corpus.document import Document, document_id, sort_documents, to_table, write_table
from corpus.examples import (
    EXAMPLES,
    SPLITS,
    ExamplesConfig,
    beginning,
    masker,
)
from corpus.examples import package_examples as package_step
from corpus.split import SplitConfig, split_of
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from tests.corpus.made import every_row

SPLIT = SplitConfig(dev_share=0.2, test_share=0.2)
CONFIG = ExamplesConfig(split=SPLIT, num_classes=3, min_per_class=5, max_per_class=20, min_bytes=10)
WORDS = ["tree", "leaf", "root", "branch", "bark", "trunk", "twig", "seed", "fruit", "nut"]


@pytest.fixture
def documents(store: Folder) -> Artifact:
    """Four packages with 12, 30, 40 and 60 files of two docstrings each, and a page that is no Python file."""
    rows = []
    for package, files in (("small", 12), ("mango", 30), ("ray", 40), ("willow", 60)):
        for i in range(files):
            for j in (1, 2):
                text = f"{WORDS[i % 10]} {files * 100 + i} {j} of {package}: use {package}.grow or Py{package.capitalize()} with an array."
                rows.append((text, f"{package}/part{i}.py", j))
    rows.append(("A page about willow that is long enough.", "willow/README.md", 1))
    made = [Document(document_id(t), t, f, "python-docs", f, p, "en") for t, f, p in rows]
    made.append(Document(document_id("own"), "own", "own", "text-files", held_out_name(), 1, "en"))

    def made_up_documents(config: str, *, out: Output) -> Counts:
        for i in range(3):
            with out.writer(f"{i}.parquet") as path:
                write_table(path, to_table(sort_documents(made[i::3])))
        return {"kept": len(made)}

    return run_step(made_up_documents, "four packages", store=store)


def package_examples(store: Folder, config: ExamplesConfig, documents: Artifact) -> Artifact:
    kept = every_row(store, documents)
    return run_step(package_step, config, store=store, documents=(documents,), kept=(kept,))


def held_out_name() -> str:
    return next(f"{i}.txt" for i in range(1000) if split_of(f"{i}.txt", SPLIT) == "test")


def examples(artifact: Artifact) -> dict[str, list[dict[str, object]]]:
    return {s: pq.read_table(artifact.path(f"{s}.parquet")).to_pylist() for s in SPLITS}


def test_the_largest_packages_are_the_classes_and_are_balanced_by_a_cap(
    store: Folder, documents: Artifact
) -> None:
    made = package_examples(store, CONFIG, documents)
    assert made.read_json("labels.json") == ["mango", "ray", "willow"]
    splits = examples(made)
    assert made.counts == {
        "classes": 3,
        **{s: len(splits[s]) for s in SPLITS},
        "over_cap": made.counts["over_cap"],
        "begins_like_another": 0,
    }
    per_class = [sum(r["label_name"] == n for r in splits["train"]) for n in ("mango", "ray", "willow")]
    assert per_class == [20, 20, 20]
    assert all(r["label_name"] == ["mango", "ray", "willow"][r["label"]] for s in SPLITS for r in splits[s])  # type: ignore[index]
    assert pq.read_schema(made.path("dev.parquet")).equals(EXAMPLES)


def test_no_file_and_no_text_is_in_two_splits(store: Folder, documents: Artifact) -> None:
    splits = examples(package_examples(store, CONFIG, documents))
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert splits[a]
        assert not {r["file"] for r in splits[a]} & {r["file"] for r in splits[b]}
        assert not {beginning(str(r["text"])) for r in splits[a]} & {
            beginning(str(r["text"])) for r in splits[b]
        }


def test_texts_that_begin_alike_stay_on_one_side(store: Folder) -> None:
    long = "The same beginning of a text. " * 12

    def lookalikes(config: str, *, out: Output) -> Counts:
        names = [f"{p}/{i}.py" for p in ("willow", "mango") for i in range(60)]
        rows = [
            Document(document_id(n), f"{long} {n}" if i % 2 else f"{n} alone", n, "python-docs", n, 1, "en")
            for i, n in enumerate(names)
        ]
        with out.writer("0.parquet") as path:
            write_table(path, to_table(sort_documents(rows)))
        return {}

    config = ExamplesConfig(split=SPLIT, num_classes=2, min_per_class=5, min_bytes=8)
    made = package_examples(store, config, run_step(lookalikes, "two", store=store))
    assert sum(str(r["text"]).startswith("The same") for rows in examples(made).values() for r in rows) == 1
    assert made.counts["begins_like_another"] > 50


def test_neither_a_name_nor_its_absence_tells_the_package(store: Folder, documents: Artifact) -> None:
    for rows in examples(package_examples(store, CONFIG, documents)).values():
        for row in rows:
            assert "of package: use package.grow or" in str(row["text"])
            assert "array" in str(row["text"])


def test_names_are_masked_inside_words_but_short_ones_only_as_parts_of_names() -> None:
    masked = masker(["torch", "ray", "numpy", "huggingface_hub"])
    text = "PyTorch's torch.nn, torchvision, a RayTask in ray_tune (RAY), np.array, numpy; the HuggingFace Hub; arrays of tray"
    assert masked(text) == (
        "package's package.nn, package, a packageTask in package_tune (package), package.array, package; "
        "the package package; arrays of tray"
    )


def test_too_few_packages_are_one_sentence(store: Folder, documents: Artifact) -> None:
    config = ExamplesConfig(split=SPLIT, num_classes=9, min_per_class=5, min_bytes=10)
    with pytest.raises(
        ValueError, match="only 4 packages have 5 usable docstrings to train on, num_classes asks for 9"
    ):
        package_examples(store, config, documents)


@pytest.mark.parametrize(
    "bad",
    [{"num_classes": 1}, {"min_per_class": 0}, {"max_per_class": 3}, {"min_bytes": 0}, {"max_bytes": 3}],
)
def test_configs_that_cannot_work_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ExamplesConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave something to train on"):
        SplitConfig(dev_share=0.5, test_share=0.5)
