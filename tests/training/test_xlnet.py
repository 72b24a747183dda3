"""XLNet is XLNet: published sizes, transformers' answers with the same weights in both streams and over several segments
of memory, no padding, no look where the order forbids it.
"""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers

from corpus.corruption.masking import Marks
from corpus.corruption.permutation import Documents, PermutationObjective, Streams
from corpus.corruption.two_stream import masks
from corpus.instance_kinds import PermutationInstances
from tests.corpus.in_memory import documents, shard_of
from training.batches import TokenBatch
from training.exchange import xlnet as exchange
from training.models import xlnet
from training.models.layers import relative_spans
from training.models.layers.relative_attention import attend, attend_padded
from training.models.layers.relative_spans import padded_of, tiles_of
from training.models.xlnet import XLNetConfig, XLNetForPretraining
from training.pretraining_batches import PermutationBatch

VOCAB = 97
CONFIG = XLNetConfig(
    vocab_size=VOCAB,
    hidden_size=48,
    num_layers=3,
    num_heads=4,
    feed_forward_size=80,
    max_seq_len=80,
    memory_len=30,
)
LENGTHS = [12, 5, 70, 8, 33, 64, 9, 21]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Long sequences are several tiles, as at full size."""
    monkeypatch.setattr(relative_spans, "BLOCK_QUERIES", 16)


def theirs_like(config: XLNetConfig, **more) -> transformers.XLNetConfig:
    return transformers.XLNetConfig(**exchange.their_config(config), **more)


@pytest.fixture(scope="module")
def pair() -> tuple[XLNetForPretraining, transformers.XLNetLMHeadModel]:
    """The same random weights on both sides, biases and norms included."""
    torch.manual_seed(0)
    theirs = transformers.XLNetLMHeadModel(theirs_like(CONFIG)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = CONFIG.network(seed=None)
    ours.load_state_dict(exchange.from_theirs(theirs.state_dict(), CONFIG), assign=True)
    return ours.eval(), theirs


def random_rows(
    lengths=LENGTHS, seed: int = 0, *, reuse=lambda n: n // 2, continues: int = 0, backward=None
) -> PermutationInstances:
    """Rows of three segments with a fifth of the tokens predicted, two special tokens, and a random order."""
    noise = np.random.default_rng(seed)
    lengths = np.array(lengths)
    offsets = np.cumsum([0, *lengths])
    order, targets = np.full(offsets[-1], -1), []
    for first, length in zip(offsets, lengths, strict=False):
        cut = reuse(length)
        mine = []
        for begin, end in ((0, cut), (cut, length)):
            chosen = begin + noise.choice(
                end - begin, min(end - begin, -(-(end - begin) // 3)), replace=False
            )
            order[first + chosen] = noise.permutation(len(chosen))
            mine += chosen[: -(-len(chosen) // 2)].tolist()  # the others are special tokens
        targets.append(sorted(mine))
    count = [len(t) for t in targets]
    return PermutationInstances(
        tokens=noise.integers(0, VOCAB, offsets[-1]),
        segments=np.concatenate(
            [np.minimum(2, np.arange(n) // (n // 2) + (np.arange(n) == n - 1)) for n in lengths]
        ),
        order=order,
        offsets=offsets,
        target_positions=np.concatenate([np.array(t, np.int64) for t in targets]),
        target_tokens=noise.integers(0, VOCAB, sum(count)),
        target_offsets=np.cumsum([0, *count]),
        reuse_len=np.array([reuse(n) for n in lengths]),
        continues=np.full(len(lengths), continues),
        backward=np.zeros_like(lengths) if backward is None else np.array(backward),
        pair_label=np.zeros_like(lengths),
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros_like(lengths),
    )


def padded(rows: PermutationInstances):
    """The inputs transformers wants, which of its B,L places are real, and which of its B,M targets."""
    lengths, counts = np.diff(rows.offsets), np.diff(rows.target_offsets)
    shape, most = (len(lengths), lengths.max()), counts.max()
    ids, segments = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    hidden = torch.ones(*shape, shape[1])
    mapping = torch.zeros(len(lengths), most, shape[1])
    labels = torch.full((len(lengths), most), -100)
    for row, (first, last) in enumerate(pairwise(rows.offsets)):
        length = last - first
        ids[row, :length] = torch.from_numpy(rows.tokens[first:last])
        segments[row, :length] = torch.from_numpy(rows.segments[first:last])
        hidden[row, :length, :length] = torch.from_numpy(~masks(rows, row)[1]).float()
        there = slice(*rows.target_offsets[row : row + 2])
        mapping[row, torch.arange(counts[row]), torch.from_numpy(rows.target_positions[there])] = 1
        labels[row, : counts[row]] = torch.from_numpy(rows.target_tokens[there])
    real = torch.arange(shape[1]) < torch.from_numpy(lengths)[:, None]
    inputs = {
        "input_ids": ids,
        "token_type_ids": segments,
        "attention_mask": real.float(),
        "perm_mask": hidden,
        "target_mapping": mapping,
        "labels": labels,
    }
    return inputs, real, labels != -100


@pytest.mark.parametrize(
    ("name", "shape", "count"), [("base", (12, 768, 12), 116_718_336), ("large", (24, 1024, 16), 360_268_800)]
)
def test_published_sizes(name, shape, count):
    config = getattr(xlnet, name)()
    assert (config.num_layers, config.hidden_size, config.num_heads) == shape
    assert config.feed_forward_size == 4 * config.hidden_size
    own = sum(parameter.numel() for parameter in config.network(seed=None).parameters())
    with torch.device("meta"):
        theirs = transformers.XLNetLMHeadModel(theirs_like(config))
    assert own == theirs.num_parameters() == count + 32000  # the output's bias


def test_every_layer_of_both_streams_the_logits_and_the_loss_equal_transformers_on_a_padded_batch(pair):
    ours, theirs = pair
    rows = random_rows()
    inputs, real, predicted = padded(rows)
    expected = theirs(**inputs, output_hidden_states=True)
    batch = PermutationBatch.of(rows)
    states = list(ours.xlnet.two_streams(batch))
    assert len(expected.hidden_states) == 2 * len(states) == 2 * (CONFIG.num_layers + 1)
    for (x_TD, g_MD), content, query in zip(
        states, expected.hidden_states[::2], expected.hidden_states[1::2], strict=True
    ):
        torch.testing.assert_close(x_TD, content[real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(g_MD, query[predicted], atol=1e-5, rtol=1e-5)
    logits_MV = ours.permutation_lm_logits(batch)
    torch.testing.assert_close(logits_MV, expected.logits[predicted], atol=1e-5, rtol=1e-5)
    losses = ours(batch)
    torch.testing.assert_close(losses.total, expected.loss, atol=1e-5, rtol=1e-5)
    assert losses.counts["permutation_lm_correct"] == (logits_MV.argmax(-1) == batch.target_tokens_M).sum()
    assert (
        losses.counts["permutation_lm_count"] == len(logits_MV) == ours.predictions(batch)["permutation_lm"]
    )


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    rows = random_rows(seed=1)
    ours.zero_grad()
    theirs.zero_grad()
    ours(PermutationBatch.of(rows)).total.backward()
    theirs(**padded(rows)[0]).loss.backward()
    gradients = XLNetForPretraining(CONFIG)
    gradients.load_state_dict({name: parameter.grad for name, parameter in ours.named_parameters()})
    own = exchange.to_theirs(gradients)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(own[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("clamp", [None, 9])
def test_memory_over_several_segments_equals_transformers(pair, clamp):
    _, theirs = pair
    config = CONFIG if clamp is None else replace(CONFIG, max_distance=clamp)
    ours = XLNetForPretraining(config, seed=None)
    ours.load_state_dict(exchange.from_theirs(theirs.state_dict(), config), assign=True)
    ours.eval()
    theirs = transformers.XLNetLMHeadModel(theirs_like(config, reuse_len=13)).eval()
    theirs.load_state_dict(exchange.to_theirs(ours), strict=False)
    carried, mems, lengths = (), None, [40, 40, 40]
    for segment in range(4):
        rows = random_rows(lengths, seed=segment, reuse=lambda n: 13, continues=1)
        inputs, real, predicted = padded(rows)
        expected = theirs(**inputs, mems=mems, use_mems=True, output_hidden_states=True)
        batch = replace(PermutationBatch.of(rows), carried=carried)
        for number, (x_TD, g_MD) in enumerate(ours.xlnet.two_streams(batch)):
            content, query = expected.hidden_states[2 * number : 2 * number + 2]
            torch.testing.assert_close(x_TD, content[real], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(g_MD, query[predicted], atol=1e-5, rtol=1e-5)
        losses = ours(batch)
        torch.testing.assert_close(losses.total, expected.loss, atol=1e-5, rtol=1e-5)
        carried, mems = losses.carried, expected.mems
        assert carried[0].tolist() == [min(30, 13 * (segment + 1))] * 3
        assert not carried[1].requires_grad
        for layer, mem in enumerate(mems):
            torch.testing.assert_close(carried[1][:, layer].transpose(0, 1), mem, atol=1e-5, rtol=1e-5)


def test_memory_is_forgotten_where_the_text_does_not_go_on(pair):
    ours, _ = pair
    first, second = (PermutationBatch.of(random_rows([20, 30, 25], seed=seed)) for seed in (0, 1))
    carried = ours(first).carried
    flags = torch.tensor([0, 1, 0])
    mixed = replace(second, carried=carried, continues_B=flags)
    with_memory = ours.xlnet.predict(mixed)[0].split(second.target_counts_B.tolist())
    without = ours.xlnet.predict(second)[0].split(second.target_counts_B.tolist())
    for row, flag in enumerate(flags):
        assert torch.allclose(with_memory[row], without[row], atol=1e-5) == (flag == 0)
    assert ours(mixed).carried[0].tolist() == [10, 30, 12]
    with pytest.raises(ValueError, match="3 sequences, and memory of 2"):
        ours(replace(second, carried=tuple(tensor[:2] for tensor in carried)))


def test_text_read_from_its_end_has_distances_of_the_other_sign(pair):
    _, theirs = pair
    both = transformers.XLNetLMHeadModel(theirs_like(CONFIG, bi_data=True)).eval()
    both.load_state_dict(theirs.state_dict())
    ours, mems, carried = pair[0], None, ()
    for segment in range(2):
        rows = random_rows([24] * 4, seed=segment, continues=1, backward=[0, 0, 1, 1])
        expected = both(**padded(rows)[0], mems=mems, use_mems=True)
        losses = ours(replace(PermutationBatch.of(rows), carried=carried))
        torch.testing.assert_close(losses.total, expected.loss, atol=1e-5, rtol=1e-5)
        # transformers remembers whole rows, so compare the first only
        mems = [mem[:12] for mem in expected.mems]
        carried = losses.carried


def test_an_encoder_of_many_segments_equals_transformers(pair):
    ours, theirs = pair
    noise = np.random.default_rng(3)
    rows = [noise.integers(0, VOCAB, n) for n in LENGTHS]
    flat = TokenBatch.from_sequences(rows)
    segments_T = torch.cat([torch.arange(n) * 5 // n for n in LENGTHS])
    batch = replace(flat, segments_T=segments_T)
    real = torch.arange(flat.max_seq_len) < flat.cu_seqlens.diff()[:, None]
    inputs = {
        name: torch.zeros(real.shape, dtype=torch.long).masked_scatter(real, values)
        for name, values in (("input_ids", flat.tokens_T), ("token_type_ids", segments_T))
    }
    expected = theirs.transformer(**inputs, attention_mask=real.float(), output_hidden_states=True)
    for state, their_state in zip(ours.xlnet.states(batch), expected.hidden_states, strict=True):
        torch.testing.assert_close(state, their_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.xlnet(batch), expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    renamed = replace(batch, segments_T=(7 - 3 * segments_T).abs())  # same and different stay what they are
    torch.testing.assert_close(ours.xlnet(renamed), ours.xlnet(batch))


def test_packed_equals_alone_and_in_any_order(pair):
    ours, _ = pair
    rows = random_rows(seed=4)
    together = ours.xlnet.predict(PermutationBatch.of(rows))[0].split(np.diff(rows.target_offsets).tolist())
    order = np.array([5, 0, 7, 2, 1, 3, 6, 4])
    shuffled = rows.take(order)
    apart = ours.xlnet.predict(PermutationBatch.of(shuffled))[0].split(
        np.diff(shuffled.target_offsets).tolist()
    )
    for place, row in enumerate(order):
        torch.testing.assert_close(apart[place], together[row], atol=1e-5, rtol=1e-5)
        alone = ours.xlnet.predict(PermutationBatch.of(rows.take(np.array([row]))))[0]
        torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=1e-5)


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    model = XLNetForPretraining(CONFIG, seed=1).double().eval()
    batch = PermutationBatch.of(random_rows(continues=1))
    carried = model(batch).carried
    outcomes = []
    for filler in (0, 7):
        monkeypatch.setattr("training.models.layers.shapes.filler_rows", lambda rows, kind, k=filler: k)
        model.zero_grad()
        losses = model(replace(batch, carried=carried))
        losses.total.backward()
        outcomes.append([losses.total.detach(), losses.carried[1], *(p.grad for p in model.parameters())])
    for without, with_filler in zip(*outcomes, strict=True):
        torch.testing.assert_close(with_filler, without, atol=1e-12, rtol=1e-10)


def test_a_target_depends_on_what_its_order_shows_and_on_nothing_else(pair):
    """Gradients of one target's state: zero at everything hidden, itself and other sequences included, else not."""
    ours, _ = pair
    rows = random_rows([14, 30, 22], seed=5)
    batch = PermutationBatch.of(rows)
    embedded = []
    handle = ours.xlnet.token.register_forward_hook(lambda _, __, output: embedded.append(output))
    g_MD = ours.xlnet.predict(batch)[0]
    handle.remove()
    first = rows.offsets[1]
    seen_LL = masks(rows, 1)[1]
    # through other tokens' states a target sees what they see, which is never more than it sees itself
    for number in range(*rows.target_offsets[1:3]):
        (grad,) = torch.autograd.grad(g_MD[number].square().sum(), embedded[0], retain_graph=True)
        moved = grad.abs().sum(1) > 0
        expected = torch.zeros(len(moved), dtype=torch.bool)
        expected[first : rows.offsets[2]] = torch.from_numpy(seen_LL[rows.target_positions[number]])
        assert torch.equal(moved, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_equal_one_padded_batch_forward_and_backward(dtype):
    """What runs on a GPU, here on the CPU, with memory, both directions and targets only."""
    model = XLNetForPretraining(CONFIG, seed=2).to(dtype).eval()
    rows = random_rows(seed=6, continues=1, backward=[0, 1] * 4)
    batch = replace(PermutationBatch.of(rows), carried=model(PermutationBatch.of(rows)).carried)
    places, _ = model.xlnet._read(batch)
    for content in (True, False):
        queries = batch.num_tokens * content + len(batch.target_index_M)
        keys = sum(places.lengths) + sum(places.memory)
        shapes = [
            (queries, 4, 12),
            (queries, 4, 12),
            (queries, 4),
            (keys, 2, 4, 12),
            (len(places.distances("cpu")), 4, 12),
        ]
        torch.manual_seed(0)
        inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        outcomes = []
        for mixed in (
            attend(*inputs, tiles_of(places, content=content)),
            attend_padded(*inputs, padded_of(places, content=content), 0.0),
        ):
            outcomes.append([mixed, *torch.autograd.grad(mixed.sin().sum(), inputs)])
        for tiled, whole in zip(*outcomes, strict=True):
            torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=1e-4)


