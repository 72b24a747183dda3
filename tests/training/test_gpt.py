"""GPT and GPT-2 are themselves: published sizes, transformers' answers with the same weights, no padding, no
look across a border or to the right.
"""

import math
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers

from corpus.corruption.causal import CausalObjective
from corpus.corruption.masking import Marks
from corpus.instance_kinds import CausalInstances
from tests.corpus.in_memory import shard_of
from training.batches import TokenBatch
from training.exchange import gpt as exchanged_gpt
from training.exchange import gpt2 as exchanged_gpt2
from training.generation.sampling import Greedy
from training.generation.search import generate
from training.generation.stopping import Stop
from training.models import gpt, gpt2
from training.models.gpt import GptConfig
from training.models.gpt2 import Gpt2Config
from training.models.layers.left_to_right import LeftToRight
from training.pretraining_batches import CausalBatch

LENGTHS = [9, 3, 70, 2, 33, 64, 5, 1, 12]
SIZES = {"vocab_size": 97, "hidden_size": 48, "num_layers": 3, "num_heads": 4, "max_seq_len": 80}
FAMILIES: dict[str, tuple[ModuleType, GptConfig | Gpt2Config, type]] = {
    "gpt": (exchanged_gpt, GptConfig(**SIZES, feed_forward_size=192), transformers.OpenAIGPTLMHeadModel),
    "gpt2": (exchanged_gpt2, Gpt2Config(**SIZES, feed_forward_size=80), transformers.GPT2LMHeadModel),
}


