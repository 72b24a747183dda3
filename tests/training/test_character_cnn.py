"""Words from characters, against torch's convolution over whole rows; highway layers and scalar mix, against
their formulas.
"""

import pytest
import torch
import torch.nn.functional as F

from corpus.vocabulary.characters import ELMO_PADDING, ELMO_VOCAB_SIZE, elmo_characters
from training.models.initialize import generator_for
from training.models.layers.character_cnn import GROUPS, CharacterCNN
from training.models.layers.highway import Highway
from training.models.layers.scalar_mix import ScalarMix

FILTERS = ((1, 3), (2, 5), (4, 6), (7, 8))
WORDS = [
    "a",
    "b" * 48,
    "sat",
    "c" * 70,
    *("".join(chr(97 + (n * k) % 26) for k in range(n)) for n in range(2, 50)),
    "naïve",
    "語",
]


def made() -> CharacterCNN:
    cnn = CharacterCNN(
        num_characters=ELMO_VOCAB_SIZE,
        embedding_size=4,
        filters=FILTERS,
        num_highway_layers=2,
        projection_size=6,
    )
    for name, module in cnn.named_modules():
        if isinstance(module, CharacterCNN | Highway):
            module.first_weights(lambda part, name=name: generator_for(0, f"{name}.{part}"))
    with torch.no_grad():  # padding shall be strongest for some filters, and every bias count
        for parameter in cnn.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return cnn.double()


def over_whole_rows(cnn: CharacterCNN, rows_UL: torch.Tensor) -> torch.Tensor:
    x_UEL = F.embedding(rows_UL, cnn.embedding.weight).transpose(1, 2)
    found = [F.conv1d(x_UEL, conv.weight, conv.bias).amax(2) for conv in cnn.convolutions]
    x_UD = torch.cat(found, 1).relu()
    for layer in cnn.highway:
        weight, bias = layer.linear.weight, layer.linear.bias
        size = x_UD.shape[1]
        transformed = torch.relu(x_UD @ weight[:size].T + bias[:size])
        gate = torch.sigmoid(x_UD @ weight[size:].T + bias[size:])
        x_UD = gate * transformed + (1 - gate) * x_UD
    return x_UD @ cnn.projection.weight.T + cnn.projection.bias


def test_words_equal_convolutions_over_whole_rows_with_every_gradient():
    cnn, rows_UL = made(), torch.from_numpy(elmo_characters(WORDS)).long()
    lengths = (rows_UL != ELMO_PADDING).sum(1)
    assert {3, 4, 50}.issubset(lengths.tolist())
    assert all(
        ((lengths > low) & (lengths <= high)).any()
        for low, high in zip((0, *GROUPS), (*GROUPS, 50), strict=True)
    )
    ours, theirs = cnn(rows_UL), over_whole_rows(cnn, rows_UL)
    torch.testing.assert_close(ours, theirs)
    weigh = torch.randn_like(ours)
    pairs = (torch.autograd.grad((out * weigh).sum(), list(cnn.parameters())) for out in (ours, theirs))
    for (name, _), mine, other in zip(cnn.named_parameters(), *pairs, strict=True):
        torch.testing.assert_close(mine, other, msg=lambda text, name=name: f"{name}: {text}")


def test_padding_is_strongest_for_some_filters_and_not_for_others():
    cnn, rows_UL = made(), torch.from_numpy(elmo_characters(WORDS[-10:])).long()
    x_UEL = cnn.embedding(rows_UL).transpose(1, 2)
    for conv in cnn.convolutions:
        best = conv(x_UEL)
        of_padding = best[:, :, -1:]  # these words leave it whole
        share = (of_padding == best.amax(2, keepdim=True)).double().mean()
        assert 0 < share < 1 or conv.out_channels < 8


def test_a_word_is_the_same_in_any_company_and_order():
    cnn, rows_UL = made(), torch.from_numpy(elmo_characters(WORDS)).long()
    together = cnn(rows_UL)
    order = torch.randperm(len(WORDS))
    torch.testing.assert_close(cnn(rows_UL[order]), together[order])
    for number in (0, 1, 2, len(WORDS) - 1):
        torch.testing.assert_close(cnn(rows_UL[number : number + 1])[0], together[number])


def test_a_highway_layer_starts_almost_open():
    highway = Highway(200)
    highway.first_weights(lambda name: generator_for(0, name))
    assert highway.linear.weight.std().item() == pytest.approx(200**-0.5, rel=0.02)
    assert highway.linear.bias.unique().tolist() == [-2, 0]
    assert (highway.linear.bias[200:] == -2).all()
    x = torch.randn(5, 200) * 0.1
    carried = (highway(x) * x).sum() / x.square().sum()
    assert 0.8 < carried < 1


def test_scalar_mix_is_gamma_times_the_softmax_weighted_sum():
    mix, layers = ScalarMix(3), [torch.randn(4, 6) for _ in range(3)]
    torch.testing.assert_close(mix(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mix.scores.copy_(torch.tensor([0.5, -1.0, 2.0]))
        mix.gamma.fill_(1.7)
    share = mix.scores.exp() / mix.scores.exp().sum()
    expected = 1.7 * (share[0] * layers[0] + share[1] * layers[1] + share[2] * layers[2])
    torch.testing.assert_close(mix(iter(layers)), expected)


def test_scalar_mix_can_normalise_each_layer_token_by_token():
    mix, layers = ScalarMix(2, layer_norm=True), [torch.randn(4, 6) * 5 + 2, torch.randn(4, 6)]
    normal = [(x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True) for x in layers]
    torch.testing.assert_close(mix(layers), (normal[0] + normal[1]) / 2)
    torch.testing.assert_close(mix([x[1:2] for x in layers]), mix(layers)[1:2])


def test_scalar_mix_refuses_another_number_of_layers():
    with pytest.raises(ValueError, match="2 layers for a mix of 3; build it with num_layers=2"):
        ScalarMix(3)([torch.ones(1, 2)] * 2)
