"""GPT (Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"): a Transformer
decoder trained to say the next token.

Follows openai/finetune-transformer-lm `train.py`: post-LN blocks, learned positions, GELU by tanh, LayerNorm
eps 1e-5, every weight drawn from N(0, .02), dropout .1 on embeddings, attention weights and both branches,
scores by the token embedding transposed. What makes up the network is in layers/left_to_right.py, its blocks
in layers/decoder.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from corpus.instance_kinds import CausalInstances
from training.models.layers.decoder import PostNormDecoderLayer
from training.models.layers.left_to_right import LeftToRight, initialize_left_to_right
from training.models.sizes import check_heads, check_sizes


@dataclass(frozen=True, kw_only=True)
class GptConfig:
    """The shape of a GPT; sizes are counts, `max_seq_len` is tokens."""

    reads: ClassVar = CausalInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dropout: float = 0.1
    layer_norm_eps: float = 1e-5
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)

    def network(self, *, seed: int | None = 0) -> "Gpt":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return Gpt(self, seed=seed)


def base(vocab_size: int = 40478) -> GptConfig:
    """The one published size; the vocabulary is 40,000 merges and their symbols."""
    return GptConfig(
        vocab_size=vocab_size, hidden_size=768, num_layers=12, num_heads=12, feed_forward_size=3072
    )


class Gpt(LeftToRight):
    """Post-LN blocks; the last one's norm is the last thing before the scores."""

    def __init__(self, config: GptConfig, *, seed: int | None = 0) -> None:
        with torch.device("meta"):
            super().__init__(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                max_seq_len=config.max_seq_len,
                layers=(
                    PostNormDecoderLayer(
                        hidden_size=config.hidden_size,
                        num_heads=config.num_heads,
                        feed_forward_size=config.feed_forward_size,
                        layer_norm_eps=config.layer_norm_eps,
                        dropout=config.dropout,
                        attention_dropout=config.attention_dropout,
                    )
                    for _ in range(config.num_layers)
                ),
                norm=None,
                dropout=config.embedding_dropout,
            )
        self.config = config
        if seed is not None:
            std = config.initializer_std
            initialize_left_to_right(self, seed=seed, std=std, residual_std=std)
