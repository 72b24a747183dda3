"""The encoder block with the normalisation after each sum (post-LN), as in Vaswani et al. 2017 and BERT."""

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layers.attention import SelfAttention, Spans
from training.models.layers.dropout import add_dropped


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
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(hidden_size, num_heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = FeedForward(hidden_size, feed_forward_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = dropout

    def forward(self, x_TD: Tensor, spans: Spans) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        x_TD = self.attention_norm(add_dropped(x_TD, self.attention(x_TD, spans), dropout))
        return self.feed_forward_norm(add_dropped(x_TD, self.feed_forward(x_TD), dropout))


class FeedForward(nn.Module):
    """Two projections with the exact (erf) GELU between them."""

    def __init__(self, hidden_size: int, feed_forward_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, feed_forward_size)
        self.down = nn.Linear(feed_forward_size, hidden_size)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_TD)))