def test_the_network_is_the_same_on_one_padded_batch(pair, monkeypatch):
    ours, _ = pair
    rows = random_rows(seed=8, continues=1, backward=[1, 0] * 4)
    batch = PermutationBatch.of(rows)
    batch = replace(batch, carried=ours(batch).carried)
    tiled = ours.permutation_lm_logits(batch)
    monkeypatch.setattr(xlnet, "tiles_of", padded_of)
    torch.testing.assert_close(ours.permutation_lm_logits(batch), tiled, atol=2e-5, rtol=1e-4)


def test_dropout_of_weights_has_the_gradient_of_its_own_forward():
    rows = random_rows([20, 9], seed=7)
    model = XLNetForPretraining(CONFIG, seed=0).double()
    places, _ = model.xlnet._read(PermutationBatch.of(rows))
    tiles = tiles_of(places)
    queries = sum(places.lengths) + sum(places.target_counts)
    shapes = [
        (queries, 2, 3),
        (queries, 2, 3),
        (queries, 2),
        (29, 2, 2, 3),
        (len(places.distances("cpu")), 2, 3),
    ]
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def dropped(*tensors):
        torch.manual_seed(1)
        return attend(*tensors, tiles, 0.3)

    assert torch.autograd.gradcheck(dropped, inputs, fast_mode=True)
    assert not torch.allclose(dropped(*inputs), attend(*inputs, tiles))


