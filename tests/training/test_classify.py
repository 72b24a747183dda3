"""Classification: what is encoded, what is scored, what is taken over from pretraining."""

import numpy as np
import pytest
import torch

from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from training.models.bert import BertConfig, BertForPretraining
from training.tasks.classify import (
    BertForClassification,
    ClassifyConfig,
    encode,
    load_encoder,
    score,
    shorten,
)

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
