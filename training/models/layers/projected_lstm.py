"""An LSTM whose output is projected, with cell and projection clipped (Sak et al. 2014, arXiv:1402.1128;
Peters et al. 2018), for sequences of different length without wasted work, in two directions side by side.

    stream      a0 a1 a2 a3 a4 | b0 b1 | c0 c1 c2          Packed: longest first, one step after the other
    left-right  a0 c0 b0   a1 c1 b1   a2 c2   a3   a4      step 0 has three rows, steps 3 and 4 one
    right-left  a4 c2 b1   a3 c1 b0   a2 c0   a1   a0      the same rows, so one loop advances both directions

    c = clip(sigmoid(f) * c + sigmoid(i) * tanh(g));   h = clip(projection @ (sigmoid(o) * tanh(c)))

torch's LSTM has projections but no clipping, and so has cuDNN; hence the step is written out. What does not
depend on the step before is one product for all tokens: the inputs' share of the gates, and in the
hand-written backward every gradient of a weight. That is what pays: autograd over the same steps adds a
gradient of the recurrent matrices' size for every step. CPU-milliseconds of forward and backward, one core of
an EPYC 9004, rows of 6 to 40 tokens (tests/benchmarks/bench_lstm.py):

    projection, cells, rows           32, 128, 32    128, 1024, 32    512, 4096, 16
    this, float32                          19             204             2,640
    this, bfloat16                         22             138             1,460
    the same steps, autograd               25             360             6,290
    nn.LSTM on a PackedSequence            31             317             3,950
    nn.LSTM on a padded batch              26             313             4,960

As in the original there is one bias, and the forget gate's starts at 1 (TensorFlow adds 1 in the code
instead). State comes in and goes out detached: backpropagation ends at the border of a batch.

Letters: `B` sequences, `T` packed tokens, `K` directions (left to right, right to left), `D` input size, `C`
cells, `P` projection size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

State = tuple[Tensor, Tensor]  # h_BKP, c_BKC: rows first, so that they go with their sequences


@dataclass(frozen=True)
class Packed:
    """Sequences side by side, longest first (the order of torch's PackedSequence)."""

    steps: list[tuple[int, int]]  # the packed tokens of each step, [begin, end)
    index_KT: Tensor  # int64, the token of the stream that each direction reads there
    row_B: Tensor  # int64, the sequence at each place
    place_B: Tensor  # int64, the place of each sequence
    last_B: Tensor  # int64, the packed token that each place reads last; -1 where it reads none


def pack(cu_seqlens: Tensor, *, unread: int = 0) -> Packed:
    """`unread` tokens at the far end of each sequence are not read: 1 where the last is only predicted."""
    starts_B, ends_B = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    lengths_B, row_B = (ends_B - starts_B - unread).clamp_(min=0).sort(descending=True, stable=True)
    longest = int(lengths_B[0])
    reads_SB = lengths_B > torch.arange(longest, device=lengths_B.device)[:, None]
    step_T, place_T = reads_SB.nonzero(as_tuple=True)
    edges = list(accumulate(reads_SB.sum(1).tolist(), initial=0))
    row_T = row_B[place_T]
    place_B = torch.empty_like(row_B).scatter_(0, row_B, torch.arange(len(row_B), device=row_B.device))
    before_B = torch.tensor([-1, *edges], device=row_B.device)[lengths_B]
    return Packed(
        steps=list(pairwise(edges)),
        index_KT=torch.stack([starts_B[row_T] + step_T, ends_B[row_T] - 1 - step_T]),
        row_B=row_B,
        place_B=place_B,
        last_B=torch.where(lengths_B > 0, before_B + torch.arange(len(row_B), device=row_B.device), -1),
    )


class ProjectedLSTM(nn.Module):
    """One layer, both directions: `x_KTD` packed -> `x_KTP` packed, and the state after each sequence.

    Gates lie in the order g, i, f, o. `cell_clip` and `projection_clip` None: nothing is clipped.
    """

    def __init__(
        self,
        *,
        input_size: int,
        cell_size: int,
        projection_size: int,
        cell_clip: float | None = None,
        projection_clip: float | None = None,
    ) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.empty(2, 4 * cell_size, input_size))
        self.recurrent = nn.Parameter(torch.empty(2, 4 * cell_size, projection_size))
        self.bias = nn.Parameter(torch.empty(2 * 4 * cell_size))  # flat: weight decay is for matrices
        self.projection = nn.Parameter(torch.empty(2, projection_size, cell_size))
        self.cell_clip, self.projection_clip = cell_clip, projection_clip

    def first_weights(self, generator: Callable[[str], torch.Generator]) -> None:
        """Glorot-uniform matrices, TensorFlow's default (one for inputs and recurrence there); bias 0."""
        gates, cells, projected = self.input.shape[1], self.projection.shape[2], self.projection.shape[1]
        bound = (6 / (self.input.shape[2] + projected + gates)) ** 0.5
        nn.init.uniform_(self.input, -bound, bound, generator=generator("input"))
        nn.init.uniform_(self.recurrent, -bound, bound, generator=generator("recurrent"))
        bound = (6 / (cells + projected)) ** 0.5
        nn.init.uniform_(self.projection, -bound, bound, generator=generator("projection"))
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.bias.data.view(2, 4, cells)[:, 2])  # the forget gates

    def forward(self, x_KTD: Tensor, packed: Packed, state: State | None = None) -> tuple[Tensor, State]:
        """`state` is that of the rows of `packed`, in their own order; None: zeros."""
        kind = x_KTD.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_KTD.dtype
        rows, (_, projected, cells) = len(packed.row_B), self.projection.shape
        if state is None:
            h_KBP, c_KBC = x_KTD.new_zeros(2, rows, projected), x_KTD.new_zeros(2, rows, cells)
        else:
            h_KBP, c_KBC = (part.detach()[packed.row_B].transpose(0, 1).contiguous() for part in state)
        h_KBP, c_KBC = h_KBP.to(dtype), c_KBC.to(torch.promote_types(dtype, torch.float32))
        out_KTP, cells_KTC = _Steps.apply(  # type: ignore[no-untyped-call]
            x_KTD.to(dtype),
            self.input,
            self.recurrent,
            self.bias,
            self.projection,
            h_KBP,
            c_KBC,
            packed.steps,
            self.cell_clip,
            self.projection_clip,
        )
        after = (_last(out_KTP.detach(), h_KBP, packed), _last(cells_KTC, c_KBC, packed))
        return out_KTP, after


