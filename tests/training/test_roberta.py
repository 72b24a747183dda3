"""RoBERTa is RoBERTa: published sizes, transformers' answers with the same weights, no padding, no look across a border."""

import math

import pytest
import torch
import transformers

from tests.training import masked
from tests.training.masked import LENGTHS, padded, random_batch
from training.exchange import import_folder
from training.models import roberta
from training.models.roberta import RobertaConfig, RobertaForPretraining

CONFIG = RobertaConfig(
    vocab_size=97, hidden_size=48, num_layers=3, num_heads=4, feed_forward_size=80, max_seq_len=80
)
BATCH = random_batch(
    vocab_size=97, pairs=False, lowest=2
)  # a padding token inside a text: see the family's file


def theirs_like(config: RobertaConfig) -> transformers.RobertaConfig:
    return transformers.RobertaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feed_forward_size,
        max_position_embeddings=config.max_seq_len + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[RobertaForPretraining, transformers.RobertaForMaskedLM]:
    """The same random weights on both sides, biases and norms included."""
    folder = tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    theirs = masked.shaken(transformers.RobertaForMaskedLM(theirs_like(CONFIG)))
    theirs.save_pretrained(folder)
    ours = import_folder(folder)
    assert isinstance(ours, RobertaForPretraining)
    assert ours.config == CONFIG
    return ours.eval(), theirs


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("base", (12, 768, 12), 124_697_433), ("large", (24, 1024, 16), 355_412_057)],
)
def test_published_sizes(name, shape, count):
    config = getattr(roberta, name)()
    assert (config.num_layers, config.hidden_size, config.num_heads) == shape
    with torch.device("meta"):
        theirs = transformers.RobertaForMaskedLM(theirs_like(config))
    assert masked.parameters_in(config.network(seed=None)) == theirs.num_parameters() == count


def test_every_layer_the_head_and_the_loss_equal_transformers_on_a_padded_batch(pair):
    ours, theirs = pair
    inputs, real_BL = padded(BATCH, filler=1)
    expected = theirs(**inputs, output_hidden_states=True)
    states = list(ours.roberta.states(BATCH.tokens))
    assert len(states) == len(expected.hidden_states) == CONFIG.num_layers + 1
    for state, their_state in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(state, their_state[real_BL], atol=1e-5, rtol=1e-5)
    logits_TV = ours.masked_lm_logits(BATCH.tokens, torch.arange(BATCH.num_tokens))
    torch.testing.assert_close(logits_TV, expected.logits[real_BL], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(BATCH).total, expected.loss, atol=1e-5, rtol=1e-5)


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    ours.zero_grad()
    theirs.zero_grad()
    ours(BATCH).total.backward()
    theirs(**padded(BATCH, filler=1)[0]).loss.backward()
    own = {name: p.grad for name, p in ours.named_parameters()}
    assert all(grad is not None for grad in own.values())
    embeddings = theirs.roberta.embeddings
    for name, parameter in {
        "roberta.embeddings.token.weight": embeddings.word_embeddings.weight,
        "roberta.embeddings.position.weight": embeddings.position_embeddings.weight,
        "roberta.embeddings.segment.weight": embeddings.token_type_embeddings.weight,
        "roberta.layers.0.attention.out.weight": theirs.roberta.encoder.layer[
            0
        ].attention.output.dense.weight,
        "masked_lm.transform.weight": theirs.lm_head.dense.weight,
        "masked_lm.bias": theirs.lm_head.bias,
    }.items():
        torch.testing.assert_close(own[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_positions_begin_behind_the_padding_token(pair):
    position = pair[0].roberta.embeddings.position
    position.weight.grad = None
    pair[0](BATCH).total.backward()
    used = position.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [False, False, *[True] * max(LENGTHS), *[False] * (80 - max(LENGTHS))]


def test_a_second_segment_changes_nothing(pair):
    ours, _ = pair
    pairs = random_batch(vocab_size=97, lowest=2)
    assert pairs.tokens.segments_T.any()
    singles = random_batch(vocab_size=97, lowest=2, pairs=False)
    assert torch.equal(ours(pairs).total, ours(singles).total)


def test_packed_equals_alone(pair):
    masked.assert_packed_equals_alone(pair[0].roberta, BATCH)


def test_no_gradient_crosses_a_border(pair):
    masked.assert_no_gradient_crosses_a_border(pair[0].roberta, BATCH)


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    masked.assert_filler_changes_nothing(RobertaForPretraining(CONFIG, seed=1), BATCH, monkeypatch)


def test_autocast_keeps_sums_losses_and_gradients_in_float32(pair):
    masked.assert_autocast_keeps_float32(pair[0], pair[0].roberta, BATCH)


def test_predictions_are_those_of_the_losses(pair):
    masked.assert_predictions_name_the_parts(pair[0], BATCH)


def test_first_weights_are_normal_and_a_function_of_the_seed_alone():
    masked.assert_first_weights(lambda seed: RobertaForPretraining(CONFIG, seed=seed), cut=False)
    embeddings = RobertaForPretraining(CONFIG).roberta.embeddings
    assert not embeddings.token.weight[1].any()
    assert not embeddings.position.weight[1].any()


def test_it_learns_a_handful_of_sequences():
    first, last = masked.learned(RobertaForPretraining(CONFIG), random_batch(masked.A_HANDFUL, vocab_size=97))
    assert first.total.item() == pytest.approx(math.log(97), abs=0.3)
    assert last.total.item() < 0.4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers 0: .* 1 or more"),
        ({"num_layers": 1.5}, r"num_layers 1\.5: it is a count"),
        ({"attention_dropout": -0.1}, "attention_dropout -0.1: .*probability"),
        ({"num_heads": 5}, "hidden_size 48 with num_heads 5: .*multiple of 5"),
        ({"pad_id": -1}, "pad_id -1: it is a token id"),
        ({"pad_id": 97}, "pad_id 97: the vocabulary has 97 entries"),
    ],
)
def test_bad_sizes_get_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        RobertaConfig(**{**vars(CONFIG), **change})


def test_a_text_too_long_gets_one_sentence(pair):
    with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
        pair[0](random_batch([81], vocab_size=97))
