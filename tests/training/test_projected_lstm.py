"""The projected, clipped LSTM: torch's own where nothing is clipped, the plain formula where something is."""

import pytest
import torch
from torch import Tensor, nn

from training.models.initialize import generator_for
from training.models.layers.projected_lstm import Packed, ProjectedLSTM, State, pack

LENGTHS = [3, 7, 1, 7, 5]
D, C, P = 5, 6, 4
WEIGHTS = ("input", "recurrent", "bias", "projection")


def bounds(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def made(
    *, cell_clip: float | None = None, projection_clip: float | None = None, scale: float = 1.0
) -> ProjectedLSTM:
    layer = ProjectedLSTM(
        input_size=D, cell_size=C, projection_size=P, cell_clip=cell_clip, projection_clip=projection_clip
    ).double()
    layer.first_weights(lambda name: generator_for(0, name))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3).mul_(scale)
    return layer


def run(
    layer: ProjectedLSTM, x_TD: Tensor, packed: Packed, state: State | None = None
) -> tuple[Tensor, State]:
    """From the stream to the stream, `T,2P`."""
    out_KTP, after = layer(x_TD[packed.index_KT], packed, state)
    back = [
        torch.empty_like(out).index_copy(0, at, out) for out, at in zip(out_KTP, packed.index_KT, strict=True)
    ]
    return torch.cat(back, -1), after


def plain(
    layer: ProjectedLSTM, x_LD: Tensor, direction: int, h: Tensor, c: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """One sequence, one direction, step by step, as the formula says; autograd does the rest."""
    outputs = []
    bias = layer.bias.view(2, -1)[direction]
    for x in x_LD if direction == 0 else x_LD.flip(0):
        g, i, f, o = (layer.input[direction] @ x + layer.recurrent[direction] @ h + bias).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        if layer.cell_clip is not None:
            c = torch.clamp(c, -layer.cell_clip, layer.cell_clip)
        h = layer.projection[direction] @ (o.sigmoid() * c.tanh())
        if layer.projection_clip is not None:
            h = torch.clamp(h, -layer.projection_clip, layer.projection_clip)
        outputs.append(h)
    return outputs if direction == 0 else outputs[::-1], h, c


def gradients(layer: nn.Module, loss: Tensor, *more: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [*more, *layer.parameters()]))


def test_unclipped_it_is_torchs_lstm_with_its_states_and_every_gradient():
    layer = made()
    theirs = nn.LSTM(D, C, proj_size=P, bidirectional=True).double()
    order = torch.cat([torch.arange(C) + C * gate for gate in (1, 2, 0, 3)])  # g, i, f, o -> i, f, g, o
    own = {
        "weight_ih": layer.input[:, order],
        "weight_hh": layer.recurrent[:, order],
        "weight_hr": layer.projection,
    }
    own["bias_ih"] = layer.bias.view(2, -1)[:, order]
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            kind, reverse = name.removesuffix("_reverse").removesuffix("_l0"), int(name.endswith("_reverse"))
            parameter.copy_(own[kind][reverse] if kind in own else torch.zeros_like(parameter))
    x_TD = torch.randn(sum(LENGTHS), D, dtype=torch.float64, requires_grad=True)
    sequence = nn.utils.rnn.pack_sequence(list(x_TD.split(LENGTHS)), enforce_sorted=False)
    expected, (their_h, their_c) = theirs(sequence)
    expected_TP = torch.cat(nn.utils.rnn.unpack_sequence(expected))

    out_TP, (h_BKP, c_BKC) = run(layer, x_TD, pack(bounds(LENGTHS)))
    torch.testing.assert_close(out_TP, expected_TP)
    torch.testing.assert_close(h_BKP, their_h.transpose(0, 1))
    torch.testing.assert_close(c_BKC, their_c.transpose(0, 1))

    weigh = torch.randn_like(out_TP)
    by_x, *by_own = gradients(layer, (out_TP * weigh).sum(), x_TD)
    their_by_x, *by_their = gradients(theirs, (expected_TP * weigh).sum(), x_TD)
    torch.testing.assert_close(by_x, their_by_x)
    found = dict(zip([name for name, _ in theirs.named_parameters()], by_their, strict=True))
    for grad, kind in zip(by_own, ("weight_ih", "weight_hh", "bias_ih", "weight_hr"), strict=True):
        for direction, suffix in enumerate(("", "_reverse")):
            mine = grad.view(2, -1, *grad.shape[2:])[direction] if kind == "bias_ih" else grad[direction]
            mine = mine if kind == "weight_hr" else mine[order]
            torch.testing.assert_close(
                mine, found[f"{kind}_l0{suffix}"], msg=lambda text, k=kind: f"{k}: {text}"
            )


