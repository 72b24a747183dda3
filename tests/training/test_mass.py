"""MASS is MASS: published shapes, torch.nn's answers with the same weights, positions from the batch, no look at what is
hidden, and BART where the two are one network.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.instance_kinds import Seq2SeqInstances
from training.batches import TokenBatch
from training.models import mass
from training.models.bart import BartConfig
from training.models.layers.seq2seq import Stack
from training.models.mass import MassConfig, MassForPretraining, MassForTranslation, MassTranslationConfig
from training.pretraining_batches import Seq2SeqBatch

LENGTHS = [9, 3, 70, 2, 33, 64, 5, 12]
MASK = 4
SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "feed_forward_size": 80,
    "max_seq_len": 80,
}
CONFIG = MassConfig(**SIZES)
TRANSLATION = MassTranslationConfig(**SIZES, mask_id=MASK)
Network = MassForPretraining | MassForTranslation


def made_with(config: MassConfig | MassTranslationConfig) -> Network:
    """A network with weights, biases and norms that all matter."""
    model = config.network(seed=1).eval()
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise) * 0.1)
    return model


def random_batch(lengths: list[int] = LENGTHS, seed: int = 0) -> Seq2SeqBatch:
    """Half of each text hidden from its second token on; the decoder says it at its positions."""
    noise = np.random.default_rng(seed)
    rows = [noise.integers(5, SIZES["vocab_size"], length) for length in lengths]
    begins = [1 + int(noise.integers(0, length - length // 2)) for length in lengths]
    spans = [np.arange(begin, begin + len(row) // 2) for begin, row in zip(begins, rows, strict=True)]
    spans = [span[span < len(row)] for span, row in zip(spans, rows, strict=True)]
    sources = [row.copy() for row in rows]
    for source, span in zip(sources, spans, strict=True):
        source[span] = MASK
    found = Seq2SeqInstances(
        source_tokens=np.concatenate(sources),
        source_offsets=np.cumsum([0, *lengths]),
        decoder_tokens=np.concatenate([row[span - 1] for row, span in zip(rows, spans, strict=True)]),
        decoder_positions=np.concatenate(spans),
        target_tokens=np.concatenate([row[span] for row, span in zip(rows, spans, strict=True)]),
        decoder_offsets=np.cumsum([0, *(len(span) for span in spans)]),
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros(len(lengths), np.int64),
    )
    return Seq2SeqBatch.of(found)


def with_weights_of(theirs: nn.Module, ours: nn.Module) -> nn.Module:
    """A torch.nn layer with the weights of one of our blocks."""
    state = {
        "self_attn.in_proj_weight": ours.attention.qkv.weight,
        "self_attn.in_proj_bias": ours.attention.qkv.bias,
        **{f"self_attn.out_proj.{leaf}": t for leaf, t in ours.attention.out.state_dict().items()},
        **{f"linear1.{leaf}": t for leaf, t in ours.feed_forward.up.state_dict().items()},
        **{f"linear2.{leaf}": t for leaf, t in ours.feed_forward.down.state_dict().items()},
        **{f"norm1.{leaf}": t for leaf, t in ours.attention_norm.state_dict().items()},
    }
    last = "norm2"
    if isinstance(theirs, nn.TransformerDecoderLayer):
        cross, last = ours.cross_attention, "norm3"
        for leaf in ("weight", "bias"):
            parts = getattr(cross.query, leaf), getattr(cross.key_value, leaf)
            state[f"multihead_attn.in_proj_{leaf}"] = torch.cat(parts)
            state[f"multihead_attn.out_proj.{leaf}"] = getattr(cross.out, leaf)
            state[f"norm2.{leaf}"] = getattr(ours.cross_attention_norm, leaf)
    state |= {f"{last}.{leaf}": t for leaf, t in ours.feed_forward_norm.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs.eval()


def torchs_layer(kind: type[nn.Module], config: MassConfig | MassTranslationConfig) -> nn.Module:
    return kind(
        config.hidden_size,
        config.num_heads,
        config.feed_forward_size,
        activation="gelu",
        layer_norm_eps=config.layer_norm_eps,
        batch_first=True,
    )


def padded(side: TokenBatch, values_T: Tensor) -> tuple[Tensor, Tensor]:
    real_BT = torch.arange(side.max_seq_len) < side.cu_seqlens.diff()[:, None]
    return torch.zeros(real_BT.shape, dtype=values_T.dtype).masked_scatter(real_BT, values_T), real_BT


def torchs_states(model: Network, batch: Seq2SeqBatch, scale: float, hidden: int | None):
    """Every layer's output on either side, as torch.nn's layers give it on a padded batch; real places only."""
    config = model.config

    def embedded(stack: Stack, side: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        tokens_BT, real_BT = padded(side, side.tokens_T)
        positions_BT, _ = padded(side, side.positions_T)
        placed = model.mass.token(tokens_BT) * scale + stack.embeddings.position(positions_BT)
        return stack.embeddings.norm(placed), real_BT, tokens_BT

    x, real_BS, tokens_BS = embedded(model.mass.encoder, batch.tokens)
    encoder = [x]
    for layer in model.mass.encoder.layers:
        theirs = with_weights_of(torchs_layer(nn.TransformerEncoderLayer, config), layer)
        encoder.append(theirs(encoder[-1], src_key_padding_mask=~real_BS))
    unseen_BS = ~real_BS if hidden is None else ~real_BS | (tokens_BS == hidden)
    x, real_BT, _ = embedded(model.mass.decoder, batch.decoder)
    decoder = [x]
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    for layer in model.mass.decoder.layers:
        theirs = with_weights_of(torchs_layer(nn.TransformerDecoderLayer, config), layer)
        decoder.append(theirs(decoder[-1], encoder[-1], tgt_mask=future, memory_key_padding_mask=unseen_BS))
    return [state[real_BS] for state in encoder], [state[real_BT] for state in decoder]


def test_published_shapes():
    for config, width, heads in (
        (mass.base(), 768, 12),
        (mass.middle(), 1024, 16),
        (mass.translation(mask_id=5), 1024, 8),
    ):
        assert (config.hidden_size, config.num_heads, config.feed_forward_size) == (width, heads, 4 * width)
        assert (config.num_layers, config.num_decoder_layers, config.max_seq_len) == (6, 6, 512)
        with torch.device("meta"):
            layers = [
                torchs_layer(kind, config)
                for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
            ]
        of_layers = 6 * sum(p.numel() for layer in layers for p in layer.parameters())
        embeddings = (config.vocab_size + 2 * 512 + 2 * 2) * width
        bias = config.vocab_size if isinstance(config, MassTranslationConfig) else 0
        network = config.network(seed=None)
        assert sum(p.numel() for p in network.parameters()) == of_layers + embeddings + bias


@pytest.mark.parametrize(
    ("config", "scale", "hidden"),
    [(CONFIG, 48**0.5, None), (TRANSLATION, 1.0, MASK)],
    ids=["summarisation", "translation"],
)
def test_every_layer_the_logits_and_the_loss_equal_torchs_on_a_padded_batch(config, scale, hidden):
    model, batch = made_with(config), random_batch()
    encoder, decoder = torchs_states(model, batch, scale, hidden)
    memory = model.memory(batch.tokens)
    ours = (
        list(model.mass.encoder_states(batch.tokens)),
        list(model.mass.decoder_states(batch.decoder, memory)),
    )
    for states, expected, layers in zip(ours, (encoder, decoder), (3, 2), strict=True):
        assert len(states) == len(expected) == layers + 1
        for state, their_state in zip(states, expected, strict=True):
            torch.testing.assert_close(state, their_state, atol=1e-5, rtol=1e-5)
    bias = model.logits_bias if hidden else None
    logits_TV = F.linear(decoder[-1], model.mass.token.weight, bias)
    torch.testing.assert_close(model.logits(batch), logits_TV, atol=1e-4, rtol=1e-5)
    losses = model(batch)
    torch.testing.assert_close(losses.total, F.cross_entropy(logits_TV, batch.target_tokens_T))
    assert losses.parts.keys() == model.predictions(batch).keys() == {"seq2seq"}
    assert losses.counts["seq2seq_correct"] == (logits_TV.argmax(-1) == batch.target_tokens_T).sum()
    assert losses.counts["seq2seq_count"] == model.predictions(batch)["seq2seq"] == len(batch.target_tokens_T)


def test_every_gradient_equals_torchs():
    model, batch = made_with(TRANSLATION), random_batch()
    model(batch).total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    tokens, decoder = batch.tokens.tokens_T, batch.decoder
    total = torch.zeros(())
    for n in range(len(batch)):  # each pair alone, in torch's own operations
        (s0, s1), (t0, t1) = (side.cu_seqlens[n : n + 2].tolist() for side in (batch.tokens, decoder))
        x = _embedded(model, model.mass.encoder, tokens[s0:s1], torch.arange(s1 - s0))
        for layer in model.mass.encoder.layers:
            x = _torchs_block(layer, x, None, None)
        seen = x[tokens[s0:s1] != MASK]
        x = _embedded(model, model.mass.decoder, decoder.tokens_T[t0:t1], decoder.positions_T[t0:t1])
        future = torch.ones(t1 - t0, t1 - t0, dtype=torch.bool).triu(1)
        for layer in model.mass.decoder.layers:
            x = _torchs_block(layer, x, future, seen)
        logits = F.linear(x, model.mass.token.weight, model.logits_bias)
        total = total + F.cross_entropy(logits, batch.target_tokens_T[t0:t1], reduction="sum")
    (total / decoder.num_tokens).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def _embedded(model: Network, stack: Stack, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
    return stack.embeddings.norm(model.mass.token(tokens_T) + stack.embeddings.position(positions_T))


def _torchs_block(layer: nn.Module, x: Tensor, future: Tensor | None, seen: Tensor | None) -> Tensor:
    def attended(
        q_in: Tensor, weights: list[Tensor], biases: list[Tensor], out: nn.Module, kv_in: Tensor, mask
    ):
        mixed, _ = F.multi_head_attention_forward(
            q_in[:, None], kv_in[:, None], kv_in[:, None], 48, 4, torch.cat(weights), torch.cat(biases),
            None, None, False, 0.0, out.weight, out.bias, attn_mask=mask, need_weights=False,
        )  # fmt: skip
        return mixed[:, 0]

    own = layer.attention
    x = layer.attention_norm(x + attended(x, [own.qkv.weight], [own.qkv.bias], own.out, x, future))
    if seen is not None:
        there = layer.cross_attention
        parts = there.query, there.key_value
        weights, biases = [part.weight for part in parts], [part.bias for part in parts]
        x = layer.cross_attention_norm(x + attended(x, weights, biases, there.out, seen, None))
    inner = F.gelu(F.linear(x, layer.feed_forward.up.weight, layer.feed_forward.up.bias))
    out = layer.feed_forward.down
    return layer.feed_forward_norm(x + F.linear(inner, out.weight, out.bias))


def test_decoder_positions_are_those_of_the_batch():
    model, batch = made_with(CONFIG), random_batch()
    decoder = batch.decoder
    moved = TokenBatch(**{**vars(decoder), "positions_T": decoder.positions_T - 1})
    other = Seq2SeqBatch(tokens=batch.tokens, decoder=moved, target_tokens_T=batch.target_tokens_T)
    assert not torch.allclose(model(batch).total, model(other).total, atol=1e-3)


def test_what_is_hidden_is_seen_by_the_summarising_decoder_only():
    for config, sees in ((CONFIG, True), (TRANSLATION, False)):
        model, batch = made_with(config), random_batch()
        kept = []
        layer = model.mass.encoder.layers[-1]
        handle = layer.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        logits_TV = model.logits(batch)
        handle.remove()
        (grad_SD,) = torch.autograd.grad(logits_TV.square().sum(), kept[0])
        hidden_S = batch.tokens.tokens_T == MASK
        assert (grad_SD[~hidden_S].abs().sum(-1) > 0).all()
        assert bool((grad_SD[hidden_S].abs().sum(-1) > 0).all()) == sees
        assert bool(torch.count_nonzero(grad_SD[hidden_S])) == sees


def test_packed_equals_alone_and_order_changes_nothing():
    for config in (CONFIG, TRANSLATION):
        model, batch = made_with(config), random_batch()
        lengths, decoder_lengths = (s.cu_seqlens.diff().tolist() for s in (batch.tokens, batch.decoder))
        columns = (
            batch.tokens.tokens_T.split(lengths),
            *(
                column.split(decoder_lengths)
                for column in (batch.decoder.tokens_T, batch.decoder.positions_T)
            ),
            model.logits(batch).split(decoder_lengths),
        )
        for source, said, positions, expected in list(zip(*columns, strict=True))[::-1]:
            one, other = (TokenBatch.from_sequences([row.numpy()]) for row in (source, said))
            other = TokenBatch(**{**vars(other), "positions_T": positions})
            alone = model.logits(Seq2SeqBatch(tokens=one, decoder=other, target_tokens_T=said))
            torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-5)


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    for config in (CONFIG, TRANSLATION):
        model, batch = config.network(seed=1).double().eval(), random_batch()
        outcomes = []
        for filler in (0, 7):
            monkeypatch.setattr("training.models.layers.shapes.filler_rows", lambda rows, kind, k=filler: k)
            model.zero_grad()
            losses = model(batch)
            losses.total.backward()
            outcomes.append([losses.total.detach(), *(p.grad for p in model.parameters())])
        for without, with_filler in zip(*outcomes, strict=True):
            torch.testing.assert_close(with_filler, without, atol=1e-12, rtol=1e-10)


def test_no_gradient_crosses_a_border():
    model, batch = made_with(TRANSLATION), random_batch()
    embedded = []
    stacks = model.mass.encoder, model.mass.decoder
    handles = [
        stack.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output))
        for stack in stacks
    ]
    logits_TV = model.logits(batch)
    for handle in handles:
        handle.remove()
    begin, end = batch.decoder.cu_seqlens[4:6].tolist()
    grads = torch.autograd.grad(logits_TV[begin:end].square().sum(), embedded)
    for grad, side in zip(grads, (batch.tokens, batch.decoder), strict=True):
        begin, end = side.cu_seqlens[4:6].tolist()
        assert (grad[begin:end].abs().sum(-1) > 0).all()
        assert torch.count_nonzero(grad[:begin]) == torch.count_nonzero(grad[end:]) == 0


def test_it_is_bart_where_only_positions_biases_and_scale_differ():
    """BART's weights, in a MASS without its scale: the same scores at the same positions."""
    bart = BartConfig(**SIZES).network(seed=4).eval()
    state = {name.replace("bart.", "mass.", 1): tensor for name, tensor in bart.state_dict().items()}
    for side in ("encoder", "decoder"):
        state[f"mass.{side}.embeddings.position.weight"] = state[f"mass.{side}.embeddings.position.weight"][
            2:
        ]
    sizes = {**SIZES, "layer_norm_eps": 1e-5}
    model = MassTranslationConfig(**sizes, mask_id=0).network(seed=None)
    model.load_state_dict(state, assign=True)
    batch = random_batch()
    rows = batch.decoder.tokens_T.split(batch.decoder.cu_seqlens.diff().tolist())
    decoder = TokenBatch.from_sequences([row.numpy() for row in rows])
    from_the_start = Seq2SeqBatch(tokens=batch.tokens, decoder=decoder, target_tokens_T=batch.target_tokens_T)
    assert torch.equal(model.eval().logits(from_the_start), bart.logits(from_the_start))
    assert torch.equal(model(from_the_start).total, bart(from_the_start).total)


