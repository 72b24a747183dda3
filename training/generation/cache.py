"""Keys and values of what was read before, so that a step costs one token's work for each row.

    prompts, one copy for all their beams        what each row has said since, written in place
    P,N,L,H  padded after the end                B,N,R,H  the first `said` of R columns are used

        the quick brown .                        fox   jumps          row 0    prompt 0
        the quick brown .                        cat   sleeps         row 1    prompt 0
        a   .     .     .                        bird  sings          row 2    prompt 1

A prompt's part never moves: when beams take each other's place, only the short right part is copied. Prompts
are read as one flat stream (training/models/layers/attention.py), so the padding on the left is zeros that
are never computed from anything, and steps skip it by a mask, or need none where all prompts are equally
long.

Both halves are scored, one softmax runs over the two together, and each half is mixed by its part of the
weights. `PromptMemory` alone is what a decoder's attention to an encoder needs (training/models/bart.py).

Letters: `B` rows, `P` prompts, `G` rows of a prompt, `T` tokens of all prompts, `L` tokens of the longest,
`R` room for new ones, `N` heads, `H` size per head.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Look = Callable[
    [Tensor, float], Tensor
]  # (queries, keys and values T,3,N,H; dropout of weights) -> what is seen, T,N,H


class PromptMemory:
    """Keys and values of prompts in every layer: `P,N,L,H`, for `B = P * G` rows of queries."""

    def __init__(self, cu_seqlens: Tensor, max_seq_len: int, num_layers: int) -> None:
        self.lengths_P = cu_seqlens.diff().long()
        self._size = max_seq_len
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._num_layers = num_layers
        real_PL = torch.arange(max_seq_len, device=cu_seqlens.device) < self.lengths_P[:, None]
        # without a mask where there is nothing to hide: one addition less in every layer of every step
        ragged = bool((self.lengths_P < max_seq_len).any())
        self._bias_P11L = torch.where(real_PL, 0.0, -torch.inf)[:, None, None] if ragged else None
        self._place_T: tuple[Tensor, ...] = torch.nonzero(
            real_PL, as_tuple=True
        )  # row-major: the stream's order

    def keep(self, keys_TNH: Tensor, values_TNH: Tensor) -> None:
        """Keep the next layer's; rows behind the last prompt (filler) are left out. Layers come in order."""
        assert len(self._layers) < self._num_layers, "more layers than there are"
        self._layers.append((self._padded(keys_TNH), self._padded(values_TNH)))

    def _padded(self, flat_TNH: Tensor) -> Tensor:
        shape = (len(self.lengths_P), self._size, *flat_TNH.shape[1:])
        # zeros behind the ends: a weight of zero times what happens to lie there may be no number
        padded_PLNH = flat_TNH.new_empty(shape) if self._bias_P11L is None else flat_TNH.new_zeros(shape)
        padded_PLNH[self._place_T] = flat_TNH[: len(self._place_T[0])]
        return padded_PLNH.transpose(1, 2).contiguous()

    def scores(self, layer: int, q_BNH: Tensor) -> Tensor:
        """`q k / sqrt(H)` for every row and token of its prompt, -inf behind its end: `P,N,G,L`."""
        q_PNGH = q_BNH.view(len(self.lengths_P), -1, *q_BNH.shape[1:]).transpose(1, 2)
        scores_PNGL = (q_PNGH * q_BNH.shape[-1] ** -0.5) @ self._layers[layer][0].transpose(-1, -2)
        return scores_PNGL if self._bias_P11L is None else scores_PNGL + self._bias_P11L.to(scores_PNGL.dtype)

    def mixed(self, layer: int, weights_PNGL: Tensor) -> Tensor:
        """The values by weight, `B,N,H`."""
        return (weights_PNGL @ self._layers[layer][1]).transpose(1, 2).flatten(0, 1)

    def attend(self, layer: int, q_BNH: Tensor) -> Tensor:
        """What each row sees of its prompt alone, `B,N,H`: a decoder looking at an encoder."""
        return self.mixed(layer, torch.softmax(self.scores(layer, q_BNH), -1))

    def select(self, prompts_P: Tensor) -> None:
        """Keep these prompts, in this order."""
        self.lengths_P = self.lengths_P[prompts_P]
        self._layers = [(keys[prompts_P], values[prompts_P]) for keys, values in self._layers]
        if self._bias_P11L is not None:
            self._bias_P11L = self._bias_P11L[prompts_P]


