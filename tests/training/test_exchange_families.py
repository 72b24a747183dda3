"""Every encoder family leaves for transformers and comes back, with whichever vocabulary it was trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from corpus.vocabulary.byte_files import BYTE_ALPHABET, RobertaTokens, byte_bpe_files
from corpus.vocabulary.unigram import UnigramEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from tests.training.masked import shaken
from training.batches import TokenBatch
from training.card import Card
from training.exchange import export_folder, import_folder
from training.models.albert import AlbertConfig, AlbertForPretraining
from training.models.bert import BertConfig, BertForPretraining
from training.models.roberta import RobertaConfig, RobertaForPretraining
from training.models.spanbert import SpanBertConfig, SpanBertForPretraining

TEXTS = ["the list returns a list.", "the"]
SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "feed_forward_size": 48, "max_seq_len": 40}
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "l"), ("Ġl", "i"), ("s", "t")]
BYTES = [*RobertaTokens().names, *BYTE_ALPHABET, *("".join(merge) for merge in MERGES)]
LETTERS = [(letter, -4.0) for letter in "▁thelisrurna."]
VOCABULARIES = {
    "WordPiece": vocabulary_files(
        [*SPECIAL_TOKENS, "the", "list", "return", "##s", "a", "."], lowercase=True
    ),
    "bytes": byte_bpe_files(BYTES, MERGES),
    "Unigram": UnigramEncoder(
        [("<unk>", 0.0), *dict(LETTERS).items(), ("▁the", -2.0), ("list", -2.0)]
    ).files(),
}
ENTRIES = {"WordPiece": 11, "bytes": len(BYTES), "Unigram": 19}
CARD = Card(name="test")
CASES = [
    (BertConfig, "WordPiece"),
    (BertConfig, "bytes"),
    (BertConfig, "Unigram"),
    (RobertaConfig, "bytes"),
    (RobertaConfig, "WordPiece"),
    (AlbertConfig, "Unigram"),
    (AlbertConfig, "WordPiece"),
    (SpanBertConfig, "WordPiece"),
]
AS_READ = {SpanBertForPretraining: BertForPretraining}  # what a folder is when nobody says otherwise


def model_of(family: type, kind: str) -> torch.nn.Module:
    other = {"pad_id": 0} if family is RobertaConfig and kind == "WordPiece" else {}
    return shaken(family(vocab_size=ENTRIES[kind], **SHAPE, **other).network(seed=0))


def stream(rows: list[list[int]]) -> TokenBatch:
    return TokenBatch.from_sequences([torch.tensor(row).numpy() for row in rows])


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_an_export_opens_in_transformers_with_the_same_logits(family, kind, tmp_path):
    model = model_of(family, kind)
    export_folder(model, tmp_path, vocabulary=VOCABULARIES[kind], card=CARD)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == 40
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch = stream(tokenizer(TEXTS)["input_ids"])
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert theirs.config.pad_token_id == tokenizer.pad_token_id
    torch.testing.assert_close(
        model.masked_lm_logits(batch, torch.arange(batch.num_tokens)),
        theirs(**inputs).logits[inputs["attention_mask"].bool()],
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_folder_gives_back_the_same_weights(family, kind, tmp_path):
    model = model_of(family, kind)
    export_folder(model, tmp_path, vocabulary=VOCABULARIES[kind], card=CARD)
    back = import_folder(tmp_path, family=family)
    assert type(back) is type(model)
    assert type(import_folder(tmp_path)) is AS_READ.get(type(model), type(model))
    assert back.config == model.config
    own = back.state_dict()
    left = {name for name in own if name.startswith("span_boundary.")}  # exported without its head for spans
    assert bool(left) == (family is SpanBertConfig)
    assert all(torch.equal(t, own[name]) for name, t in model.state_dict().items() if name not in left)
    assert all(torch.isfinite(own[name]).all() for name in left)


def test_a_folder_has_the_files_of_its_vocabulary_and_says_its_family(tmp_path):
    export_folder(model_of(RobertaConfig, "bytes"), tmp_path, vocabulary=VOCABULARIES["bytes"], card=CARD)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "cloze.json",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    config = json.loads((tmp_path / "config.json").read_text())
    assert {name: config[name] for name in ("model_type", "architectures", "max_position_embeddings")} == {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM"],
        "max_position_embeddings": 42,
    }
    assert [config[f"{name}_token_id"] for name in ("bos", "pad", "eos")] == [0, 1, 2]
    assert json.loads((tmp_path / "cloze.json").read_text())["family"] == "roberta"


def test_a_pretrained_sentence_head_returns_too(tmp_path):
    model = model_of(AlbertConfig, "Unigram")
    export_folder(model, tmp_path, vocabulary=VOCABULARIES["Unigram"], card=CARD)
    theirs = transformers.AlbertForPreTraining.from_pretrained(tmp_path).eval()
    row = torch.arange(1, 15)
    segments = (torch.arange(14) > 8).long()
    logits = theirs(input_ids=row[None], token_type_ids=segments[None]).sop_logits
    batch = TokenBatch.from_sequences([row.numpy()], [9])
    torch.testing.assert_close(model.sentence_order_logits(batch), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_an_albert_keeps_its_gelu(exact, tmp_path):
    config = AlbertConfig(vocab_size=ENTRIES["Unigram"], exact_gelu=exact, **SHAPE)
    export_folder(config.network(), tmp_path, vocabulary=VOCABULARIES["Unigram"], card=CARD)
    assert import_folder(tmp_path).config.exact_gelu == exact
    assert transformers.AutoConfig.from_pretrained(tmp_path).hidden_act == ("gelu" if exact else "gelu_new")


THEIRS = {
    "vocab_size": 31,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
RELEASED = [  # class, config, ours, tensors that older or larger files have besides
    ("BertForMaskedLM", {}, BertForPretraining, ["bert.embeddings.position_ids"]),
    (
        "RobertaForMaskedLM",
        {"type_vocab_size": 1, "max_position_embeddings": 60},
        RobertaForPretraining,
        ["roberta.embeddings.position_ids", "roberta.pooler.dense.weight", "roberta.pooler.dense.bias"],
    ),
    ("AlbertForMaskedLM", {"embedding_size": 12}, AlbertForPretraining, ["albert.embeddings.position_ids"]),
    ("AlbertForPreTraining", {"embedding_size": 12, "hidden_act": "gelu"}, AlbertForPretraining, []),
]


@pytest.mark.parametrize(("name", "extra", "kind", "besides"), RELEASED)
def test_a_checkpoint_of_transformers_opens_here(name, extra, kind, besides, tmp_path):
    torch.manual_seed(0)
    network = getattr(transformers, name)
    theirs = shaken(network(network.config_class(**THEIRS, **extra)))
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {other: torch.zeros(3) for other in besides}, tmp_path / "model.safetensors")
    ours = import_folder(tmp_path).eval()
    assert type(ours) is kind
    row = torch.arange(5, 19)
    expected = theirs(input_ids=row[None])
    scores = expected.prediction_logits if name.endswith("PreTraining") else expected.logits
    logits = ours.masked_lm_logits(stream([row.tolist()]), torch.arange(len(row)))
    torch.testing.assert_close(logits, scores[0], atol=1e-5, rtol=1e-5)
    again = import_folder(tmp_path).state_dict()  # heads it has not are drawn, always the same
    assert all(torch.equal(t, again[n]) for n, t in ours.state_dict().items())


@pytest.mark.parametrize(
    ("copy", "original", "name", "extra"),
    [
        (
            "lm_head.decoder.weight",
            "roberta.embeddings.word_embeddings.weight",
            "RobertaForMaskedLM",
            RELEASED[1][1],
        ),
        ("predictions.decoder.bias", "predictions.bias", "AlbertForPreTraining", {"embedding_size": 12}),
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", "BertForMaskedLM", {}),
    ],
)
def test_a_tied_tensor_may_be_there_twice_or_under_either_name_but_not_differ(
    copy, original, name, extra, tmp_path
):
    network = getattr(transformers, name)
    shaken(network(network.config_class(**THEIRS, **extra))).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    expected = import_folder(tmp_path).state_dict()
    tensors[copy] = tensors[original].clone()
    for twice in (tensors, {n: t for n, t in tensors.items() if n != original}):
        save_file(twice, path)
        assert all(torch.equal(t, expected[n]) for n, t in import_folder(tmp_path).state_dict().items())
    save_file(tensors | {copy: tensors[original] + 1}, path)
    with pytest.raises(ValueError, match=f"tensor {copy} differs from {original}"):
        import_folder(tmp_path)


def test_a_compact_bert_that_names_no_architecture_opens_here(tmp_path):
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**THEIRS))
    theirs.save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | {"architectures": None}))
    assert type(import_folder(tmp_path)) is BertForPretraining


def test_a_spanbert_continues_from_any_bert(tmp_path):
    theirs = shaken(transformers.BertForPreTraining(transformers.BertConfig(**THEIRS)))
    theirs.save_pretrained(tmp_path)
    span = import_folder(tmp_path, family=SpanBertConfig)
    plain = import_folder(tmp_path).state_dict()
    assert type(span) is SpanBertForPretraining
    shared = [name for name in span.state_dict() if not name.startswith("span_boundary.")]
    assert all(torch.equal(span.state_dict()[name], plain[name]) for name in shared)
    with pytest.raises(ValueError, match="has model_type 'bert'; read are albert"):
        import_folder(tmp_path, family=AlbertConfig)


REFUSED = [
    (RobertaConfig, {"type_vocab_size": 2}, "has type_vocab_size 2; RoBERTa has 1"),
    (RobertaConfig, {"hidden_act": "relu"}, "has hidden_act 'relu'; RoBERTa has 'gelu'"),
    (RobertaConfig, {"max_position_embeddings": 2}, "max_seq_len 0: it is a count"),
    (RobertaConfig, {"pad_token_id": None}, "has pad_token_id None; it must be a number"),
    (RobertaConfig, {"architectures": ["RobertaForTokenClassification"]}, "has architecture RobertaForToken"),
    (
        RobertaConfig,
        {"num_hidden_layers": 3},
        "no tensor roberta.encoder.layer.2.attention.self.query.weight",
    ),
    (AlbertConfig, {"num_hidden_groups": 2}, "has num_hidden_groups 2; ALBERT has 1"),
    (AlbertConfig, {"inner_group_num": 2}, "has inner_group_num 2; ALBERT has 1"),
    (AlbertConfig, {"hidden_act": "relu"}, "has hidden_act 'relu'; ALBERT has gelu or gelu_new"),
    (AlbertConfig, {"embedding_size": 64}, r"word_embeddings.weight is \(19, 128\) here and \(19, 64\)"),
    (AlbertConfig, {"hidden_size": "32"}, "has hidden_size '32'; it must be a number"),
    (AlbertConfig, {"hidden_size": True}, "has hidden_size True; it must be a number"),
    (AlbertConfig, {"num_attention_heads": 5}, "hidden_size 32 with num_heads 5"),
    (AlbertConfig, {"auto_map": {"AutoModel": "evil.Model"}}, "has auto_map, which asks to run code"),
    (BertConfig, {"is_decoder": True}, "has is_decoder True; BERT has False"),
    (BertConfig, {"model_type": ["bert"]}, r"has model_type \['bert'\]; read are bert, roberta, albert"),
]


@pytest.mark.parametrize(("family", "change", "words"), REFUSED)
def test_another_network_is_refused_in_one_sentence(family, change, words, tmp_path):
    kind = {RobertaConfig: "bytes", AlbertConfig: "Unigram", BertConfig: "WordPiece"}[family]
    export_folder(model_of(family, kind), tmp_path, vocabulary=VOCABULARIES[kind], card=CARD)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | change))
    with pytest.raises(ValueError, match=words) as caught:
        import_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", [RobertaConfig, AlbertConfig, SpanBertConfig])
def test_an_export_that_would_answer_differently_leaves_nothing(family: type, tmp_path: Path):
    kind = "bytes" if family is RobertaConfig else "Unigram" if family is AlbertConfig else "WordPiece"
    model = model_of(family, kind)
    with torch.no_grad():
        model.masked_lm.bias[3] = torch.inf
    with pytest.raises(RuntimeError, match="differs in its logits by nan"):
        export_folder(model, tmp_path, vocabulary=VOCABULARIES[kind], card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_cannot_be_read_back_leaves_nothing(tmp_path, monkeypatch):
    def unreadable(folder: Path):
        raise ValueError("no tensor here")

    monkeypatch.setattr("training.exchange.folder.import_folder", unreadable)
    with pytest.raises(ValueError, match="no tensor here"):
        export_folder(model_of(BertConfig, "bytes"), tmp_path, vocabulary=VOCABULARIES["bytes"], card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_that_pads_with_another_token_is_refused(tmp_path):
    config = replace(model_of(RobertaConfig, "bytes").config, vocab_size=11)
    with pytest.raises(
        ValueError, match="the model's pad_token_id is 1 and the vocabulary's 0; give the vocab"
    ):
        export_folder(config.network(), tmp_path, vocabulary=VOCABULARIES["WordPiece"], card=CARD)
    with pytest.raises(ValueError, match="the vocabulary has 11 entries and the model 19; give the one"):
        export_folder(
            model_of(AlbertConfig, "Unigram"), tmp_path, vocabulary=VOCABULARIES["WordPiece"], card=CARD
        )
    assert not list(tmp_path.iterdir())


def test_a_network_without_counterpart_is_refused(tmp_path):
    model = model_of(BertConfig, "WordPiece")
    model.config = type("ElmoConfig", (), {"vocab_size": 11, "max_seq_len": 40})()
    with pytest.raises(
        ValueError, match="a ElmoConfig has no counterpart in transformers; exported are BertConfig"
    ):
        export_folder(model, tmp_path, vocabulary=VOCABULARIES["WordPiece"], card=CARD)
