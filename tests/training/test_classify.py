"""Classification: what is encoded, what is scored, what is taken over from pretraining, and transformers' own answers."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import BYTE_ALPHABET, RobertaTokens, byte_bpe_files
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from tests.training.masked import A_HANDFUL, padded, random_batch, shaken
from training.batches import ClassificationBatch
from training.card import Card
from training.exchange import export_folder, import_folder
from training.models.albert import AlbertConfig
from training.models.bert import BertConfig, BertForPretraining
from training.models.gpt2 import Gpt2Config
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.tasks.classify import (
    BertForClassification,
    ClassifyConfig,
    classifier_of,
    load_encoder,
    score,
)
from training.tasks.examples import encode, shorten

WORDS = list("abcdefghij")
ENCODER = Encoder([*SPECIAL_TOKENS, *WORDS])
CLS, SEP = ENCODER.cls_id, ENCODER.sep_id
CONFIG = BertConfig(
    vocab_size=ENCODER.vocab_size,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    feed_forward_size=64,
    max_seq_len=32,
)
TASK = ClassifyConfig(num_labels=3, max_seq_len=8)
SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "feed_forward_size": 48, "max_seq_len": 40}
BYTES = ByteBPEEncoder([*RobertaTokens().names, *BYTE_ALPHABET], [])
FAMILIES = {
    "BERT": BertConfig(vocab_size=15, **SHAPE),
    "RoBERTa": RobertaConfig(vocab_size=BYTES.vocab_size, **SHAPE),
    "ALBERT": AlbertConfig(vocab_size=15, embedding_size=12, **SHAPE),
    "SpanBERT": SpanBertConfig(vocab_size=15, **SHAPE),
}


def ids(text: str) -> list[int]:
    return [
        SPECIAL_TOKENS.index(word) if word in SPECIAL_TOKENS else 5 + WORDS.index(word)
        for word in text.split()
    ]


def test_single_texts_are_bracketed_and_cut_at_the_end():
    examples = encode(["a b c", "", "a b c d e f g h"], np.array([0, 1, 2]), encoder=ENCODER, config=TASK)
    batch = examples.batch(np.array([2, 0, 1])).tokens
    assert batch.tokens_T.tolist() == ids("[CLS] a b c d e f [SEP]") + ids("[CLS] a b c [SEP]") + ids(
        "[CLS] [SEP]"
    )
    assert batch.cu_seqlens.tolist() == [0, 8, 13, 15]
    assert not batch.segments_T.any()
    assert examples.batch(np.array([2, 0])).labels_B.tolist() == [2, 0]


def test_pairs_are_bracketed_and_the_longer_text_gives_way():
    examples = encode(
        ["a b", "a b c d e f", "a"],
        np.zeros(3, np.int64),
        encoder=ENCODER,
        config=TASK,
        pairs=["c", "g h i j", "b c d e f g h"],
    )
    batch = examples.batch(np.arange(3)).tokens
    rows = ["[CLS] a b [SEP] c [SEP]", "[CLS] a b c [SEP] g h [SEP]", "[CLS] a [SEP] b c d e [SEP]"]
    assert batch.tokens_T.tolist() == [token for row in rows for token in ids(row)]
    assert batch.segments_T.tolist() == [0, 0, 0, 0, 1, 1] + [0] * 5 + [1] * 3 + [0] * 3 + [1] * 5


def test_a_pair_of_byte_level_tokens_is_bracketed_as_robertas():
    files = byte_bpe_files(BYTES.vocabulary, BYTES.merges)
    library = Tokenizer.from_str(files["tokenizer.json"].decode())
    texts, others = ["ab", "a longer text", ""], ["", "c", "and this one is too long"]
    task = ClassifyConfig(num_labels=3, max_seq_len=16)
    examples = encode(texts, np.zeros(3, np.int64), encoder=BYTES, config=task, pairs=others)
    library.enable_truncation(16)
    expected = [library.encode(*both).ids for both in zip(texts, others, strict=True)]
    batch = examples.batch(np.arange(3)).tokens
    edges = batch.cu_seqlens.tolist()
    assert [batch.tokens_T[a:b].tolist() for a, b in pairwise(edges)] == expected
    assert max(np.diff(edges)) == 16


def test_shortening_is_googles_loop_in_closed_form():
    def loop(first: int, second: int, room: int) -> tuple[int, int]:
        while first + second > room:
            if first > second:
                first -= 1
            else:
                second -= 1
        return first, second

    first, second = (side.ravel() for side in np.mgrid[0:14, 0:14])
    for room in range(2, 20):
        kept = np.stack(shorten(first, second, room), axis=1)
        assert kept.tolist() == [list(loop(a, b, room)) for a, b in zip(first, second, strict=True)]


def test_scores_by_hand():
    result = score(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 2]), 4)
    assert result.accuracy == pytest.approx(3 / 5)
    # F1: class 0 2/3, class 1 2/4, class 2 2/3; class 3 never occurs
    assert result.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert result.confusion_CC.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def batch_of(config) -> ClassificationBatch:
    lowest = 2  # no padding token inside a text: transformers does not count it
    tokens = random_batch(
        A_HANDFUL, vocab_size=config.vocab_size, lowest=lowest, pairs=type(config) is not RobertaConfig
    )
    return ClassificationBatch(tokens=tokens.tokens, labels_B=torch.tensor([2, 0, 1, 1, 0]))


def their_inputs(config) -> dict[str, torch.Tensor]:
    batch = random_batch(
        A_HANDFUL, vocab_size=config.vocab_size, lowest=2, pairs=type(config) is not RobertaConfig
    )
    inputs, _ = padded(batch, filler=getattr(config, "pad_id", 0))
    return inputs | {"labels": batch_of(config).labels_B}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_is_transformers_classifier_there_and_back(family: str, tmp_path: Path):
    config = FAMILIES[family]
    model = shaken(classifier_of(config, ClassifyConfig(num_labels=3, max_seq_len=40, dropout=0.25)))
    vocabulary = (
        byte_bpe_files(BYTES.vocabulary, [])
        if family == "RoBERTa"
        else vocabulary_files([*SPECIAL_TOKENS, *WORDS], lowercase=True)
    )
    export_folder(model, tmp_path, vocabulary=vocabulary, card=Card(name="x", labels=["a", "b", "c"]))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert [theirs.config.id2label[i] for i in range(3)] == ["a", "b", "c"]
    parts = [part.p for part in theirs.modules() if isinstance(part, torch.nn.Dropout)]
    assert 0.25 in parts
    expected = theirs(**their_inputs(config))
    batch = batch_of(config)
    torch.testing.assert_close(model.logits(batch.tokens), expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(batch).total, expected.loss, atol=1e-5, rtol=1e-5)

    theirs.save_pretrained(tmp_path / "theirs")
    for folder in (tmp_path, tmp_path / "theirs"):
        back = import_folder(folder).eval()
        as_read = BertForClassification if family == "SpanBERT" else type(model)
        assert type(back) is as_read
        assert back.task == model.task
        assert all(torch.equal(tensor, back.state_dict()[n]) for n, tensor in model.state_dict().items())


@pytest.mark.parametrize(("family", "times"), [("BERT", 1), ("SpanBERT", 1), ("ALBERT", 1), ("RoBERTa", 2)])
def test_dropout_is_before_each_dense_layer_of_the_head_and_only_in_training(family, times, monkeypatch):
    seen: list[float] = []
    monkeypatch.setattr("training.tasks.classify.drop", lambda x, rate: seen.append(rate) or x)
    model = classifier_of(FAMILIES[family], ClassifyConfig(num_labels=3, max_seq_len=40, dropout=0.3))
    model.train()(batch_of(FAMILIES[family]))
    model.eval()(batch_of(FAMILIES[family]))
    assert seen == [0.3] * times + [0.0] * times


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_of_every_family_is_taken_over_and_the_head_stays_fresh(family: str):
    config = FAMILIES[family]
    pretrained = config.network(seed=1).state_dict()
    fresh, model = (classifier_of(config, TASK, seed=7) for _ in range(2))
    load_encoder(model, pretrained)
    own, new = model.state_dict(), fresh.state_dict()
    taken = {name for name in own if name in pretrained}
    assert taken == {
        n for n in own if n.startswith(f"{model.encoder}.") and not (family == "SpanBERT" and "pooler" in n)
    }
    assert all(torch.equal(own[name], (pretrained if name in taken else new)[name]) for name in own)
    drawn = config.network(seed=7).state_dict()
    assert all(torch.equal(new[name], drawn[name]) for name in taken), (
        "fresh or pretrained, an encoder starts alike"
    )


def test_a_family_that_does_not_classify_is_named():
    with pytest.raises(
        ValueError, match="a Gpt2Config does not classify texts; fine-tuned are BertConfig, Rob"
    ):
        classifier_of(Gpt2Config(vocab_size=9, **SHAPE), TASK)


def test_labels_that_are_not_numbered_are_refused(tmp_path: Path):
    theirs = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
    )
    theirs.save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | {"id2label": {"1": "a", "2": "b"}}))
    with pytest.raises(ValueError, match="has id2label for 1, 2; outputs are numbered from 0 without a gap"):
        import_folder(tmp_path)


def test_the_encoder_is_taken_over_and_the_classifier_stays_fresh():
    pretrained = BertForPretraining(CONFIG, seed=1)
    fresh, model = (BertForClassification(CONFIG, TASK, seed=7) for _ in range(2))
    load_encoder(model, pretrained.state_dict())
    own = model.state_dict()
    for name, tensor in pretrained.state_dict().items():
        assert not name.startswith("bert.") or torch.equal(own[name], tensor)
    assert torch.equal(model.classifier.weight, fresh.classifier.weight)
    assert not torch.equal(model.bert.pooler.dense.weight, fresh.bert.pooler.dense.weight)


def test_another_encoder_is_refused_naming_the_first_difference():
    model = BertForClassification(CONFIG, TASK)
    weights = BertForPretraining(CONFIG).state_dict()
    wrong = {**weights, "bert.pooler.dense.bias": torch.zeros(16)}
    with pytest.raises(
        ValueError, match=r"bert.pooler.dense.bias is \(16,\) in these weights and \(32,\) in this model"
    ):
        load_encoder(model, wrong)
    with pytest.raises(ValueError, match=r"bert\.layers\.9\.x is not in this model"):
        load_encoder(model, {**weights, "bert.layers.9.x": torch.zeros(1)})
    del weights["bert.layers.1.attention.out.bias"]
    with pytest.raises(ValueError, match=r"bert.layers.1.attention.out.bias is not in these weights"):
        load_encoder(model, weights)


def test_it_learns_which_letter_comes_first():
    noise = np.random.default_rng(0)
    labels = noise.integers(0, 3, 48)
    texts = [" ".join([WORDS[label], *noise.choice(WORDS[3:], 4)]) for label in labels]
    examples = encode(texts, labels, encoder=ENCODER, config=TASK)
    model = BertForClassification(CONFIG, TASK)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(40):
        optimizer.zero_grad()
        losses = model(examples.batch(np.arange(48)))
        losses.total.backward()
        optimizer.step()
    model.eval()
    predicted = model.logits(examples.batch(np.arange(48)).tokens).argmax(-1).numpy()
    assert score(predicted, labels, 3).accuracy == 1.0
    assert losses.counts["label_count"] == 48


def test_bad_input_gets_one_sentence():
    with pytest.raises(ValueError, match="label 3: labels are 0 to 2"):
        encode(["a"], np.array([3]), encoder=ENCODER, config=TASK)
    with pytest.raises(ValueError, match="max_seq_len 64: this model reads at most 32"):
        BertForClassification(CONFIG, ClassifyConfig(num_labels=2, max_seq_len=64))
    with pytest.raises(ValueError, match="num_labels 0"):
        ClassifyConfig(num_labels=0)
    with pytest.raises(ValueError, match="0 predictions for 0 labels"):
        score(np.array([]), np.array([]), 2)
