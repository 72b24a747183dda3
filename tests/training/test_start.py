"""A released checkpoint is gone on with, fine-tuned and served; what does not belong to it is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from corpus.corruption.masking import Marks
from corpus.corruption.roberta import RobertaObjective
from corpus.vocabulary.imported import ImportedVocabulary, import_vocabulary
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts
from infra.config import plain, revived
from infra.materialize import run_step
from infra.output import Output
from infra.report import SILENT
from infra.storage import open_folder
from serving.loader import load_folder
from tests.corpus.in_memory import documents, shard_of
from tests.corpus.test_vocabulary_imported import albert, bert, roberta
from tests.training import test_finetune as tuning
from training import launch
from training.card import Card, readme
from training.evaluate import EvaluateConfig, score_examples
from training.exchange import import_folder
from training.export import ExportConfig, ReleaseConfig, export_classifier, export_release, fitting
from training.finetune import EpochsConfig, FinetuneConfig, finetune
from training.launch import Place
from training.loop import TrainConfig
from training.models.albert import AlbertConfig
from training.models.bart import BartConfig
from training.models.bert import BertConfig
from training.models.gpt2 import Gpt2Config
from training.models.mass import MassConfig
from training.models.roberta import RobertaConfig
from training.models.xlnet import XLNetConfig
from training.pretrain import PretrainConfig, pretrain
from training.start import ReleasedFolder, first_weights, keep_start, pretrained_config, pretrained_weights
from training.tasks.classify import ClassifyConfig, classifier_of, load_encoder

THEIRS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TINY = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "feed_forward_size": 24}
TASK = ClassifyConfig(num_labels=3, max_seq_len=16)


def release(folder: Path, network: type, tokenizer, **extra) -> Path:
    """A folder as transformers writes it, with random weights."""
    torch.manual_seed(0)
    tokenizer.save_pretrained(folder)
    network(network.config_class(vocab_size=len(tokenizer), **THEIRS, **extra)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    positions = {"max_position_embeddings": 34, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    return release(
        tmp_path_factory.mktemp("roberta"), transformers.RobertaForMaskedLM, roberta(), **positions
    )


def our_config(folder: Path) -> RobertaConfig:
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    return RobertaConfig(vocab_size=vocab_size, max_seq_len=32, **TINY)


def prepare(config: None, *, vocabulary: Artifact, out: Output) -> Counts:
    encoder = encoder_of(vocabulary)
    shard = shard_of(documents(40), vocab_size=encoder.vocab_size)
    marks = Marks.of(encoder, mask=True)
    made = RobertaObjective(max_seq_len=32).corrupt(shard, marks, seed=0, pass_number=0)
    with out.writer("a-0.arrow") as path:
        made.write(path)
    return {"instances": len(made)}


def imported(store, folder: Path) -> Artifact:
    return run_step(import_vocabulary, ImportedVocabulary(folder=str(folder)), store=store)


def folder_of(artifact: Artifact, folder: Path) -> Path:
    for name in artifact.names():
        (folder / name).write_bytes(artifact.read(name))
    return folder


def test_a_released_model_is_gone_on_with_fine_tuned_evaluated_and_served(released, tmp_path):
    store = open_folder(tmp_path / "store")
    vocabulary = imported(store, released)
    model, still = our_config(released), {"learning_rate": 1e-12, "precision": "float32"}
    config = PretrainConfig(
        model=model,
        train=TrainConfig(steps=2, batch_size=4, **still),
        start=ReleasedFolder(folder=str(released)),
    )
    tune = FinetuneConfig(task=TASK, model=model, train=EpochsConfig(epochs=1, **still), seeds=(0,))
    examples = run_step(tuning.make_examples, {"train": 24, "dev": 6, "test": 6}, store=store)
    with launch.at(Place(threads=1)):
        instances = run_step(prepare, None, store=store, vocabulary=vocabulary)
        further = run_step(pretrain, config, store=store, instances=(instances,), vocabulary=vocabulary)
        shared = {"examples": examples, "vocabulary": vocabulary}
        tuned = run_step(finetune, tune, store=store, pretrained=further, **shared)
    original, weights = import_folder(released).state_dict(), pretrained_weights(further)
    assert original.keys() == weights.keys()
    assert all(torch.allclose(weights[name], tensor, atol=1e-6) for name, tensor in original.items())
    classifier = pretrained_weights(tuned)
    encoder = [name for name in original if name.startswith("roberta.")]
    assert all(torch.allclose(classifier[name], original[name], atol=1e-6) for name in encoder)

    best = tuned.read_json("scores.json")["best"]
    scored = score_examples(EvaluateConfig(split="test"), tuned, examples, vocabulary, report=SILENT)
    assert scored["scores"]["accuracy"] == best["test_accuracy"]
    exported = run_step(
        export_classifier, ExportConfig(name="which"), store=store, model=tuned, vocabulary=vocabulary
    )
    predictor = load_folder(folder_of(exported, tmp_path))
    predictor.check()
    [answer] = predictor.run([predictor.prepare("a b three", predictor.read({}))])
    assert {guess["label"] for guess in answer} == set(tuning.LABELS)


def test_a_released_model_answers_here_as_in_transformers(released, tmp_path, store):
    config = ReleaseConfig(name="theirs", release=ReleasedFolder(folder=str(released)))
    artifact = run_step(export_release, config, store=store, vocabulary=imported(store, released))
    facts = artifact.read_json("cloze.json")
    assert (facts["task"], facts["lineage"]["release"]) == ("fill-mask", config.release.sha256)
    assert 'print(ask("A word is <mask>."))' in artifact.read("README.md").decode()
    predictor = load_folder(folder_of(artifact, tmp_path))
    predictor.check()
    ask = transformers.pipeline("fill-mask", model=str(released), device="cpu")
    text = "the <mask> of  <mask>."
    ours, theirs = predictor.run([predictor.prepare(text, predictor.read({}))])[0], ask(text)
    for mine, other in zip(ours, theirs, strict=True):
        assert [guess["sequence"] for guess in mine] == [guess["sequence"] for guess in other]
        assert [g["score"] for g in mine] == pytest.approx([g["score"] for g in other], abs=1e-5)
    # and it is an encoder to fine-tune
    assert pretrained_config(artifact) == our_config(released)
    load_encoder(classifier_of(our_config(released), TASK), pretrained_weights(artifact))


def test_a_released_classifier_keeps_its_labels(tmp_path, store):
    labels = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}, "embedding_size": 8}
    folder = release(tmp_path, transformers.AlbertForSequenceClassification, albert(), **labels)
    config = ReleaseConfig(name="theirs", release=ReleasedFolder(folder=str(folder)))
    artifact = run_step(export_release, config, store=store, vocabulary=imported(store, folder))
    assert artifact.read_json("cloze.json")["labels"] == ["no", "yes"]
    (tmp_path / "out").mkdir()
    predictor = load_folder(folder_of(artifact, tmp_path / "out"))
    predictor.check()
    [ours] = predictor.run([predictor.prepare("The list's naïve", predictor.read({}))])
    ask = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    theirs = ask("The list's naïve", top_k=None)
    assert [g["label"] for g in ours] == [g["label"] for g in theirs]
    assert [g["score"] for g in ours] == pytest.approx([g["score"] for g in theirs], abs=1e-5)


def test_what_a_folder_holds_names_a_result_and_not_where_it_lies(released, tmp_path):
    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    train = TrainConfig(steps=1, batch_size=4)
    here, there, without = (
        PretrainConfig(model=our_config(released), train=train, start=start)
        for start in (ReleasedFolder(folder=str(released)), ReleasedFolder(folder=str(copy)), None)
    )
    assert plain(here) == plain(there) != plain(without)
    assert str(released) not in json.dumps(plain(here))
    assert revived(plain(here), PretrainConfig) == here, "what a manifest says of a run is read again"
    tensors = load_file(copy / "model.safetensors")
    tensors["lm_head.bias"][0] += 1
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(
        ValueError, match=f"{copy} does not hold the model .* any more; run the command again"
    ):
        first_weights(there.start, there.model)
    assert ReleasedFolder(folder=str(copy)) != here.start


def test_dropout_is_the_runs_own(released):
    start = ReleasedFolder(folder=str(released))
    config = replace(our_config(released), dropout=0.3, initializer_std=0.01)
    assert first_weights(start, config).keys() == first_weights(start, our_config(released)).keys()


def test_another_shape_or_family_is_refused_naming_the_field(released, tmp_path):
    start, config = ReleasedFolder(folder=str(released)), our_config(released)
    for name, value, theirs in (
        ("hidden_size", 32, 16),
        ("max_seq_len", 64, 32),
        ("layer_norm_eps", 1e-12, 1e-05),
    ):
        sentence = f"model.{name} {value}: {released} has {theirs}; set pretrain.model.{name}={theirs}"
        with pytest.raises(ValueError, match=re.escape(sentence)):
            first_weights(start, replace(config, **{name: value}))
    with pytest.raises(ValueError, match="has model_type 'roberta'; read are albert"):
        first_weights(start, AlbertConfig(vocab_size=9, **TINY))
    with pytest.raises(ValueError, match="a MassConfig has no counterpart in transformers; leave start out"):
        first_weights(start, MassConfig(vocab_size=9, num_decoder_layers=1, **TINY))
    with pytest.raises(ValueError, match="folder is empty"):
        ReleasedFolder()
    with pytest.raises(ValueError, match=r"has no config\.json"):
        ReleasedFolder(folder=str(tmp_path))
    (tmp_path / "config.json").write_bytes((released / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        ReleasedFolder(folder=str(tmp_path))


def test_another_vocabulary_is_refused(released, tmp_path, store):
    folder = tmp_path / "bert"
    bert(True).save_pretrained(folder)
    other = encoder_of(imported(store, folder))
    with pytest.raises(
        ValueError, match=r"the vocabulary is not the tokenizer in .*; set corpus\.vocabulary to an Imp"
    ):
        keep_start(ReleasedFolder(folder=str(released)), our_config(released), other, store)


@pytest.mark.parametrize(
    ("config", "task", "auto"),
    [
        (BertConfig(vocab_size=9, **TINY), "fill-mask", "AutoModelForMaskedLM"),
        (Gpt2Config(vocab_size=9, **TINY), "text-generation", "AutoModelForCausalLM"),
        (XLNetConfig(vocab_size=9, **TINY), "text-generation", "AutoModelForCausalLM"),
        (
            BartConfig(vocab_size=9, num_decoder_layers=1, **TINY),
            "text2text-generation",
            "AutoModelForSeq2SeqLM",
        ),
    ],
)
def test_a_card_says_what_the_model_does(config, task, auto):
    card = fitting(Card(name="x"), config.network(seed=None), {})
    assert card.task == task
    text = readme(card, family="x", shape={})
    assert f"pipeline_tag: {task}" in text
    assert auto in text
