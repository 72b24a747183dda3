"""The blocks of a left-to-right decoder: normalised after each sum (GPT), or before each branch (GPT-2).

What a token may see is not theirs to know: it is the function `look` (training/generation/cache.py) that they
are called with, so the same block reads a whole stream in training and one token a row when text is made.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from training.generation.cache import Look
from training.models.layers.attention import SelfAttention
from training.models.layers.dropout import add_dropped
from training.models.layers.encoder import FeedForward

GELU_BY_TANH = partial(F.gelu, approximate="tanh")  # as OpenAI's code has it


class PostNormDecoderLayer(nn.Module):
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
        self.feed_forward = FeedForward(hidden_size, feed_forward_size, GELU_BY_TANH)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = dropout

    def forward(self, x_TD: Tensor, look: Look) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        x_TD = self.attention_norm(add_dropped(x_TD, self.attention.through(x_TD, look), dropout))
        return self.feed_forward_norm(add_dropped(x_TD, self.feed_forward(x_TD), dropout))


class PreNormDecoderLayer(nn.Module):
    """`x = x + attention(norm(x)); x = x + feed_forward(norm(x))`, dropout on each branch; `x_TD -> x_TD`.

    The sums are never normalised, so a stack of these ends in a norm of its own.
    """

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
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = SelfAttention(hidden_size, num_heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = FeedForward(hidden_size, feed_forward_size, GELU_BY_TANH)
        self.dropout = dropout

    def forward(self, x_TD: Tensor, look: Look) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        x_TD = add_dropped(x_TD, self.attention.through(self.attention_norm(x_TD), look), dropout)
        return add_dropped(x_TD, self.feed_forward(self.feed_forward_norm(x_TD)), dropout)
