"""RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT trained longer on more text, without pairs of segments.

The encoder is BERT's with LayerNorm eps 1e-5, as fairseq `models/roberta` has it. Position 0 of a text is row pad_id + 1
of the position table (the rows before it stand for padding), all tokens are of one segment, there is no pooler, and
weights begin as normal numbers of deviation .02 that are not cut. fairseq and transformers do not count a padding token
inside a text as a position; here tokens of a text are counted whatever they are.

Letters: `T` tokens, `M` targets, `D` hidden size, `V` vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from corpus.instance_kinds import MaskedInstances
from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import initialize_normal
from training.models.layers.embeddings import Embeddings
from training.models.layers.encoder import EncoderLayer, layer_states
from training.models.layers.heads import MaskedLMHead
from training.models.sizes import check_heads, check_sizes
from training.pretraining_batches import MaskedBatch


@dataclass(frozen=True, kw_only=True)
class RobertaConfig:
    """The shape of a RoBERTa; sizes are counts, `max_seq_len` is tokens, `pad_id` the vocabulary's padding token."""

    reads: ClassVar = MaskedInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int = 512
    pad_id: int = 1
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-5
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)
        if self.pad_id >= self.vocab_size:
            raise ValueError(
                f"pad_id {self.pad_id}: the vocabulary has {self.vocab_size} entries; give one of them"
            )

    def network(self, *, seed: int | None = 0) -> "RobertaForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return RobertaForPretraining(self, seed=seed)


def base(vocab_size: int = 50265) -> RobertaConfig:
    """125 million parameters."""
    return _published(vocab_size, 12, 768)


def large(vocab_size: int = 50265) -> RobertaConfig:
    """355 million parameters."""
    return _published(vocab_size, 24, 1024)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class Roberta(nn.Module):
    """The encoder: `TokenBatch -> x_TD`. Built where the caller says; RobertaForPretraining draws its weights."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            max_seq_len=config.max_seq_len,
            first_position=config.pad_id + 1,
            num_segments=1,
            layer_norm_eps=config.layer_norm_eps,
            dropout=config.dropout,
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                hidden_size=config.hidden_size,
                num_heads=config.num_heads,
                feed_forward_size=config.feed_forward_size,
                layer_norm_eps=config.layer_norm_eps,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
            for _ in range(config.num_layers)
        )

    def states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The embeddings, then the output of each layer: `num_layers + 1` tensors `x_TD`."""
        x_TD = self.embeddings(batch)
        yield x_TD
        yield from layer_states(self.layers, x_TD, batch)

    def forward(self, batch: TokenBatch) -> Tensor:
        """The last layer's output, `x_TD`."""
        for state in self.states(batch):
            x_TD = state
        return x_TD


class RobertaForPretraining(nn.Module):
    """The masked-LM head on a RoBERTa: `MaskedBatch -> Losses`."""

    def __init__(self, config: RobertaConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.roberta = Roberta(config)
            self.masked_lm = MaskedLMHead(
                hidden_size=config.hidden_size,
                vocab_size=config.vocab_size,
                layer_norm_eps=config.layer_norm_eps,
            )
        if seed is not None:
            initialize_normal(self, seed=seed, std=config.initializer_std)
            with torch.no_grad():
                self.roberta.embeddings.token.weight[config.pad_id] = 0
                self.roberta.embeddings.position.weight[config.pad_id] = 0

    def predictions(self, batch: MaskedBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        return {"masked_lm": len(batch.target_tokens_M)}

    def forward(self, batch: MaskedBatch) -> Losses:
        x_MD = self.roberta(batch.tokens).index_select(0, batch.target_index_M)
        embedding_VD = self.roberta.embeddings.token.weight
        loss, correct = self.masked_lm.loss(x_MD, embedding_VD, batch.target_tokens_M)
        counts = {
            "masked_lm_correct": correct,
            "masked_lm_count": correct.new_tensor(len(batch.target_tokens_M)),
        }
        return Losses(total=loss, parts={"masked_lm": loss}, counts=counts)

    def masked_lm_logits(self, batch: TokenBatch, index_M: Tensor) -> Tensor:
        """Scores of the whole vocabulary at places `index_M` of the stream, `M,V`."""
        return self.masked_lm(self.roberta(batch)[index_M], self.roberta.embeddings.token.weight)
