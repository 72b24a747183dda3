"""The encoder block with the normalisation after each sum (post-LN), as in Vaswani et al. 2017 and BERT."""

from collections.abc import Callable, Iterable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TokenBatch
from training.models.layers.attention import SelfAttention, Spans, find_spans
from training.models.layers.dropout import add_dropped
from training.models.layers.shapes import with_filler

Activation = Callable[[Tensor], Tensor]


def layer_states(layers: Iterable[nn.Module], x_TD: Tensor, batch: TokenBatch) -> Iterator[Tensor]:
    """The output of each of `layers`, one after the other on the embedded tokens of `batch`, `x_TD`."""
    tokens = len(x_TD)
    x_TD = with_filler(x_TD)
    spans = find_spans(batch.cu_seqlens, batch.max_seq_len, filler=len(x_TD) - tokens)
    for layer in layers:
        x_TD = layer(x_TD, spans)
        yield x_TD[:tokens]


class EncoderLayer(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + feed_forward(x))`, dropout on each branch; `x_TD -> x_TD`."""

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        feed_forward_size: int,
        layer_norm_eps: float,
        dropout: float,
        attention_dropout: float,
        activation: Activation = F.gelu,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(hidden_size, num_heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = FeedForward(hidden_size, feed_forward_size, activation)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = dropout

    def forward(self, x_TD: Tensor, spans: Spans) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        x_TD = self.attention_norm(add_dropped(x_TD, self.attention(x_TD, spans), dropout))
        return self.feed_forward_norm(add_dropped(x_TD, self.feed_forward(x_TD), dropout))


class FeedForward(nn.Module):
    """Two projections with an activation between them, the exact (erf) GELU if not told otherwise."""

    def __init__(self, hidden_size: int, feed_forward_size: int, activation: Activation = F.gelu) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, feed_forward_size)
        self.down = nn.Linear(feed_forward_size, hidden_size)
        self.activation = activation

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_TD)))