@pytest.mark.parametrize(
    ("cell_clip", "projection_clip"), [(None, None), (0.3, None), (None, 0.1), (0.3, 0.1)]
)
def test_clipping_equals_the_formula_with_every_gradient(cell_clip, projection_clip):
    layer = made(cell_clip=cell_clip, projection_clip=projection_clip, scale=2.0)
    x_TD = torch.randn(sum(LENGTHS), D, dtype=torch.float64, requires_grad=True)
    before = torch.randn(len(LENGTHS), 2, P).double() * 0.05, torch.randn(len(LENGTHS), 2, C).double() * 0.2
    out_TP, (h_BKP, c_BKC) = run(layer, x_TD, pack(bounds(LENGTHS)), before)
    rows = []
    for row, x_LD in enumerate(x_TD.split(LENGTHS)):
        both = [plain(layer, x_LD, k, before[0][row, k], before[1][row, k]) for k in (0, 1)]
        rows.append(torch.cat([torch.stack(outputs) for outputs, _, _ in both], -1))
        for k, (_, h, c) in enumerate(both):
            torch.testing.assert_close(h_BKP[row, k], h)
            torch.testing.assert_close(c_BKC[row, k], c)
    expected_TP = torch.cat(rows)
    torch.testing.assert_close(out_TP, expected_TP)
    if projection_clip is not None:
        assert 0.1 < (out_TP.abs() == projection_clip).double().mean() < 0.9
    if cell_clip is not None:
        assert 0.1 < (c_BKC.abs() == cell_clip).double().mean() < 0.9
    weigh = torch.randn_like(out_TP)
    ours, theirs = (gradients(layer, (out * weigh).sum(), x_TD) for out in (out_TP, expected_TP))
    for name, mine, other in zip(("x", *WEIGHTS), ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, msg=lambda text, name=name: f"{name}: {text}")


def test_steps_take_the_rows_that_still_read():
    packed = pack(bounds(LENGTHS))
    assert [end - begin for begin, end in packed.steps] == [5, 4, 4, 3, 3, 2, 2]
    left, right = packed.index_KT.tolist()
    assert sorted(left) == sorted(right) == list(range(sum(LENGTHS)))
    assert left[:5] == [3, 11, 18, 0, 10]  # the first tokens of the rows, longest first
    assert right[:5] == [9, 17, 22, 2, 10]  # their last ones
    assert packed.row_B[packed.place_B].tolist() == list(range(5))


def test_the_last_token_can_be_left_unread_and_a_row_that_reads_nothing_keeps_its_state():
    packed = pack(bounds(LENGTHS), unread=1)
    left, right = (set(index.tolist()) for index in packed.index_KT)
    ends, starts = bounds(LENGTHS)[1:], bounds(LENGTHS)[:-1]
    assert set(range(23)) - left == set((ends - 1).tolist())
    assert set(range(23)) - right == set(starts.tolist())
    layer, x_TD = made(), torch.randn(23, D).double()
    before = torch.randn(5, 2, P).double(), torch.randn(5, 2, C).double()
    _, after = layer(x_TD[packed.index_KT], packed, before)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[2], old[2])
        assert not torch.isclose(new[[0, 1, 3, 4]], old[[0, 1, 3, 4]]).any()


