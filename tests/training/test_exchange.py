"""Exported folders open in transformers with the same answers, theirs open here, and nothing else does."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from tests.training.masked import shaken
from training.batches import TokenBatch
from training.card import Card
from training.exchange import export_folder, import_folder
from training.models.bert import BertConfig, BertForPretraining
from training.tasks.classify import BertForClassification, ClassifyConfig

WORDS = ["the", "list", "return", "##s", "a", "sorted", "ray", ".", "x"]
VOCABULARY = vocabulary_files([*SPECIAL_TOKENS, *WORDS], lowercase=True)
TEXTS = ["The list returns a sorted list.", "x"]
CONFIG = BertConfig(
    vocab_size=len(SPECIAL_TOKENS) + len(WORDS),
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    feed_forward_size=48,
    max_seq_len=40,
)
CARD = Card(
    name="bert-test",
    lineage={"corpus": "ingest/ab12", "run": "pretrain/cd34"},
    scores={"masked_lm_loss": 2.345},
)
LABELS = ["numpy", "torch", "ray"]


@pytest.fixture
def pretrained(tmp_path: Path) -> tuple[BertForPretraining, Path]:
    model = shaken(BertForPretraining(CONFIG))
    export_folder(model, tmp_path, vocabulary=VOCABULARY, card=CARD)
    return model, tmp_path


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[BertForClassification, Path]:
    model = shaken(BertForClassification(CONFIG, ClassifyConfig(num_labels=3, max_seq_len=40)))
    card = Card(name="which-package", labels=LABELS, scores={"accuracy": 0.5})
    export_folder(model, tmp_path, vocabulary=VOCABULARY, card=card)
    return model, tmp_path


def stream(folder: Path) -> TokenBatch:
    """TEXTS as our encoder and transformers' tokenizer both read them."""
    encoder = Encoder.from_files(folder)
    encoded = encoder.encode(TEXTS)
    rows = [
        [encoder.cls_id, *encoded.tokens_T[a:b].tolist(), encoder.sep_id]
        for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXTS)["input_ids"] == rows
    assert tokenizer.model_max_length == CONFIG.max_seq_len
    return TokenBatch.from_sequences(rows)


def test_fill_mask_opens_in_transformers_with_the_same_logits(pretrained):
    model, folder = pretrained
    batch = stream(folder)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    both = transformers.BertForPreTraining.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    real_BL = inputs["attention_mask"].bool()
    everywhere = torch.arange(len(batch.tokens_T))
    torch.testing.assert_close(
        model.masked_lm_logits(batch, everywhere), theirs(**inputs).logits[real_BL], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        model.next_sentence_logits(batch), both(**inputs).seq_relationship_logits, atol=1e-5, rtol=1e-5
    )
    answers = transformers.pipeline("fill-mask", model=str(folder), device="cpu")("the [MASK] .")
    assert len(answers) == 5