class KeyValueCache:
    """Self-attention's keys and values in every layer, of prompts and of what rows have said since.

    Reading the prompts, layer by layer:  `look = cache.reading(attend_the_stream)`, `layer(x_TD, look)`.
    One step:  `layer(x_BD, cache.looking(number))` for every layer, then `cache.advance()`.
    """

    def __init__(self, prompts: PromptMemory, *, new_tokens: int) -> None:
        self.prompts = prompts
        self.lengths_B = prompts.lengths_P.clone()  # tokens of each row so far: the position of its next one
        self._rows = 1  # of each prompt
        self._room, self._said = new_tokens, 0
        self._own: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys, values B,N,R,H

    def reading(self, attend: Look) -> Look:
        """Attention over the prompts that also keeps one layer's keys and values."""

        def look(qkv_T3NH: Tensor, dropout: float) -> Tensor:
            self.prompts.keep(qkv_T3NH[:, 1], qkv_T3NH[:, 2])
            return attend(qkv_T3NH, dropout)

        return look

    def looking(self, layer: int) -> Look:
        """Attention of one new token a row to all before it and itself; dropout is not known here."""

        def look(qkv_B3NH: Tensor, _: float) -> Tensor:
            q_BNH, k_BNH, v_BNH = qkv_B3NH.unbind(1)
            keys_BNSH, values_BNSH = self._with(layer, k_BNH, v_BNH)
            of_prompts = self.prompts.scores(layer, q_BNH)
            own_BNS = ((q_BNH * q_BNH.shape[-1] ** -0.5)[:, :, None] @ keys_BNSH.transpose(-1, -2)).squeeze(2)
            own_PNGS = own_BNS.view(-1, self._rows, *own_BNS.shape[1:]).transpose(1, 2)
            weights = torch.softmax(torch.cat([of_prompts, own_PNGS], -1), -1)
            shared = of_prompts.shape[-1]
            to_own_BNS = weights[..., shared:].transpose(1, 2).flatten(0, 1)
            mixed_BNH = (to_own_BNS[:, :, None] @ values_BNSH).squeeze(2)
            return mixed_BNH.add_(self.prompts.mixed(layer, weights[..., :shared]))

        return look

    def _with(self, layer: int, k_BNH: Tensor, v_BNH: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new token's behind what its row has said; views of all of these, `B,N,S,H`."""
        assert self._said < self._room, "more steps than there was room asked for"
        if layer not in self._own:
            rows, heads, size = k_BNH.shape
            self._own[layer] = (
                k_BNH.new_empty(rows, heads, self._room, size),
                v_BNH.new_empty(rows, heads, self._room, size),
            )
        keys, values = self._own[layer]
        keys[:, :, self._said], values[:, :, self._said] = k_BNH, v_BNH
        return keys[:, :, : self._said + 1], values[:, :, : self._said + 1]

    def advance(self) -> None:
        """Every row has one token more."""
        self._said += 1
        self.lengths_B = self.lengths_B + 1

    def widen(self, count: int) -> None:
        assert self._rows == 1, "rows are multiplied once"
        assert not self._own, "rows are multiplied before the first step"
        self._rows = count
        self.lengths_B = self.lengths_B.repeat_interleave(count)

    def select(self, rows_B: Tensor) -> None:
        if torch.equal(rows_B, torch.arange(len(self.lengths_B), device=rows_B.device)):
            return
        self.lengths_B = self.lengths_B[rows_B]
        prompts_P = rows_B[:: self._rows] // self._rows
        if len(prompts_P) != len(self.prompts.lengths_P) or bool((prompts_P.diff() != 1).any()):
            self.prompts.select(prompts_P)
        self._own = {
            layer: (self._moved(keys, rows_B), self._moved(values, rows_B))
            for layer, (keys, values) in self._own.items()
        }

    def _moved(self, whole_BNRH: Tensor, rows_B: Tensor) -> Tensor:
        """The rows' used columns in new memory: what is copied does not grow with the room."""
        moved_BNRH = whole_BNRH.new_empty(len(rows_B), *whole_BNRH.shape[1:])
        moved_BNRH[:, :, : self._said] = whole_BNRH[:, :, : self._said][rows_B]
        return moved_BNRH