def test_autocast_keeps_losses_and_gradients_in_float32(pair):
    ours, _ = pair
    batch = PermutationBatch.of(random_rows(continues=1))
    batch = replace(batch, carried=ours(batch).carried)
    exact = ours(batch).total
    ours.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = ours(batch)
    assert losses.total.dtype == losses.carried[1].dtype == torch.float32
    torch.testing.assert_close(losses.total, exact, atol=0.05, rtol=0.02)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ours.parameters())


def test_first_weights_are_normal_and_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (XLNetForPretraining(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["xlnet.query"], other["xlnet.query"])
    normal = [t for name, t in first.items() if t.ndim > 1 or name == "xlnet.query"]
    sample = torch.cat([tensor.flatten() for tensor in normal])
    assert abs(sample.std() - 0.02) < 2e-4
    assert 0.043 < (sample.abs() > 0.04).float().mean() < 0.048  # of a normal not cut at two deviations
    assert not first["bias"].any()
    assert (first["xlnet.layers.0.attention_norm.weight"] == 1).all()


def test_it_learns_rows_of_a_stream_and_of_documents(monkeypatch):
    monkeypatch.setattr(relative_spans, "BLOCK_QUERIES", 128)
    marks = Marks(vocab_size=VOCAB, cls_id=2, sep_id=3, mask_id=None)
    shard = shard_of(documents(8, seed=1), vocab_size=VOCAB)
    for layout in (Streams(reuse_len=24), Documents()):
        objective = PermutationObjective(max_seq_len=48, num_predict=8, perm_size=24, layout=layout)
        rows = objective.corrupt(shard, marks, seed=0, pass_number=0).take(np.arange(5))
        batch = PermutationBatch.of(rows)
        model = XLNetForPretraining(replace(CONFIG, dropout=0.0, attention_dropout=0.0, num_layers=2))
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
        first = None
        for _ in range(90):
            losses = model(batch)
            first = first or losses.total.item()
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
        assert first == pytest.approx(np.log(VOCAB), abs=0.3)
        assert losses.total.item() < 0.3


def test_a_folder_of_theirs_is_read_and_written_whole(pair, tmp_path):
    ours, theirs = pair
    config = exchange.our_config(theirs.config.to_dict(), "config.json")
    assert config == CONFIG
    theirs.save_pretrained(tmp_path)
    back = transformers.XLNetLMHeadModel.from_pretrained(tmp_path)
    assert exchange.our_config(back.config.to_dict(), "config.json") == CONFIG
    weights = exchange.to_theirs(ours)
    tied = theirs.state_dict()
    assert weights.keys() == tied.keys() - {"lm_loss.weight"}
    assert all(torch.equal(weights[name], tied[name]) for name in weights)
    published = transformers.XLNetConfig().to_dict() | {"mem_len": None, "clamp_len": -1}
    assert exchange.our_config(published, "x") == xlnet.large()
    (logits,) = exchange.outputs(ours).values()
    assert logits.shape == (2 + 5 + 23, VOCAB)
    for name in ("lm_loss.bias", "transformer.layer.1.rel_attn.k"):
        with pytest.raises(ValueError, match=re.escape(name)):
            exchange.from_theirs({k: v for k, v in weights.items() if k != name}, CONFIG)
    with pytest.raises(ValueError, match=r"transformer\.extra"):
        exchange.from_theirs(weights | {"transformer.extra": torch.zeros(3)}, CONFIG)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: replace(CONFIG, num_heads=5), "num_heads 5"),
        (lambda: replace(CONFIG, memory_len=0), "memory_len 0"),
        (lambda: replace(CONFIG, hidden_size=15, num_heads=3), "half of it are sines"),
        (lambda: exchange.their_config(replace(CONFIG, dropout=0.0)), "one for both"),
        (lambda: exchange.our_config({"attn_type": "uni"}, "config.json"), "attn_type 'uni'"),
        (lambda: exchange.our_config({"d_head": 32}, "config.json"), "d_head 32"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(bad, words):
    with pytest.raises(ValueError, match=words):
        bad()


def test_rows_without_targets_have_no_loss_and_are_remembered():
    model = XLNetForPretraining(CONFIG)
    rows = random_rows([6, 8])
    nothing = replace(
        rows,
        order=np.full(14, -1),
        target_positions=np.zeros(0, int),
        target_tokens=np.zeros(0, int),
        target_offsets=np.zeros(3, int),
    )
    losses = model(PermutationBatch.of(nothing))
    losses.total.backward()
    assert losses.total == losses.counts["permutation_lm_count"] == 0
    assert losses.carried[0].tolist() == [3, 4]
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_target_that_sees_nothing_is_refused(pair):
    rows = random_rows([6, 8])
    everything = replace(
        rows,
        order=np.concatenate([np.arange(6), np.arange(8)]),
        reuse_len=np.zeros(2, int),
        target_positions=np.concatenate([np.arange(6), np.arange(8)]),
        target_tokens=np.zeros(14, int),
        target_offsets=np.array([0, 6, 14]),
    )
    with pytest.raises(ValueError, match="sees nothing"):
        pair[0](PermutationBatch.of(everything))
