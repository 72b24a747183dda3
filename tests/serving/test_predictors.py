"""Served answers are transformers' answers, alone, in a batch, and after a trip through the store."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.artifacts import CorruptFile
from infra.storage import Folder
from serving import rollout
from serving.loader import load, load_folder
from serving.predictors.predictor import UnfitModel
from tests.serving.exported import LABELS, VOCABULARY, export, export_artifact
from tests.serving.kit import WHEN

TOLERANCE = 1e-5
TEXTS = (
    "Return the [MASK] of all names in a list.",
    "[MASK]",
    "names, (lists!) and Returning [MASK]? unknownword café the the",
    "the " * 30 + "[MASK]",
)
SERVED = ["bert", "roberta", "albert"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """The exported folder of a family for a task, written when it is first asked for."""

    @cache
    def folder(task: str, family: str) -> Path:
        return export(tmp_path_factory.mktemp(family), task, family=family)

    return folder


@pytest.fixture(scope="module")
def fill_mask_folder(folders) -> Path:
    return folders("fill-mask", "bert")


@pytest.fixture(scope="module")
def classify_folder(folders) -> Path:
    return folders("text-classification", "bert")


def pipeline(task: str, folder: Path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.set_verbosity_error()
    return transformers.pipeline(
        task, model=str(folder), tokenizer=str(folder), device="cpu", dtype=torch.float32
    )


def ask(predictor, text: str, **parameters):
    return predictor.run([predictor.prepare(text, predictor.read(parameters))])[0]


def same(ours, theirs) -> None:
    """Equal structure, words and order; scores to TOLERANCE."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key in ours:
            if key == "score":
                assert ours[key] == pytest.approx(theirs[key], abs=TOLERANCE)
            else:
                assert ours[key] == theirs[key]
    else:
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)


@pytest.mark.parametrize("family", SERVED)
def test_fill_mask_answers_as_transformers(folders, family: str) -> None:
    folder = folders("fill-mask", family)
    ours, theirs = load_folder(folder), pipeline("fill-mask", folder)
    mask = {"roberta": "<mask>"}.get(family, "[MASK]")
    assert ours.mask == mask
    for text in TEXTS:
        text = text.replace("[MASK]", mask)
        same(ask(ours, text), theirs(text))
    text = f"The {mask} of  {mask} is\u3000{mask}."
    same(ask(ours, text, top_k=3), theirs(text, top_k=3))
    for targets in ("list", ["list", "name", "the"], ["names", "list", "list"], ["lists"]):
        same(ask(ours, f"a {mask}.", targets=targets), theirs(f"a {mask}.", targets=targets))
    ours.check()


def test_targets_and_numbers_limit_an_answer_as_in_transformers(fill_mask_folder: Path) -> None:
    ours, theirs = load_folder(fill_mask_folder), pipeline("fill-mask", fill_mask_folder)
    for targets, top_k in ((["##s", "list", "list"], 5), (["list", "the"], 1)):
        options = {"targets": targets, "top_k": top_k}
        same(ask(ours, "a [MASK].", **options), theirs("a [MASK].", **options))
    assert len(ask(ours, "a [MASK].", top_k=10**6)) == len(VOCABULARY)


@pytest.mark.parametrize("family", SERVED)
def test_classification_answers_as_transformers(folders, family: str) -> None:
    folder = folders("text-classification", family)
    ours, theirs = load_folder(folder), pipeline("text-classification", folder)
    functions = (None, "softmax", "sigmoid", "none") if family == "bert" else (None,)
    for function in functions:
        parameters = {} if function is None else {"function_to_apply": function}
        for text in ("Return the names of a list.", "a", "the (list)!", "list " * 10):
            same(ask(ours, text, **parameters), theirs(text, top_k=None, **parameters))
            same(ask(ours, text, top_k=2, **parameters), theirs(text, top_k=2, **parameters))
    ours.check()


@pytest.mark.parametrize("family", [*SERVED, "spanbert"])
def test_an_answer_does_not_depend_on_what_shares_its_batch(folders, family: str) -> None:
    for task in ("fill-mask", "text-classification"):
        predictor = load_folder(folders(task, family))
        texts = [text.replace("[MASK]", predictor.texts.mask) for text in TEXTS]
        items = [predictor.prepare(text, predictor.read({})) for text in texts]
        for text, together in zip(texts, predictor.run(items), strict=True):
            same(together, ask(predictor, text))
        predictor.check()