def theirs_like(name: str, config: GptConfig | Gpt2Config, **more) -> transformers.PreTrainedConfig:
    kind = {"gpt": transformers.OpenAIGPTConfig, "gpt2": transformers.GPT2Config}[name]
    return kind(**FAMILIES[name][0].their_config(config), bos_token_id=0, eos_token_id=0, **more)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request) -> tuple[LeftToRight, transformers.PreTrainedModel]:
    """The same random weights on both sides, biases and norms included."""
    exchanged, config, kind = FAMILIES[request.param]
    torch.manual_seed(0)
    theirs = kind(theirs_like(request.param, config)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    again = exchanged.our_config(theirs.config.to_dict(), "theirs")
    assert again == config
    ours = again.network(seed=None)
    ours.load_state_dict(exchanged.from_theirs(theirs.state_dict(), again), assign=True)
    return ours.eval(), theirs


def random_batch(lengths: list[int] = LENGTHS, seed: int = 0) -> CausalBatch:
    noise, offsets = np.random.default_rng(seed), np.cumsum([0, *lengths])
    found = CausalInstances(
        tokens=noise.integers(0, SIZES["vocab_size"], offsets[-1]),
        offsets=offsets,
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros(len(lengths), np.int64),
    )
    return CausalBatch.of(found)


def padded(batch: TokenBatch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The inputs transformers wants, padded on the right, and which of its B,L places are real."""
    real_BL = torch.arange(batch.max_seq_len) < batch.cu_seqlens.diff()[:, None]
    inputs = {"attention_mask": real_BL.long()}
    for name, filler in (("input_ids", 0), ("labels", -100)):
        inputs[name] = torch.full(real_BL.shape, filler).masked_scatter(real_BL, batch.tokens_T)
    return inputs, real_BL


def their_states(theirs, inputs) -> tuple[list[torch.Tensor], transformers.utils.ModelOutput]:
    """The embeddings, each layer's own output, and what goes into the head."""
    states, handles = [], []
    first = theirs.transformer.drop
    handles.append(first.register_forward_hook(lambda _, __, output: states.append(output)))
    for block in theirs.transformer.h:
        take = lambda _, __, output: states.append(output if isinstance(output, torch.Tensor) else output[0])  # noqa: E731
        handles.append(block.register_forward_hook(take))
    handles.append(theirs.lm_head.register_forward_pre_hook(lambda _, args: states.append(args[0])))
    output = theirs(**inputs)
    for handle in handles:
        handle.remove()
    return states, output


PUBLISHED = {  # layers, hidden size, heads, positions, parameters
    ("gpt", "base"): (12, 768, 12, 512, 116_534_784),
    ("gpt2", "small"): (12, 768, 12, 1024, 124_439_808),
    ("gpt2", "medium"): (24, 1024, 16, 1024, 354_823_168),
    ("gpt2", "large"): (36, 1280, 20, 1024, 774_030_080),
    ("gpt2", "xl"): (48, 1600, 25, 1024, 1_557_611_200),
}


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_published_sizes(family, size):
    config = getattr({"gpt": gpt, "gpt2": gpt2}[family], size)()
    layers, hidden, heads, positions, parameters = PUBLISHED[family, size]
    assert (config.num_layers, config.hidden_size) == (layers, hidden)
    assert (config.num_heads, config.max_seq_len) == (heads, positions)
    ours = config.network(seed=None)
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters
    with torch.device("meta"):
        theirs = FAMILIES[family][2](theirs_like(family, config))
    assert theirs.num_parameters() == parameters


def test_every_layer_the_logits_and_the_loss_equal_transformers_on_a_padded_batch(pair):
    ours, theirs = pair
    batch = random_batch()
    inputs, real_BL = padded(batch.tokens)
    expected, output = their_states(theirs, inputs)
    states = list(ours.states(batch.tokens))
    assert len(states) == len(expected) == SIZES["num_layers"] + 2
    for state, their_state in zip(states, expected, strict=True):
        torch.testing.assert_close(state, their_state[real_BL], atol=1e-5, rtol=1e-5)
    logits_TV = ours.logits(batch.tokens, torch.arange(batch.num_tokens))
    torch.testing.assert_close(logits_TV, output.logits[real_BL], atol=1e-5, rtol=1e-5)
    losses = ours(batch)
    torch.testing.assert_close(losses.total, output.loss, atol=1e-5, rtol=1e-5)
    labels = inputs["labels"]
    right = (output.logits[:, :-1].argmax(-1) == labels[:, 1:]).sum()
    assert losses.counts["causal_lm_correct"] == right
    assert losses.counts["causal_lm_count"] == sum(LENGTHS) - len(LENGTHS)
    assert ours.predictions(batch) == {"causal_lm": sum(LENGTHS) - len(LENGTHS)}


def test_every_gradient_equals_transformers(pair):
    ours, theirs = pair
    exchanged, config, _ = next(row for row in FAMILIES.values() if row[1] == ours.config)
    batch = random_batch()
    ours.zero_grad()
    theirs.zero_grad()
    ours(batch).total.backward()
    theirs(**padded(batch.tokens)[0]).loss.backward()
    their_grads = {name: p.grad for name, p in theirs.named_parameters()}
    expected = exchanged.from_theirs(their_grads, config)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


def test_weights_go_there_and_back_unchanged(pair):
    ours, theirs = pair
    exchanged, config, _ = next(row for row in FAMILIES.values() if row[1] == ours.config)
    written = exchanged.to_theirs(ours)
    missing, unknown = theirs.load_state_dict(written, strict=False)
    assert (missing, unknown) == (["lm_head.weight"], [])  # the copy
    bare = {name.removeprefix("transformer."): tensor for name, tensor in written.items()}
    old = written | {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 80, 80) for n in range(3)}
    for tensors in (
        written,
        bare,
        old,
    ):  # as saved with a head, without, and with the masks of old checkpoints
        back = exchanged.from_theirs(tensors, config)
        assert back.keys() == ours.state_dict().keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in ours.state_dict().items())
    with pytest.raises(ValueError, match=r"no tensor transformer\.h\.1\.ln_2\.bias"):
        exchanged.from_theirs({n: t for n, t in written.items() if n != "transformer.h.1.ln_2.bias"}, config)
    with pytest.raises(ValueError, match="a tensor more, "):
        exchanged.from_theirs(written | {"more": torch.ones(2)}, config)
    with pytest.raises(ValueError, match=r"lm_head\.weight differs"):
        exchanged.from_theirs(written | {"lm_head.weight": torch.ones(97, 48)}, config)


def test_packed_equals_alone_and_the_order_changes_nothing(pair):
    ours, _ = pair
    tokens = random_batch().tokens
    together = ours.hidden(tokens)
    rows = tokens.tokens_T.split(LENGTHS)
    turned = ours.hidden(TokenBatch.from_sequences([row.numpy() for row in rows[::-1]]))
    turned_rows = turned.split(LENGTHS[::-1])[::-1]
    for row, state, other in zip(rows, together.split(LENGTHS), turned_rows, strict=True):
        alone = ours.hidden(TokenBatch.from_sequences([row.numpy()]))
        torch.testing.assert_close(state, alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other, alone, atol=1e-5, rtol=1e-5)