def test_first_weights_are_those_of_each_program_and_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (TRANSLATION.network(seed=seed).state_dict() for seed in (1, 1, 2))
    normal = CONFIG.network(seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name, tensor in first.items():
        if "norm" in name:
            assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("weight"))))
            continue
        assert not torch.equal(tensor, other[name])
        if "token" in name or "position" in name:
            assert abs(tensor.std() / TRANSLATION.initializer_std - 1) < 0.05
        else:
            bound = (80 if "down" in name else 48) ** -0.5
            assert 0.85 * bound < tensor.abs().max() <= bound
    sample = torch.cat([tensor.flatten() for tensor in normal.values() if tensor.ndim > 1])
    assert abs(sample.std() - 0.02) < 1e-4
    assert sample.abs().max() > 0.06  # not cut at two deviations
    assert mass.translation(mask_id=5).initializer_std == 1024**-0.5


def test_both_learn_a_handful_of_sequences():
    for config in (CONFIG, TRANSLATION):
        small = replace(config, num_layers=1, num_decoder_layers=1)
        model, batch = small.network(), random_batch([9, 12, 20, 30])
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        first = None
        for _ in range(90):
            losses = model(batch)
            first = first or losses.total.item()
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
        assert first == pytest.approx(math.log(CONFIG.vocab_size), abs=1.0)
        assert losses.total.item() < 0.1


def test_bad_sizes_and_batches_get_one_sentence():
    with pytest.raises(ValueError, match="mask_id -1: it is a token id; give 0 or more"):
        MassTranslationConfig(**SIZES, mask_id=-1)
    with pytest.raises(ValueError, match=r"hidden_size 48 with num_heads 5: .*multiple of 5"):
        MassConfig(**{**SIZES, "num_heads": 5})
    model, batch = TRANSLATION.network(), random_batch([81])
    with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
        model(batch)
    all_hidden = TokenBatch.from_sequences([np.full(5, MASK), np.arange(5, 9)])
    decoder = TokenBatch.from_sequences([np.array([5, 6]), np.array([7])])
    batch = Seq2SeqBatch(tokens=all_hidden, decoder=decoder, target_tokens_T=torch.tensor([6, 7, 8]))
    with pytest.raises(ValueError, match="a sequence of 2 tokens looks at 0: neither may be empty"):
        model(batch)
