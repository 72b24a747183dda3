"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3): GPT with
the norms moved before each branch and one more at the end, 1,024 positions and up to 48 layers.

"We scale the weights of residual layers at initialization by a factor of 1/sqrt(N) where N is the number of
residual layers": each layer has two branches that write into the sum, so N is twice the number of layers, as
transformers has it (OpenAI's released code has the model, not this). Everything else is N(0, .02), positions
too; the release draws those from N(0, .01). The rest is GPT's (gpt.py).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from corpus.instance_kinds import CausalInstances
from training.models.layers.decoder import PreNormDecoderLayer
from training.models.layers.left_to_right import LeftToRight, initialize_left_to_right
from training.models.sizes import check_heads, check_sizes


@dataclass(frozen=True, kw_only=True)
class Gpt2Config:
    """The shape of a GPT-2; the fields are GPT's."""

    reads: ClassVar = CausalInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dropout: float = 0.1
    layer_norm_eps: float = 1e-5
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)

    def network(self, *, seed: int | None = 0) -> "Gpt2":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return Gpt2(self, seed=seed)


def small(vocab_size: int = 50257) -> Gpt2Config:
    """124 M parameters (the paper says 117)."""
    return _published(vocab_size, 12, 768)


def medium(vocab_size: int = 50257) -> Gpt2Config:
    """355 M (the paper says 345)."""
    return _published(vocab_size, 24, 1024)


def large(vocab_size: int = 50257) -> Gpt2Config:
    """774 M (the paper says 762)."""
    return _published(vocab_size, 36, 1280)


def xl(vocab_size: int = 50257) -> Gpt2Config:
    """1,558 M (the paper says 1,542)."""
    return _published(vocab_size, 48, 1600)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> Gpt2Config:
    """Every published size has heads of 64 and a feed-forward layer four times as wide."""
    return Gpt2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class Gpt2(LeftToRight):
    """Pre-LN blocks and a last norm."""

    def __init__(self, config: Gpt2Config, *, seed: int | None = 0) -> None:
        with torch.device("meta"):
            super().__init__(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                max_seq_len=config.max_seq_len,
                layers=(
                    PreNormDecoderLayer(
                        hidden_size=config.hidden_size,
                        num_heads=config.num_heads,
                        feed_forward_size=config.feed_forward_size,
                        layer_norm_eps=config.layer_norm_eps,
                        dropout=config.dropout,
                        attention_dropout=config.attention_dropout,
                    )
                    for _ in range(config.num_layers)
                ),
                norm=nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
                dropout=config.embedding_dropout,
            )
        self.config = config
        if seed is not None:
            std = config.initializer_std
            initialize_left_to_right(
                self, seed=seed, std=std, residual_std=std / (2 * config.num_layers) ** 0.5
            )