def test_a_long_text_is_cut_and_says_so(classify_folder: Path, fill_mask_folder: Path) -> None:
    classify = load_folder(classify_folder)
    prepared = classify.prepare("the list " * 100, classify.read({}))
    assert (len(prepared.tokens), prepared.whole_tokens, prepared.truncated) == (64, 202, True)
    assert prepared.tokens[-1] == VOCABULARY.index("[SEP]")
    fill = load_folder(fill_mask_folder)
    with pytest.raises(
        ValueError, match=r"1 of 2 \[MASK\] lie beyond the 64 tokens the model reads \(the text has 106\)"
    ):
        fill.prepare("[MASK] " + "the " * 102 + "[MASK]", fill.read({}))


@pytest.mark.parametrize(
    ("family", "text"),
    [("bert", "a [SEP] b [CLS]{}"), ("roberta", "a </s> b <s>{}"), ("albert", "a [SEP] b <pad>{}")],
)
def test_only_mask_is_special_in_what_a_user_writes(folders, family: str, text: str) -> None:
    texts = load_folder(folders("fill-mask", family)).texts
    tokens, _ = texts.tokens(text.format(texts.mask))
    assert [t for t in tokens[1:-1].tolist() if t in texts.special and t != texts.unk_id] == [texts.mask_id]
    assert (tokens[0], tokens[-1]) == (texts.cls_id, texts.sep_id)
    assert tokens.dtype == np.int64


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": True}, "top_k is True"),
        ({"targets": []}, "targets is '\\[\\]'; it must be a word or a list of words"),
        ({"targets": [3]}, "it must be a word or a list of words"),
        ({"targets": ["€"]}, "target '€' is not in the model's vocabulary"),
        ({"targets": ["[CLS]"]}, "target '\\[CLS\\]' is not in the model's vocabulary"),
        ({"targets": ["a"] * 1001}, "targets holds 1001 words"),
        ({"target": ["a"]}, "unknown parameter 'target'; did you mean 'targets'?"),
    ],
)
def test_a_bad_parameter_is_named_with_its_rule(fill_mask_folder: Path, parameters, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        load_folder(fill_mask_folder).read(parameters)


def test_a_text_without_a_mask_is_refused(fill_mask_folder: Path) -> None:
    predictor = load_folder(fill_mask_folder)
    with pytest.raises(ValueError, match=r"no \[MASK\] in 'nothing to fill'; write \[MASK\]"):
        predictor.prepare("nothing to fill", predictor.read({}))


def test_a_model_that_answers_nonsense_does_not_pass_its_check(
    fill_mask_folder: Path, classify_folder: Path
) -> None:
    for folder in (fill_mask_folder, classify_folder):
        predictor = load_folder(folder)
        predictor.check()
        with torch.no_grad():
            next(predictor.model.parameters()).fill_(float("nan"))
        with pytest.raises(UnfitModel, match="not finite"):
            predictor.check()


def test_a_registered_model_loads_from_the_store(store: Folder) -> None:
    artifact = export_artifact(store, "text-classification", seed=3)
    version = rollout.register(
        store, "topics", artifact=artifact.address, scores={"accuracy": 0.5}, when=WHEN
    )
    loaded = load(store, version)
    assert (loaded.predictor.task, loaded.predictor.labels) == ("text-classification", LABELS)
    [answer] = loaded.run([loaded.predictor.prepare("a list", loaded.predictor.read({}))])
    assert sum(guess["score"] for guess in answer) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "cloze.json"])
def test_an_altered_file_never_serves(store: Folder, name: str) -> None:
    artifact = export_artifact(store, "fill-mask")
    version = rollout.register(store, "m", artifact=artifact.address, scores={}, when=WHEN)
    content = bytearray(artifact.folder.read(name))
    content[-2] ^= 1
    artifact.folder.write(name, bytes(content))
    with pytest.raises(CorruptFile, match=f"{name} of "):
        load(store, version)


def test_what_is_not_served_is_refused_in_a_sentence(folders, fill_mask_folder: Path, tmp_path: Path) -> None:
    facts = json.loads((fill_mask_folder / "cloze.json").read_text())
    assert facts["task"] == "fill-mask"
    with pytest.raises(FileNotFoundError):
        load_folder(tmp_path)
    generator = folders("text-generation", "gpt2")
    with pytest.raises(ValueError, match="test is for the task 'text-generation', which is not served yet"):
        load_folder(generator)
    facts = json.loads((generator / "cloze.json").read_text())
    (generator / "cloze.json").write_text(json.dumps(facts | {"task": "fill-mask"}))
    with pytest.raises(ValueError, match="test holds a Gpt2, which does not answer fill-mask"):
        load_folder(generator)
