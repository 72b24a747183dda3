"""BERT is BERT: published sizes, transformers' answers with the same weights, no padding, no look across a
border.
"""

import math

import numpy as np
import pytest
import torch
import transformers

from tests.training import masked
from tests.training.masked import LENGTHS
from training.batches import TokenBatch
from training.exchange import import_folder
from training.models import bert
from training.models.bert import BertConfig, BertForPretraining
from training.pretraining_batches import MaskedBatch

CONFIG = BertConfig(
    vocab_size=97, hidden_size=48, num_layers=3, num_heads=4, feed_forward_size=80, max_seq_len=80
)


def theirs_like(config: BertConfig) -> transformers.BertConfig:
    return transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feed_forward_size,
        max_position_embeddings=config.max_seq_len,
        type_vocab_size=config.num_segments,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[BertForPretraining, transformers.BertForPreTraining]:
    """The same random weights on both sides, biases and norms included."""
    folder = tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    theirs = masked.shaken(transformers.BertForPreTraining(theirs_like(CONFIG)))
    theirs.save_pretrained(folder)
    ours = import_folder(folder)
    assert isinstance(ours, BertForPretraining)
    return ours.eval(), theirs


def random_batch(lengths: list[int] = LENGTHS) -> MaskedBatch:
    return masked.random_batch(lengths, vocab_size=CONFIG.vocab_size)