def _last(values_KTX: Tensor, before_KBX: Tensor, packed: Packed) -> Tensor:
    """The value at each sequence's last step, in the order of the sequences: `B,K,X`."""
    if not packed.steps:
        return before_KBX.transpose(0, 1)[packed.place_B]
    last_KBX = values_KTX[:, packed.last_B.clamp(min=0)]
    return torch.where(packed.last_B[:, None] < 0, before_KBX, last_KBX).transpose(0, 1)[packed.place_B]


class _Steps(torch.autograd.Function):
    """The recurrence; cells are kept in float32 at least, everything else in the precision of autocast.

    Backward runs over the steps once more, last first. With A = o * (1 - tanh(c)^2), and F the derivative of
    each gate's activation times what the gate was multiplied with, all made before the loop for all steps at
    once:

        dh += later_h;   ds = dh @ projection;   dc = ds * A + later_c
        gates = F * (dc, dc, dc, ds);   later_h = gates @ recurrent;   later_c = dc * f
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_KTD: Tensor,
        input_: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        projection: Tensor,
        h_KBP: Tensor,
        c_KBC: Tensor,
        steps: list[tuple[int, int]],
        cell_clip: float | None,
        projection_clip: float | None,
    ) -> tuple[Tensor, Tensor]:
        dtype = x_KTD.dtype
        (directions, tokens, _), cells = x_KTD.shape, c_KBC.shape[2]
        with torch.autocast(x_KTD.device.type, enabled=False):
            to_gates, back, out = (w.to(dtype) for w in (input_, recurrent, projection))
            bias_K1G = bias.to(dtype).view(directions, 1, -1)
            gates_KTG = torch.baddbmm(bias_K1G, x_KTD, to_gates.transpose(1, 2))
            back_KPG, out_KCP = back.transpose(1, 2), out.transpose(1, 2)
            c_KTC = c_KBC.new_empty(directions, tokens, cells)
            h_KTP = x_KTD.new_empty(directions, tokens, out.shape[1])
            h, c = h_KBP, c_KBC
            for begin, end in steps:
                gates = gates_KTG[:, begin:end]
                gates.baddbmm_(h[:, : end - begin], back_KPG)
                gates[..., :cells].tanh_()
                gates[..., cells:].sigmoid_()
                g, i, f, o = _by_gate(gates).unbind(2)
                c = torch.mul(f, c[:, : end - begin], out=c_KTC[:, begin:end]).addcmul_(g, i)
                if cell_clip is not None:
                    c.clamp_(-cell_clip, cell_clip)
                h = h_KTP[:, begin:end]
                torch.bmm(c.tanh().to(dtype).mul_(o), out_KCP, out=h)
                if projection_clip is not None:
                    h.clamp_(-projection_clip, projection_clip)
        ctx.steps, ctx.clips = steps, (cell_clip, projection_clip)
        ctx.save_for_backward(x_KTD, input_, recurrent, projection, h_KBP, c_KBC, gates_KTG, c_KTC, h_KTP)
        ctx.mark_non_differentiable(c_KTC)
        return h_KTP, c_KTC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KTP: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x_KTD, input_, recurrent, projection, h_KBP, c_KBC, gates_KTG, c_KTC, h_KTP = ctx.saved_tensors
        dtype, cells = x_KTD.dtype, c_KTC.shape[2]
        cell_clip, projection_clip = ctx.clips
        with torch.autocast(x_KTD.device.type, enabled=False):
            to_gates, back, out = (w.to(dtype) for w in (input_, recurrent, projection))
            g, i, f, o = _by_gate(gates_KTG).unbind(2)
            squashed = c_KTC.tanh().to(dtype)
            by_gates_KTG = torch.empty_like(gates_KTG)
            by_g, by_i, by_f, by_o = _by_gate(by_gates_KTG).unbind(2)
            torch.mul(i, 1 - g * g, out=by_g)
            torch.mul(g, i * (1 - i), out=by_i)
            torch.mul(_before(c_KBC, c_KTC, ctx.steps), f * (1 - f), out=by_f)
            torch.mul(squashed, o * (1 - o), out=by_o)
            through_c = o * (1 - squashed * squashed)
            through_f = f
            if cell_clip is not None:
                inside = (c_KTC.abs() < cell_clip).to(dtype)
                through_f = f * inside
                _by_gate(by_gates_KTG)[:, :, :3].mul_(inside.unsqueeze(2))
            by_h_KTP = grad_KTP.to(dtype, copy=True)
            open_ = None if projection_clip is None else (h_KTP.abs() < projection_clip).to(dtype)
            later_h, later_c = by_h_KTP[:, :0], c_KTC[:, :0]
            for begin, end in reversed(ctx.steps):
                step, later = slice(begin, end), slice(0, later_h.shape[1])
                by_h = by_h_KTP[:, step]
                by_h[:, later] += later_h
                if open_ is not None:
                    by_h *= open_[:, step]
                by_s = torch.bmm(by_h, out)
                by_c = torch.mul(by_s, through_c[:, step], out=c_KTC.new_empty(by_s.shape))
                by_c[:, later] += later_c
                by_gates = by_gates_KTG[:, step]
                _by_gate(by_gates)[:, :, :3].mul_(by_c.unsqueeze(2))
                by_gates[..., 3 * cells :].mul_(by_s)
                later_c = by_c.mul_(through_f[:, step])
                later_h = torch.bmm(by_gates, back)
            by_gates_KGT = by_gates_KTG.transpose(1, 2)
            before_KTP = _before(h_KBP, h_KTP, ctx.steps)
            return (
                torch.bmm(by_gates_KTG, to_gates),
                torch.bmm(by_gates_KGT, x_KTD).to(input_.dtype),
                torch.bmm(by_gates_KGT, before_KTP).to(recurrent.dtype),
                by_gates_KTG.sum(1, dtype=input_.dtype).flatten(),
                torch.bmm(by_h_KTP.transpose(1, 2), squashed.mul_(o)).to(projection.dtype),
                *(None,) * 5,
            )


def _by_gate(gates_KTG: Tensor) -> Tensor:
    """A view, `K,T,4,C`."""
    return gates_KTG.view(*gates_KTG.shape[:2], 4, gates_KTG.shape[2] // 4)


def _before(first_KBX: Tensor, values_KTX: Tensor, steps: list[tuple[int, int]]) -> Tensor:
    """What each step found: the values of the step before it, or those of the start; `K,T,X`."""
    if not steps:
        return values_KTX
    found = [first_KBX[:, : steps[0][1]]]
    found += [values_KTX[:, begin : begin + after[1] - after[0]] for (begin, _), after in pairwise(steps)]
    return torch.cat(found, 1)