def test_no_gradient_crosses_a_border_or_comes_from_the_right(pair):
    ours, _ = pair
    tokens = random_batch().tokens
    embedded = []
    handle = ours.token.register_forward_hook(lambda _, __, output: embedded.append(output))
    hidden = ours.hidden(tokens)
    handle.remove()
    begin = int(tokens.cu_seqlens[4])
    middle = begin + 20  # of 33 tokens
    (grad,) = torch.autograd.grad(hidden[begin : middle + 1].square().sum(), embedded[0])
    assert (grad[begin : middle + 1].abs().sum(1) > 0).all()
    assert torch.count_nonzero(grad[:begin]) == torch.count_nonzero(grad[middle + 1 :]) == 0


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    model, batch = FAMILIES["gpt2"][1].network(seed=1).double().eval(), random_batch()
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


def test_first_weights_follow_the_papers_and_are_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    for name, (_, config, _) in FAMILIES.items():
        first, again, other = (config.network(seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not torch.equal(first["token.weight"], other["token.weight"])
        matrices = {key: tensor for key, tensor in first.items() if tensor.ndim > 1}
        writes = {key for key in matrices if key.endswith((".out.weight", ".down.weight"))}
        assert len(writes) == 2 * config.num_layers
        scale = (2 * config.num_layers) ** -0.5 if name == "gpt2" else 1.0
        for keys, std in ((writes, 0.02 * scale), (matrices.keys() - writes, 0.02)):
            drawn = torch.cat([matrices[key].flatten() for key in keys])
            assert drawn.std() == pytest.approx(std, rel=4 * (2 * len(drawn)) ** -0.5)
            assert drawn.abs().max() > 3 * std  # not cut
        vectors = {key: tensor for key, tensor in first.items() if tensor.ndim == 1}
        assert all(
            (tensor == float("norm" in key and "weight" in key)).all() for key, tensor in vectors.items()
        )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns_documents_by_heart_and_says_them(name):
    shard = shard_of([[5, 7, 4], [6, 3], [8, 8]], vocab_size=97)
    marks = Marks(vocab_size=97, cls_id=0, sep_id=1, mask_id=None)
    objective = CausalObjective(max_seq_len=80)
    batch = CausalBatch.of(objective.corrupt(shard, marks, seed=0, pass_number=0))
    model = FAMILIES[name][1].network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    first = None
    for _ in range(100):
        losses = model(batch)
        first = first or losses.total.item()
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert first == pytest.approx(math.log(SIZES["vocab_size"]), abs=0.3)
    assert losses.total.item() < 0.2  # nobody can know which document comes
    documents = [shard.tokens_T[a:b].tolist() for a, b in pairwise(shard.document_offsets)]
    prompts = TokenBatch.from_sequences([np.array([marks.cls_id, *tokens[:2]]) for tokens in documents])
    said = generate(model.eval(), prompts, Greedy(), Stop(new_tokens=30, end_ids=(marks.sep_id,)))
    assert [one.tokens for one in said] == [[*tokens[2:], marks.sep_id] for tokens in documents]


def test_one_token_sequences_predict_nothing(pair):
    losses = pair[0](random_batch([1, 1]))
    assert losses.total == 0
    assert losses.counts["causal_lm_count"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers 0: .* 1 or more"),
        ({"dropout": 1.0}, "dropout 1.0: .*probability"),
        ({"num_heads": 5}, "hidden_size 48 with num_heads 5: .*multiple of 5"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps 0.0: .*positive"),
    ],
)
@pytest.mark.parametrize("name", FAMILIES)
def test_bad_sizes_get_one_sentence(name, change, words):
    config = FAMILIES[name][1]
    with pytest.raises(ValueError, match=words):
        type(config)(**{**vars(config), **change})


def test_too_long_a_sequence_gets_one_sentence(pair):
    with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
        pair[0](random_batch([81]))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx True; GPT-2 has False",
        ),
        ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
        ("gpt", {"afn": "silu"}, "afn 'silu'; GPT has 'gelu'"),
        ("gpt", {"n_head": "many"}, "n_head 'many'; it must be a number"),
    ],
)
def test_a_config_of_another_network_is_refused(name, change, words):
    exchanged, config, _ = FAMILIES[name]
    with pytest.raises(ValueError, match=f"there has {words}"):
        exchanged.our_config({**exchanged.their_config(config), **change}, "there")


def test_a_feed_forward_layer_that_transformers_gpt_cannot_have_is_refused():
    config = GptConfig(**SIZES, feed_forward_size=100)
    with pytest.raises(ValueError, match="feed_forward_size 100: in transformers GPT's is 4 times"):
        exchanged_gpt.their_config(config)