def padded(batch: MaskedBatch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    inputs, real_BL = masked.padded(batch)
    return {**inputs, "next_sentence_label": batch.pair_label_B}, real_BL


PUBLISHED = {  # layers, hidden size, heads, vocabulary (google-research/bert)
    "tiny": (2, 128, 2, 30522),
    "mini": (4, 256, 4, 30522),
    "small": (4, 512, 8, 30522),
    "medium": (8, 512, 8, 30522),
    "base": (12, 768, 12, 30522),
    "large": (24, 1024, 16, 30522),
    "multilingual_cased": (12, 768, 12, 119547),
    "multilingual_uncased": (12, 768, 12, 105879),
    "chinese": (12, 768, 12, 21128),
}
PARAMETERS = {  # of the encoder with its pooler: what the models are said to have
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
    "multilingual_cased": 177_853_440,
    "multilingual_uncased": 167_356_416,
    "chinese": 102_267_648,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    config = getattr(bert, name)()
    assert (config.num_layers, config.hidden_size, config.num_heads, config.vocab_size) == PUBLISHED[name]
    assert config.feed_forward_size == 4 * config.hidden_size
    model = BertForPretraining(config, seed=None)
    with torch.device("meta"):
        theirs = transformers.BertForPreTraining(theirs_like(config))
    assert masked.parameters_in(model) == theirs.num_parameters()
    assert masked.parameters_in(model.bert) == PARAMETERS[name]


def test_every_layer_both_heads_and_the_loss_equal_transformers_on_a_padded_batch(pair):
    ours, theirs = pair
    batch = random_batch()
    inputs, real_BL = padded(batch)
    expected = theirs(**inputs, output_hidden_states=True)
    states = list(ours.bert.states(batch.tokens))
    assert len(states) == len(expected.hidden_states) == CONFIG.num_layers + 1
    for state, their_state in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(state, their_state[real_BL], atol=1e-5, rtol=1e-5)
    everywhere = torch.arange(len(batch.tokens.tokens_T))
    logits_TV = ours.masked_lm_logits(batch.tokens, everywhere)
    torch.testing.assert_close(logits_TV, expected.prediction_logits[real_BL], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        ours.next_sentence_logits(batch.tokens), expected.seq_relationship_logits, atol=1e-5, rtol=1e-5
    )
    losses = ours(batch)
    torch.testing.assert_close(losses.total, expected.loss, atol=1e-5, rtol=1e-5)
    targets = batch.target_index_M
    assert (
        losses.counts["masked_lm_correct"] == (logits_TV[targets].argmax(-1) == batch.target_tokens_M).sum()
    )
    assert losses.counts["masked_lm_count"] == len(targets)
    assert losses.counts["next_sentence_count"] == len(batch) == len(LENGTHS)


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    model, batch = BertForPretraining(CONFIG, seed=1).double().eval(), random_batch()
    outcomes = []
    for filler in (0, 7):
        monkeypatch.setattr("training.models.layers.shapes.filler_rows", lambda rows, kind, k=filler: k)
        model.zero_grad()
        losses = model(batch)
        losses.total.backward()
        outcomes.append([losses.total.detach(), *(p.grad for p in model.parameters())])
    for without, with_filler in zip(*outcomes, strict=True):
        torch.testing.assert_close(with_filler, without, atol=1e-12, rtol=1e-10)


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    batch = random_batch()
    ours.zero_grad()
    theirs.zero_grad()
    ours(batch).total.backward()
    theirs(**padded(batch)[0]).loss.backward()
    pairs = {
        "bert.embeddings.token.weight": theirs.bert.embeddings.word_embeddings.weight,
        "bert.embeddings.position.weight": theirs.bert.embeddings.position_embeddings.weight,
        "bert.embeddings.segment.weight": theirs.bert.embeddings.token_type_embeddings.weight,
        "bert.layers.0.attention.out.weight": theirs.bert.encoder.layer[0].attention.output.dense.weight,
        "bert.layers.2.feed_forward.up.bias": theirs.bert.encoder.layer[2].intermediate.dense.bias,
        "masked_lm.bias": theirs.cls.predictions.bias,
        "next_sentence.weight": theirs.cls.seq_relationship.weight,
    }
    own = dict(ours.named_parameters())
    for name, parameter in pairs.items():
        torch.testing.assert_close(own[name].grad, parameter.grad, atol=1e-5, rtol=1e-4)
    attention = theirs.bert.encoder.layer[1].attention.self
    fused = torch.cat([getattr(attention, name).weight.grad for name in ("query", "key", "value")])
    torch.testing.assert_close(own["bert.layers.1.attention.qkv.weight"].grad, fused, atol=1e-5, rtol=1e-4)


def test_packed_equals_alone(pair):
    ours, _ = pair
    tokens = random_batch().tokens
    together = ours.bert(tokens)
    start = 0
    for length in LENGTHS:
        end = start + length
        row = tokens.tokens_T[start:end].numpy()
        alone = ours.bert(TokenBatch.from_sequences([row], [length // 2]))
        torch.testing.assert_close(together[start:end], alone, atol=1e-5, rtol=1e-5)
        start = end


def test_no_gradient_crosses_a_border_through_the_whole_model(pair):
    ours, _ = pair
    tokens = random_batch().tokens
    embedded = []
    handle = ours.bert.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output))
    hidden = ours.bert(tokens)
    handle.remove()
    begin, end = (
        int(tokens.cu_seqlens[3]),
        int(tokens.cu_seqlens[4]),
    )  # two tokens between a long and a short neighbour
    (grad,) = torch.autograd.grad(hidden[begin:end].square().sum(), embedded[0])
    assert grad[begin:end].abs().sum() > 0
    assert torch.count_nonzero(grad[:begin]) == torch.count_nonzero(grad[end:]) == 0


def test_autocast_keeps_losses_and_gradients_in_float32(pair):
    ours, _ = pair
    batch = random_batch()
    exact = ours(batch).total
    ours.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = ours(batch)
    assert all(value.dtype == torch.float32 for value in (losses.total, *losses.parts.values()))
    torch.testing.assert_close(losses.total, exact, atol=0.05, rtol=0.01)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ours.parameters())


def test_first_weights_are_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (BertForPretraining(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["bert.embeddings.token.weight"], other["bert.embeddings.token.weight"])
    sample = torch.cat([tensor.flatten() for tensor in first.values() if tensor.ndim > 1])
    assert sample.abs().max() <= 0.04
    assert (
        abs(sample.std() - 0.02 * 0.8796) < 2e-4
    )  # a normal cut at two deviations keeps 0.88 of its deviation
    assert not first["bert.layers.0.attention.qkv.bias"].any()
    assert (first["masked_lm.norm.weight"] == 1).all()


def test_it_learns_a_handful_of_sequences():
    first, last = masked.learned(BertForPretraining(CONFIG), random_batch(masked.A_HANDFUL))
    assert first.total.item() == pytest.approx(math.log(CONFIG.vocab_size) + math.log(2), abs=0.3)
    assert last.total.item() < 0.4


def test_without_pairs_there_is_no_sentence_loss(pair):
    ours, _ = pair
    whole = random_batch()
    alone = MaskedBatch(
        tokens=whole.tokens,
        target_index_M=whole.target_index_M,
        target_tokens_M=whole.target_tokens_M,
        pair_label_B=None,
    )
    losses = ours(alone)
    assert list(losses.parts) == ["masked_lm"]
    torch.testing.assert_close(losses.total, ours(whole).parts["masked_lm"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers 0: .* 1 or more"),
        ({"dropout": 1.0}, "dropout 1.0: .*probability"),
        ({"num_heads": 5}, "hidden_size 48 with num_heads 5: .*multiple of 5"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps 0.0: .*positive"),
    ],
)
def test_bad_sizes_get_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        BertConfig(**{**vars(CONFIG), **change})


def test_bad_batches_get_one_sentence(pair):
    with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
        pair[0].bert(random_batch([81]).tokens)
    with pytest.raises(ValueError, match="drop empty sequences"):
        TokenBatch.from_columns(tokens=np.arange(3), offsets=np.array([0, 2, 2, 3]))
    with pytest.raises(ValueError, match="drop empty sequences"):
        TokenBatch.from_sequences([])