def test_nothing_to_read_at_all():
    layer, packed = made(), pack(bounds([1, 1]), unread=1)
    x_KTD = torch.empty(2, 0, D, dtype=torch.float64, requires_grad=True)
    out_KTP, (h_BKP, c_BKC) = layer(x_KTD, packed)
    assert out_KTP.shape == (2, 0, P)
    assert not h_BKP.any()
    assert not c_BKC.any()
    assert all(not grad.any() for grad in gradients(layer, out_KTP.sum()))


def test_two_halves_with_carried_state_are_the_whole_from_left_to_right():
    layer, whole = made(cell_clip=0.5, projection_clip=0.3), [6, 4, 2]
    x_TD = torch.randn(sum(whole), D).double()
    expected_TP, (h_BKP, c_BKC) = run(layer, x_TD, pack(bounds(whole)))
    rows, state, found = x_TD.split(whole), None, []
    for half in (0, 1):
        parts = [row.chunk(2)[half] for row in rows]
        out_TP, state = run(layer, torch.cat(parts), pack(bounds([len(part) for part in parts])), state)
        found.append(out_TP.split([len(part) for part in parts]))
    left = torch.cat([torch.cat([first, second]) for first, second in zip(*found, strict=True)])[:, :P]
    torch.testing.assert_close(left, expected_TP[:, :P])
    torch.testing.assert_close(state[0][:, 0], h_BKP[:, 0])
    torch.testing.assert_close(state[1][:, 0], c_BKC[:, 0])
    assert not any(part.requires_grad for part in state)


def test_a_row_is_the_same_alone_and_takes_no_gradient_from_others():
    layer = made(cell_clip=0.5)
    x_TD = torch.randn(sum(LENGTHS), D, dtype=torch.float64, requires_grad=True)
    together, _ = run(layer, x_TD, pack(bounds(LENGTHS)))
    begin, end = 3, 10
    alone, _ = run(layer, x_TD[begin:end], pack(bounds([7])))
    torch.testing.assert_close(together[begin:end], alone)
    (grad,) = torch.autograd.grad(together[begin:end].square().sum(), x_TD)
    assert (grad[begin:end] != 0).all()
    assert torch.count_nonzero(grad[:begin]) == torch.count_nonzero(grad[end:]) == 0


def test_under_autocast_cells_and_gradients_stay_in_float32():
    layer = made(cell_clip=0.5).float()
    x_TD, packed = torch.randn(sum(LENGTHS), D), pack(bounds(LENGTHS))
    exact, (_, exact_c) = layer(x_TD[packed.index_KT], packed)
    expected = gradients(layer, exact.sum())
    with torch.autocast("cpu", torch.bfloat16):
        out, (_, c) = layer(x_TD[packed.index_KT], packed)
    assert out.dtype == torch.bfloat16
    assert c.dtype == torch.float32
    torch.testing.assert_close(out.float(), exact, atol=0.03, rtol=0.03)
    torch.testing.assert_close(c, exact_c, atol=0.03, rtol=0.03)
    for mine, other in zip(gradients(layer, out.float().sum()), expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - other).norm() < 0.05 * other.norm()


def test_first_weights_are_glorots_and_the_forget_gate_is_open():
    layer = ProjectedLSTM(input_size=40, cell_size=60, projection_size=30)
    layer.first_weights(lambda name: generator_for(0, name))
    bound = (6 / (40 + 30 + 240)) ** 0.5
    for matrix in (layer.input, layer.recurrent):
        assert matrix.abs().max() <= bound
        assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert layer.projection.abs().max() <= (6 / 90) ** 0.5
    assert layer.bias.view(2, 4, 60).mean(2).tolist() == [[0, 0, 1, 0]] * 2