def test_classification_opens_in_transformers_with_the_same_logits_and_labels(classifier):
    model, folder = classifier
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    torch.testing.assert_close(model.logits(stream(folder)), theirs(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert theirs.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("exported", ["pretrained", "classifier"])
def test_a_folder_gives_back_the_same_weights(exported, request):
    model, folder = request.getfixturevalue(exported)
    back = import_folder(folder)
    assert type(back) is type(model)
    assert back.config == model.config
    own = back.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in back.parameters())


def test_the_same_model_is_exported_in_the_same_bytes(pretrained, tmp_path):
    model, folder = pretrained
    export_folder(model, tmp_path / "again", vocabulary=VOCABULARY, card=CARD)
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    assert names == sorted(file.name for file in (tmp_path / "again").iterdir())
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_the_card_says_where_it_comes_from(pretrained):
    _, folder = pretrained
    facts = json.loads((folder / "cloze.json").read_text())
    assert (facts["task"], facts["labels"], facts["family"], facts["name"]) == (
        "fill-mask",
        None,
        "bert",
        "bert-test",
    )
    assert facts["lineage"] == {"corpus": "ingest/ab12", "run": "pretrain/cd34"}
    card = (folder / "README.md").read_text()
    for words in (
        "pipeline_tag: fill-mask",
        "| corpus | `ingest/ab12` |",
        "| masked_lm_loss | 2.345 |",
        "| vocab size |",
    ):
        assert words in card


THEIRS = {
    "vocab_size": 31,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForMaskedLM", "BertForSequenceClassification"])
def test_a_checkpoint_of_transformers_opens_here(kind, tmp_path):
    torch.manual_seed(0)
    theirs = shaken(getattr(transformers, kind)(transformers.BertConfig(**THEIRS)))
    theirs.save_pretrained(tmp_path)
    ours = import_folder(tmp_path).eval()
    row = torch.arange(5, 19)
    batch, everywhere = TokenBatch.from_sequences([row.numpy()]), torch.arange(len(row))
    expected = theirs(input_ids=row[None])
    if kind == "BertForSequenceClassification":
        torch.testing.assert_close(ours.logits(batch), expected.logits, atol=1e-5, rtol=1e-5)
    else:
        scores = expected.logits if kind == "BertForMaskedLM" else expected.prediction_logits
        torch.testing.assert_close(ours.masked_lm_logits(batch, everywhere), scores[0], atol=1e-5, rtol=1e-5)
        assert torch.isfinite(ours.next_sentence_logits(batch)).all()


def test_an_older_checkpoint_opens_here(pretrained):
    model, folder = pretrained
    tensors = load_file(folder / "model.safetensors")
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(tensors, folder / "model.safetensors")
    own = import_folder(folder).state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "t5"}, "has model_type 't5'; read are bert, "),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "has auto_map, which asks to run code"),
        ({"hidden_act": "relu"}, "has hidden_act 'relu'; BERT has 'gelu'"),
        (
            {"architectures": ["BertForTokenClassification"]},
            "has architecture BertForTokenClassification; read are",
        ),
        (
            {"intermediate_size": 64},
            r"tensor bert.encoder.layer.0.intermediate.dense.weight is \(48, 32\) here and \(64, 32\) by its config.json",
        ),
        (
            {"num_hidden_layers": 3},
            r"model.safetensors: no tensor bert.encoder.layer.2.attention.self.query.weight, \(32, 32\)",
        ),
        (
            {"num_hidden_layers": 1},
            r"model.safetensors: a tensor bert.encoder.layer.1.attention.output.LayerNorm.bias, \(32,\), that",
        ),
        ({"vocab_size": None}, "has no vocab_size"),
    ],
)
def test_another_model_is_refused_in_one_sentence(pretrained, change, words):
    _, folder = pretrained
    facts = {**json.loads((folder / "config.json").read_text()), **change}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    with pytest.raises(ValueError, match=words):
        import_folder(folder)


def test_pickles_and_broken_files_are_refused_in_one_sentence(pretrained):
    _, folder = pretrained
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        import_folder(folder)
    weights.unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        import_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        import_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        import_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=re.escape(f"{folder} has no config.json")):
        import_folder(folder)


def test_an_export_that_would_answer_differently_leaves_nothing(tmp_path):
    model = BertForPretraining(CONFIG)
    with torch.no_grad():
        model.next_sentence.bias[0] = torch.nan
    with pytest.raises(RuntimeError, match="differs in its logits by nan"):
        export_folder(model, tmp_path / "out", vocabulary=VOCABULARY, card=CARD)
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    model = BertForPretraining(CONFIG)
    short = vocabulary_files([*SPECIAL_TOKENS, "the"], lowercase=True)
    with pytest.raises(ValueError, match="the vocabulary has 6 entries and the model 14"):
        export_folder(model, tmp_path, vocabulary=short, card=CARD)
    with pytest.raises(ValueError, match="the card names 2 different labels and the model has None"):
        export_folder(model, tmp_path, vocabulary=VOCABULARY, card=Card(name="x", labels=["a", "b"]))
    with pytest.raises(ValueError, match=r"the vocabulary has no tokenizer\.json"):
        export_folder(model, tmp_path, vocabulary={"vocab.txt": b""}, card=CARD)
