"""ELMo: equal to itself put together from torch.nn, sentence by sentence; published sizes; carried states;
learning.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.instance_kinds import CausalInstances
from corpus.vocabulary.characters import elmo_characters, elmo_sentence_mark
from training.batches import TokenBatch
from training.models import elmo
from training.models.elmo import Elmo, ElmoConfig, ElmoForPretraining
from training.models.layers.scalar_mix import ScalarMix
from training.pretraining_batches import CausalBatch

CONFIG = ElmoConfig(
    vocab_size=60,
    cell_size=20,
    projection_size=12,
    character_embedding_size=4,
    filters=((1, 4), (2, 6), (3, 8)),
    num_candidates=None,
)
LENGTHS = [9, 3, 14, 1, 6, 2]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{'s' * (n % 11)}{n}" for n in range(56))]


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of tiny products a step: two threads wait for each other, on a busy machine for minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def changed(**changes: Any) -> ElmoConfig:
    return ElmoConfig(**{**vars(CONFIG), **changes})


def made(config: ElmoConfig = CONFIG, seed: int = 1) -> ElmoForPretraining:
    """Weights large enough for everything to matter; biases too."""
    model = config.network(seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.read_words(WORDS)
    return model.eval()


def batch_of(rows: list[np.ndarray], carried: tuple[Tensor, ...] = ()) -> CausalBatch:
    found = CausalInstances(
        tokens=np.concatenate(rows),
        offsets=np.cumsum([0, *(len(row) for row in rows)]),
        instance_id=np.zeros(len(rows), np.uint64),
        document=np.zeros(len(rows), np.int64),
    )
    return CausalBatch(tokens=CausalBatch.of(found).tokens, carried=carried)


def rows_of_text(lengths: list[int] = LENGTHS, seed: int = 0) -> list[np.ndarray]:
    noise = np.random.default_rng(seed)
    return [np.array([2, *noise.integers(4, 60, max(n - 2, 0)), 3][:n]) for n in lengths]


class Plain(nn.Module):
    """The same network as a textbook has it: one sentence at a time, torch's LSTM, every row of characters
    whole.
    """

    def __init__(self, ours: ElmoForPretraining) -> None:
        super().__init__()
        self.ours = ours
        assert ours.config.cell_clip is None, "torch's LSTM does not clip"
        cells, size = ours.config.cell_size, ours.config.projection_size
        order = torch.cat([torch.arange(cells) + cells * gate for gate in (1, 2, 0, 3)])
        self.lstms = [[nn.LSTM(size, cells, proj_size=size) for _ in ours.elmo.layers] for _ in (0, 1)]
        with torch.no_grad():
            for direction, lstms in enumerate(self.lstms):
                for lstm, own in zip(lstms, ours.elmo.layers, strict=True):
                    lstm.weight_ih_l0.copy_(own.input[direction][order])
                    lstm.weight_hh_l0.copy_(own.recurrent[direction][order])
                    lstm.weight_hr_l0.copy_(own.projection[direction])
                    lstm.bias_ih_l0.copy_(own.bias.view(2, -1)[direction][order])
                    lstm.bias_hh_l0.zero_()

    def words(self, row: np.ndarray) -> Tensor:
        cnn, rows_TL = self.ours.elmo.words, elmo_characters([WORDS[token] for token in row])
        rows_TL[row == 2], rows_TL[row == 3] = elmo_sentence_mark(257), elmo_sentence_mark(258)
        x_TEL = cnn.embedding(torch.from_numpy(rows_TL).long()).transpose(1, 2)
        x_TD = torch.cat([conv(x_TEL).amax(2) for conv in cnn.convolutions], 1).relu()
        for layer in cnn.highway:
            change, gate = layer.linear(x_TD).chunk(2, 1)
            x_TD = gate.sigmoid() * change.relu() + (1 - gate.sigmoid()) * x_TD
        return cnn.projection(x_TD)

    def states(self, row: np.ndarray) -> list[Tensor]:
        words = self.words(row)
        both = []
        for direction, lstms in enumerate(self.lstms):
            x_TD = words.flip(0) if direction else words
            layers = [x_TD]
            for number, lstm in enumerate(lstms):
                out = lstm(x_TD[:, None])[0][:, 0]
                x_TD = out + x_TD if number else out
                layers.append(x_TD)
            both.append([x.flip(0) if direction else x for x in layers])
        return [torch.cat(pair, -1) for pair in zip(*both, strict=True)]

    def losses(self, rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        size, softmax, left, right = self.ours.config.projection_size, self.ours.softmax, [], []
        for row in rows:
            if len(row) > 1:
                last, tokens = self.states(row)[-1], torch.from_numpy(row)
                for found, x_TD, target in (
                    (left, last[:-1, :size], tokens[1:]),
                    (right, last[1:, size:], tokens[:-1]),
                ):
                    found.append(F.cross_entropy(softmax(x_TD), target, reduction="none"))
        return torch.cat(left).mean(), torch.cat(right).mean()


torch_has_only_the_default_kernel = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN"
)


@pytest.mark.parametrize(("name", "millions"), [("small", 13.6), ("medium", 28.0), ("original", 93.6)])
def test_published_sizes(name, millions):
    config = getattr(elmo, name)()
    model = config.network(seed=None)
    count = sum(parameter.numel() for parameter in model.elmo.parameters())
    assert round(count / 1e6, 1) == millions
    softmax = sum(parameter.numel() for parameter in model.softmax.parameters())
    assert softmax == 793_471 * (config.projection_size + 1)
    if (
        name == "original"
    ):  # 261 characters and the masked one, convolutions, highway layers, projection, four LSTMs
        parts = [262 * 16, 199_168, 2 * (2048 + 1) * 4096, 2049 * 512, 4 * ((1024 + 1) * 16_384 + 4096 * 512)]
        assert count == sum(parts) == 93_600_864


@torch_has_only_the_default_kernel
def test_every_layer_and_both_losses_equal_the_plain_network():
    model, rows = made(changed(cell_clip=None, projection_clip=None)), rows_of_text()
    plain, batch = Plain(model), batch_of(rows)
    states = list(model.elmo.states(batch.tokens))
    expected = [torch.cat(layer) for layer in zip(*(plain.states(row) for row in rows), strict=True)]
    assert len(states) == len(expected) == CONFIG.num_layers + 1
    for state, other in zip(states, expected, strict=True):
        assert state.std() > 0.05
        torch.testing.assert_close(state, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.elmo(batch.tokens), expected[-1], atol=1e-5, rtol=1e-5)
    losses = model(batch)
    left, right = plain.losses(rows)
    torch.testing.assert_close(losses.parts["forward_lm"], left, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.parts["backward_lm"], right, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.total, left + right, atol=1e-5, rtol=1e-5)
    assert model.predictions(batch) == {"forward_lm": 29, "backward_lm": 29}
    assert (
        losses.counts["forward_lm_count"] == losses.counts["backward_lm_count"] == sum(LENGTHS) - len(LENGTHS)
    )


@torch_has_only_the_default_kernel
def test_gradients_of_what_both_directions_share_equal_the_plain_network():
    model, rows = made(changed(cell_clip=None, projection_clip=None)), rows_of_text()
    shared = [*model.elmo.words.parameters(), *model.softmax.parameters()]
    ours = torch.autograd.grad(model(batch_of(rows)).total, shared)
    theirs = torch.autograd.grad(sum(Plain(model).losses(rows)), shared)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_a_row_is_the_same_alone_and_takes_no_gradient_across_a_border():
    model, rows = made(), rows_of_text()
    batch = batch_of(rows).tokens
    embedded = []
    handle = model.elmo.words.register_forward_hook(lambda _, __, output: embedded.append(output))
    together = model.elmo(batch)
    handle.remove()
    begin = 0
    for row in rows:
        alone = model.elmo(TokenBatch.from_sequences([row]))
        torch.testing.assert_close(together[begin : begin + len(row)], alone, atol=1e-5, rtol=1e-5)
        begin += len(row)
    own = batch.tokens_T[12:26]
    (grad,) = torch.autograd.grad(together[12:26].square().sum(), embedded[0])
    words = batch.tokens_T.unique()
    assert torch.equal(words[grad.abs().sum(1) > 0], own.unique())
    assert len(own.unique()) < len(words)


def test_two_batches_with_carried_state_read_on_like_one():
    """The second begins with the token that the first predicts last, and does not read."""
    model, rows, cuts = made(), rows_of_text([9, 7, 5]), [5, 4, 3]
    whole = model(batch_of(rows))
    first = model(batch_of([row[:cut] for row, cut in zip(rows, cuts, strict=True)]))
    rest = [row[cut - 1 :] for row, cut in zip(rows, cuts, strict=True)]
    second = model(batch_of(rest, first.carried))
    counts = [losses.counts["forward_lm_count"] for losses in (first, second, whole)]
    assert counts == [9, 9, 18]
    halves = (first.parts["forward_lm"] + second.parts["forward_lm"]) / 2
    torch.testing.assert_close(halves, whole.parts["forward_lm"], atol=1e-5, rtol=1e-5)
    forgotten = model(batch_of(rest)).parts["forward_lm"]
    assert abs(forgotten - second.parts["forward_lm"]) > 1e-3
    for ours, expected in zip(second.carried, whole.carried, strict=True):
        torch.testing.assert_close(ours[:, 0], expected[:, 0], atol=1e-5, rtol=1e-5)


def test_what_is_carried_is_detached_and_goes_with_its_rows():
    model, rows = made(), rows_of_text()
    carried = model(batch_of(rows)).carried
    assert [tuple(part.shape) for part in carried] == [(6, 2, 12), (6, 2, 20)] * CONFIG.num_layers
    assert not any(part.requires_grad for part in carried)
    order = [4, 2, 0, 5, 1, 3]
    turned = model(batch_of([rows[row] for row in order])).carried
    for part, other in zip(carried, turned, strict=True):
        torch.testing.assert_close(other, part[order], atol=1e-6, rtol=1e-6)
    again = batch_of(rows, carried)
    here, there = model(again), model(batch_of([rows[row] for row in order], turned))
    torch.testing.assert_close(here.total, there.total)
    assert abs(here.total - model(batch_of(rows)).total) > 1e-3


def test_dropout_and_candidates_follow_torchs_seed():
    model, batch = made(changed(num_candidates=20)).train(), batch_of(rows_of_text())
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(model(batch).total)
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@pytest.mark.parametrize(("candidates", "steps"), [(None, 80), (40, 110)])
def test_it_learns_a_few_sentences_in_both_directions(candidates, steps):
    sizes = {"projection_size": 32, "cell_size": 64, "filters": ((1, 8), (2, 16), (3, 24))}
    model = changed(num_candidates=candidates, **sizes).network(seed=1)
    model.read_words(WORDS)
    batch = batch_of(rows_of_text([7, 6, 8, 5]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    assert model.eval()(batch).total.item() == pytest.approx(2 * math.log(60), abs=0.5)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
    losses = model.eval()(batch)
    unknowable = math.log(4) * 4 / 22  # which of four sentences it is, at the first of its words
    for loss in losses.parts.values():
        assert loss.item() - unknowable < 0.1
    assert losses.counts["forward_lm_correct"] + losses.counts["backward_lm_correct"] >= 36  # of 44


def test_autocast_keeps_losses_gradients_and_carried_cells_in_float32():
    model, batch = made(changed(num_candidates=20, dropout=0.0)).train(), batch_of(rows_of_text())
    torch.manual_seed(0)
    exact = model(batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch)
    assert all(
        value.dtype == torch.float32 for value in (losses.total, *losses.parts.values(), losses.carried[1])
    )
    torch.testing.assert_close(losses.total, exact.total, atol=0.05, rtol=0.01)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        model(batch_of(rows_of_text(), losses.carried)).total.backward()


def test_rows_of_one_token_have_nothing_to_predict():
    losses = made()(batch_of([np.array([5]), np.array([7])]))
    assert losses.total == 0
    losses.total.backward()


def test_a_scalar_mix_of_its_states_is_what_a_task_reads():
    model, rows = made(), rows_of_text()
    mix = ScalarMix(CONFIG.num_layers + 1)
    mixed = mix(model.elmo.states(batch_of(rows).tokens))
    assert mixed.shape == (sum(LENGTHS), CONFIG.hidden_size)
    torch.testing.assert_close(mixed, torch.stack(list(model.elmo.states(batch_of(rows).tokens))).mean(0))


def test_first_weights_are_a_function_of_the_seed_and_as_the_original_draws_them():
    before = torch.get_rng_state()
    config = changed(vocab_size=2000, projection_size=40, filters=((1, 40), (3, 80)))
    first, again, other = (config.network(seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = {name for name, value in first.items() if value.ndim > 1}
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    characters = first["elmo.words.embedding.weight"]
    assert 0.95 < characters.abs().max() <= 1
    assert first["elmo.words.convolutions.1.weight"].abs().max() <= 0.05
    for name, deviation in (
        ("elmo.words.highway.0.linear.weight", 120**-0.5),
        ("elmo.words.projection.weight", 120**-0.5),
        ("softmax.weight", 40**-0.5),
    ):
        assert first[name].std().item() == pytest.approx(deviation, rel=0.03)
    assert not torch.equal(*first["elmo.layers.0.input"])  # the directions differ
    assert not first["softmax.bias"].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers 0: .* 1 or more"),
        ({"dropout": 1.0}, "dropout 1.0: .*probability"),
        ({"cell_clip": 0.0}, "cell_clip 0.0: .*None not to clip"),
        ({"filters": ((51, 4),)}, "filters .*a word has 50 characters"),
        ({"filters": ((0, 4),)}, "filters .*: give .width, count. pairs"),
        ({"num_candidates": 60}, "num_candidates 60: a sample of 60 words has from 2 to 59; use None"),
    ],
)
def test_bad_sizes_get_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        changed(**change)


def test_bad_use_gets_one_sentence():
    model, batch = CONFIG.network(), batch_of(rows_of_text())
    with pytest.raises(ValueError, match="has not seen the words of its vocabulary; call read_words first"):
        model(batch)
    with pytest.raises(ValueError, match="3 words for a model with vocab_size 60"):
        model.read_words(["a", "b", "c"])
    model.read_words(WORDS)
    carried = model(batch).carried
    with pytest.raises(ValueError, match="states of 6 rows for a batch of 2"):
        model(batch_of(rows_of_text([4, 4]), carried))


def test_a_config_read_from_json_is_the_same():
    assert changed(filters=[[1, 4], [2, 6], [3, 8]]) == CONFIG
    assert isinstance(Elmo(CONFIG).config.filters, tuple)
