"""BART is BART: published sizes, transformers' answers with the same weights, no padding, no look across a border."""

import math
from dataclasses import replace

import pytest
import torch
import transformers

from tests.training import bart_pair
from tests.training.bart_pair import CONFIG, Pair, make_pair, theirs_like
from training.batches import TokenBatch
from training.exchange import bart as exchange
from training.exchange.reading import read_config, read_weights
from training.models import bart
from training.models.bart import BartConfig, BartForPretraining
from training.pretraining_batches import Seq2SeqBatch

LENGTHS = [9, 3, 70, 2, 33, 64, 5, 12]
DECODER_LENGTHS = [12, 3, 60, 4, 40, 80, 1, 9]


def random_batch(lengths: list[int] = LENGTHS, decoder_lengths: list[int] = DECODER_LENGTHS) -> Seq2SeqBatch:
    return bart_pair.random_batch(lengths, decoder_lengths)


@pytest.fixture(scope="module")
def pair() -> Pair:
    """The same random weights on both sides."""
    return make_pair()


def padded(batch: Seq2SeqBatch) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The inputs transformers wants, and which of its places are real on either side (in the order of our streams)."""
    real_BS, real_BT = (
        torch.arange(side.max_seq_len) < side.cu_seqlens.diff()[:, None]
        for side in (batch.tokens, batch.decoder)
    )
    inputs = {"attention_mask": real_BS.long(), "decoder_attention_mask": real_BT.long()}
    for name, real, values, filler in (
        ("input_ids", real_BS, batch.tokens.tokens_T, 1),
        ("decoder_input_ids", real_BT, batch.decoder.tokens_T, 1),
        ("labels", real_BT, batch.target_tokens_T, -100),
    ):
        inputs[name] = torch.full(real.shape, filler).masked_scatter(real, values)
    return inputs, real_BS, real_BT


@pytest.mark.parametrize(
    ("name", "layers", "hidden_size", "heads", "millions"),
    [("base", 6, 768, 12, 139), ("large", 12, 1024, 16, 406)],
)
def test_published_sizes(name, layers, hidden_size, heads, millions):
    config = getattr(bart, name)()
    assert (config.num_layers, config.num_decoder_layers) == (layers, layers)
    assert (config.hidden_size, config.num_heads) == (hidden_size, heads)
    count = sum(parameter.numel() for parameter in config.network(seed=None).parameters())
    with torch.device("meta"):
        theirs = transformers.BartForConditionalGeneration(theirs_like(config))
    assert count == theirs.num_parameters()
    assert round(count / 1e6) == millions


def test_every_layer_the_logits_and_the_loss_equal_transformers_on_a_padded_batch(pair):
    ours, theirs = pair
    batch = random_batch()
    inputs, real_BS, real_BT = padded(batch)
    expected = theirs(**inputs, output_hidden_states=True)
    encoder = list(ours.bart.encoder_states(batch.tokens))
    decoder = list(ours.bart.decoder_states(batch.decoder, ours.bart.encode(batch.tokens)))
    for states, their_states, real, layers in (
        (encoder, expected.encoder_hidden_states, real_BS, CONFIG.num_layers),
        (decoder, expected.decoder_hidden_states, real_BT, CONFIG.num_decoder_layers),
    ):
        assert len(states) == len(their_states) == layers + 1
        for state, their_state in zip(states, their_states, strict=True):
            torch.testing.assert_close(state, their_state[real], atol=1e-5, rtol=1e-5)
    logits_TV = ours.logits(batch)
    torch.testing.assert_close(logits_TV, expected.logits[real_BT], atol=1e-5, rtol=1e-5)
    losses = ours(batch)
    torch.testing.assert_close(losses.total, expected.loss, atol=1e-5, rtol=1e-5)
    assert losses.parts.keys() == ours.predictions(batch).keys() == {"seq2seq"}
    assert losses.counts["seq2seq_correct"] == (logits_TV.argmax(-1) == batch.target_tokens_T).sum()
    assert losses.counts["seq2seq_count"] == ours.predictions(batch)["seq2seq"] == sum(DECODER_LENGTHS)


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    batch = random_batch()
    ours.zero_grad()
    theirs.zero_grad()
    ours(batch).total.backward()
    theirs(**padded(batch)[0]).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    checked = 0
    for name, grad in found.items():
        parts = exchange.their_names(name)
        fused = torch.cat([expected[part] for part in parts])
        if (
            name == "bart.token.weight"
        ):  # their table has no gradient of the padding token 1, which is in random text
            grad, fused = (torch.cat([whole[:1], whole[2:]]) for whole in (grad, fused))
        torch.testing.assert_close(grad, fused, atol=1e-5, rtol=1e-4, msg=name)
        checked += len(parts)
    assert checked == len(expected)


def test_packed_equals_alone(pair):
    ours, _ = pair
    batch = random_batch()
    together = ours.logits(batch).split(DECODER_LENGTHS)
    sides = batch.tokens.tokens_T.split(LENGTHS), batch.decoder.tokens_T.split(DECODER_LENGTHS)
    for source, said, expected in zip(*sides, together, strict=True):
        one, other = (TokenBatch.from_sequences([row.numpy()]) for row in (source, said))
        alone = ours.logits(Seq2SeqBatch(tokens=one, decoder=other, target_tokens_T=said))
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)


def test_the_order_of_sequences_changes_nothing(pair):
    ours, _ = pair
    batch = random_batch()
    sides = batch.tokens.tokens_T.split(LENGTHS), batch.decoder.tokens_T.split(DECODER_LENGTHS)
    source, said = (TokenBatch.from_sequences([row.numpy() for row in side[::-1]]) for side in sides)
    target_T = torch.cat(batch.target_tokens_T.split(DECODER_LENGTHS)[::-1])
    turned = Seq2SeqBatch(tokens=source, decoder=said, target_tokens_T=target_T)
    torch.testing.assert_close(ours(turned).total, ours(batch).total, atol=1e-6, rtol=1e-6)


def test_no_gradient_crosses_a_border_or_comes_from_what_is_still_to_be_said(pair):
    ours, _ = pair
    batch = random_batch()
    embedded = []
    handles = [
        stack.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output))
        for stack in (ours.bart.encoder, ours.bart.decoder)
    ]
    logits_TV = ours.logits(batch)
    for handle in handles:
        handle.remove()
    (source_begin, source_end), (begin, end) = (
        side.cu_seqlens[4:6].tolist() for side in (batch.tokens, batch.decoder)
    )
    last = begin + 20
    by_source, by_said = torch.autograd.grad(logits_TV[begin : last + 1].square().sum(), embedded)
    assert (by_source[source_begin:source_end].abs().sum(-1) > 0).all()
    assert torch.count_nonzero(by_source[:source_begin]) == torch.count_nonzero(by_source[source_end:]) == 0
    assert (by_said[begin : last + 1].abs().sum(-1) > 0).all()
    assert torch.count_nonzero(by_said[:begin]) == torch.count_nonzero(by_said[last + 1 :]) == 0
    assert last + 1 < end


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    model, batch = BartForPretraining(CONFIG, seed=1).double().eval(), random_batch()
    outcomes = []
    for filler in (0, 7):
        monkeypatch.setattr("training.models.layers.shapes.filler_rows", lambda rows, kind, k=filler: k)
        model.zero_grad()
        losses = model(batch)
        losses.total.backward()
        outcomes.append([losses.total.detach(), *(p.grad for p in model.parameters())])
    for without, with_filler in zip(*outcomes, strict=True):
        torch.testing.assert_close(with_filler, without, atol=1e-12, rtol=1e-10)


def test_autocast_keeps_losses_and_gradients_in_float32(pair):
    ours, _ = pair
    batch = random_batch()
    exact = ours(batch).total
    ours.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = ours(batch)
    assert losses.total.dtype == torch.float32
    torch.testing.assert_close(losses.total, exact, atol=0.05, rtol=0.01)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ours.parameters())


def test_first_weights_are_normal_and_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (BartForPretraining(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name, tensor in first.items() if tensor.ndim > 1]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    sample = torch.cat([first[name].flatten() for name in matrices])
    assert abs(sample.std() - 0.02) < 1e-4
    assert abs((sample.abs() > 0.04).double().mean() - math.erfc(2**0.5)) < 2e-3  # not cut at two deviations
    for name, tensor in first.items():
        if tensor.ndim == 1:
            assert (tensor == float(name.endswith("norm.weight"))).all(), name


def test_dropout_acts_on_what_gelu_gives_too():
    drawn = {}
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        rates = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, name: 0.5}
        model = BartForPretraining(BartConfig(**{**vars(CONFIG), **rates}))
        losses = [model(random_batch()).total.item() for _ in range(2)]
        drawn[name] = losses[0] != losses[1]
        model.eval()
        assert model(random_batch()).total == model(random_batch()).total
    assert all(drawn.values()), drawn


def test_it_learns_a_handful_of_sequences():
    model = replace(CONFIG, num_layers=1, num_decoder_layers=1).network()
    batch = random_batch([5, 9, 3, 12, 30], [8, 9, 5, 14, 25])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = None
    for _ in range(60):
        losses = model(batch)
        first = first or losses.total.item()
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert first == pytest.approx(math.log(CONFIG.vocab_size), abs=0.3)
    assert losses.total.item() < 0.1


def test_weights_and_sizes_go_to_transformers_and_back(pair):
    ours, theirs = pair
    tensors = exchange.to_theirs(ours)
    strange = theirs.load_state_dict(tensors, strict=False)
    assert not strange.unexpected_keys
    assert set(strange.missing_keys) == set(exchange._COPIES)  # which tying fills
    back = exchange.from_theirs(tensors, CONFIG)
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.state_dict().items())
    facts = transformers.BartConfig(**exchange.their_config(CONFIG)).to_dict()
    assert exchange.our_config(facts, "config.json") == CONFIG


def test_folders_that_transformers_saved_are_read_with_the_head_and_without(pair, tmp_path):
    ours, theirs = pair
    whole = ours.state_dict()
    for saved, left_out in ((theirs, set()), (theirs.model, {"logits_bias"})):
        folder = tmp_path / type(saved).__name__
        saved.save_pretrained(folder)
        facts = read_config(folder)
        assert facts["model_type"] == exchange.MODEL_TYPE
        assert facts["architectures"][0] in exchange.ARCHITECTURES
        config = exchange.our_config(facts, str(folder))
        assert config == CONFIG
        weights = exchange.from_theirs(read_weights(folder), config)
        assert weights.keys() == whole.keys()
        assert {name for name in whole if not torch.equal(weights[name], whole[name])} == left_out
        assert not any(weights[name].any() for name in left_out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tensors: tensors.pop("model.decoder.layers.1.fc1.bias"),
            "no tensor model.decoder.layers.1.fc1.bias",
        ),
        (lambda tensors: tensors.update(more=torch.ones(2)), r"a tensor more, \(2,\)"),
        (
            lambda tensors: tensors.update({"lm_head.weight": torch.ones(97, 48)}),
            "lm_head.weight differs from",
        ),
        (lambda tensors: tensors.pop("model.shared.weight"), "no tensor model.shared.weight"),
    ],
)
def test_weights_of_another_shape_get_one_sentence(pair, change, words):
    tensors = exchange.to_theirs(pair[0])
    change(tensors)
    with pytest.raises(ValueError, match=words):
        exchange.from_theirs(tensors, CONFIG)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"scale_embedding": True}, "bart.json has scale_embedding True; BART has False"),
        ({"activation_function": "relu"}, "activation_function 'relu'; BART has 'gelu'"),
        ({"decoder_ffn_dim": 4}, "decoder_ffn_dim 4; BART has 80"),
        ({"d_model": None}, "bart.json has d_model None; it must be a number"),
    ],
)
def test_sizes_that_are_not_ours_get_one_sentence(facts, words):
    with pytest.raises(ValueError, match=words):
        exchange.our_config({**exchange.their_config(CONFIG), **facts}, "bart.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_decoder_layers": 0}, "num_decoder_layers 0: .* 1 or more"),
        ({"activation_dropout": 1.0}, "activation_dropout 1.0: .*probability"),
        ({"num_heads": 5}, "hidden_size 48 with num_heads 5: .*multiple of 5"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps 0.0: .*positive"),
        ({"start_id": 97}, "start_id 97: it must be one of the 97 of the vocabulary"),
    ],
)
def test_bad_sizes_get_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        BartConfig(**{**vars(CONFIG), **change})


def test_a_sequence_longer_than_the_model_gets_one_sentence(pair):
    for lengths in (([81], [3]), ([3], [81])):
        with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
            pair[0](random_batch(*lengths))
