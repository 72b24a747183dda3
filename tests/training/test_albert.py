"""ALBERT is ALBERT: published sizes, transformers' answers with the same weights, one layer's worth of parameters."""

import math

import pytest
import torch
import transformers

from tests.training import masked
from tests.training.masked import padded, random_batch
from training.exchange import import_folder
from training.models import albert
from training.models.albert import AlbertConfig, AlbertForPretraining

CONFIG = AlbertConfig(
    vocab_size=97,
    hidden_size=48,
    embedding_size=20,
    num_layers=4,
    num_heads=4,
    feed_forward_size=80,
    max_seq_len=80,
)
BATCH = random_batch(vocab_size=97)


def theirs_like(config: AlbertConfig) -> transformers.AlbertConfig:
    return transformers.AlbertConfig(
        vocab_size=config.vocab_size,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feed_forward_size,
        max_position_embeddings=config.max_seq_len,
        hidden_act="gelu" if config.exact_gelu else "gelu_new",
    )


def pair_of(config: AlbertConfig, folder) -> tuple[AlbertForPretraining, transformers.AlbertForPreTraining]:
    """The same random weights on both sides, biases and norms included."""
    torch.manual_seed(0)
    theirs = masked.shaken(transformers.AlbertForPreTraining(theirs_like(config)))
    theirs.save_pretrained(folder)
    ours = import_folder(folder)
    assert isinstance(ours, AlbertForPretraining)
    assert ours.config == config
    return ours.eval(), theirs


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[AlbertForPretraining, transformers.AlbertForPreTraining]:
    return pair_of(CONFIG, tmp_path_factory.mktemp("theirs"))


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [  # of the encoder with its pooler; the paper says 12, 18, 60 and 235 million
        ("base", (12, 768, 12, 3072), 11_683_584),
        ("large", (24, 1024, 16, 4096), 17_683_968),
        ("xlarge", (24, 2048, 16, 8192), 58_724_864),
        ("xxlarge", (12, 4096, 64, 16384), 222_595_584),
    ],
)
def test_published_sizes(name, shape, count):
    config = getattr(albert, name)()
    assert (config.num_layers, config.hidden_size, config.num_heads, config.feed_forward_size) == shape
    assert (config.embedding_size, config.dropout, config.attention_dropout) == (128, 0, 0)
    with torch.device("meta"):
        theirs = transformers.AlbertForPreTraining(theirs_like(config))
    model = config.network(seed=None)
    assert masked.parameters_in(model) == theirs.num_parameters()
    assert masked.parameters_in(model.albert) == count


def test_version_1_has_dropout():
    config = albert.version_1(albert.base())
    assert (config.dropout, config.attention_dropout) == (0.1, 0.1)
    assert config.hidden_size == albert.base().hidden_size


@pytest.mark.parametrize("exact", [False, True])
def test_every_layer_both_heads_and_the_loss_equal_transformers_on_a_padded_batch(exact, tmp_path):
    ours, theirs = pair_of(AlbertConfig(**{**vars(CONFIG), "exact_gelu": exact}), tmp_path)
    inputs, real_BL = padded(BATCH)
    inputs["sentence_order_label"] = BATCH.pair_label_B
    expected = theirs(**inputs, output_hidden_states=True)
    states = list(ours.albert.states(BATCH.tokens))
    assert len(states) == len(expected.hidden_states) == CONFIG.num_layers + 1
    for state, their_state in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(state, their_state[real_BL], atol=1e-5, rtol=1e-5)
    logits_TV = ours.masked_lm_logits(BATCH.tokens, torch.arange(BATCH.num_tokens))
    torch.testing.assert_close(logits_TV, expected.prediction_logits[real_BL], atol=1e-5, rtol=1e-5)
    order_B2 = ours.sentence_order_logits(BATCH.tokens)
    torch.testing.assert_close(order_B2, expected.sop_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(BATCH).total, expected.loss, atol=1e-5, rtol=1e-5)


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    ours.zero_grad()
    theirs.zero_grad()
    ours(BATCH).total.backward()
    theirs(**padded(BATCH)[0], sentence_order_label=BATCH.pair_label_B).loss.backward()
    own = {name: p.grad for name, p in ours.named_parameters()}
    assert all(grad is not None for grad in own.values())
    layer = theirs.albert.encoder.albert_layer_groups[0].albert_layers[0]
    qkv = [getattr(layer.attention, part).weight.grad for part in ("query", "key", "value")]
    for name, grad in {
        "albert.embeddings.token.weight": theirs.albert.embeddings.word_embeddings.weight.grad,
        "albert.widen.weight": theirs.albert.encoder.embedding_hidden_mapping_in.weight.grad,
        "albert.layer.attention.qkv.weight": torch.cat(qkv),
        "albert.layer.feed_forward.up.weight": layer.ffn.weight.grad,
        "albert.layer.feed_forward_norm.bias": layer.full_layer_layer_norm.bias.grad,
        "masked_lm.transform.weight": theirs.predictions.dense.weight.grad,
        "sentence_order.weight": theirs.sop_classifier.classifier.weight.grad,
    }.items():
        torch.testing.assert_close(own[name], grad, atol=2e-5, rtol=1e-4)


def test_more_layers_are_more_rounds_with_the_same_parameters(pair):
    ours, _ = pair
    twice = AlbertForPretraining(AlbertConfig(**{**vars(CONFIG), "num_layers": 8})).eval()
    twice.load_state_dict(ours.state_dict())
    long, short = list(twice.albert.states(BATCH.tokens)), list(ours.albert.states(BATCH.tokens))
    assert (len(long), len(short)) == (9, 5)
    assert all(torch.equal(a, b) for a, b in zip(long[:5], short, strict=True))
    assert not torch.equal(long[5], long[4])


def test_without_pairs_there_is_no_order_loss(pair):
    singles = random_batch(vocab_size=97, pairs=False)
    assert list(pair[0](singles).parts) == list(pair[0].predictions(singles)) == ["masked_lm"]


def test_packed_equals_alone(pair):
    masked.assert_packed_equals_alone(pair[0].albert, BATCH)


def test_no_gradient_crosses_a_border(pair):
    masked.assert_no_gradient_crosses_a_border(pair[0].albert, BATCH)


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    masked.assert_filler_changes_nothing(AlbertForPretraining(CONFIG, seed=1), BATCH, monkeypatch)


def test_autocast_keeps_sums_losses_and_gradients_in_float32(pair):
    masked.assert_autocast_keeps_float32(pair[0], pair[0].albert, BATCH)


def test_predictions_are_those_of_the_losses(pair):
    masked.assert_predictions_name_the_parts(pair[0], BATCH)


def test_first_weights_are_cut_normal_and_a_function_of_the_seed_alone():
    masked.assert_first_weights(lambda seed: AlbertForPretraining(CONFIG, seed=seed), cut=True)


def test_it_learns_a_handful_of_sequences():
    first, last = masked.learned(AlbertForPretraining(CONFIG), random_batch(masked.A_HANDFUL, vocab_size=97))
    assert first.total.item() == pytest.approx(math.log(97) + math.log(2), abs=0.3)
    assert last.total.item() < 0.4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding_size": 0}, "embedding_size 0: .* 1 or more"),
        ({"dropout": 1}, "dropout 1: .*probability"),
        ({"num_heads": 5}, "hidden_size 48 with num_heads 5: .*multiple of 5"),
    ],
)
def test_bad_sizes_get_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        AlbertConfig(**{**vars(CONFIG), **change})
