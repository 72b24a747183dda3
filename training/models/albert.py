"""ALBERT (Lan et al. 2019, arXiv:1909.11942): one layer of parameters applied many times, and a small token embedding.

Follows google-research/albert `modeling.py`: BERT's post-LN block, whose weights all layers share; embeddings of 128
values, normalised at that size and then projected to the hidden size; a vocabulary head that leads back to 128; GELU by
its tanh approximation; truncated normal .02. Instead of whether B follows A it predicts whether two consecutive segments
were exchanged. Dropout is on the output of both branches, as there (transformers leaves it out after the feed-forward
layer), and none on the pooled text.

Letters: `B` sequences, `T` tokens, `M` targets, `D` hidden size, `E` embedding size, `V` vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.instance_kinds import MaskedInstances
from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import initialize
from training.models.layers.embeddings import Embeddings
from training.models.layers.encoder import Activation, EncoderLayer, layer_states
from training.models.layers.heads import MaskedLMHead, Pooler
from training.models.sizes import check_heads, check_sizes
from training.pretraining_batches import MaskedBatch


@dataclass(frozen=True, kw_only=True)
class AlbertConfig:
    """The shape of an ALBERT; sizes are counts, `max_seq_len` is tokens.

    `exact_gelu` is erf instead of tanh: what transformers computes for the folders of version 1, which say "gelu".
    """

    reads: ClassVar = MaskedInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    embedding_size: int = 128
    max_seq_len: int = 512
    num_segments: int = 2
    exact_gelu: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    layer_norm_eps: float = 1e-12
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)

    @property
    def activation(self) -> Activation:
        return F.gelu if self.exact_gelu else partial(F.gelu, approximate="tanh")

    def network(self, *, seed: int | None = 0) -> "AlbertForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return AlbertForPretraining(self, seed=seed)


def base(vocab_size: int = 30000) -> AlbertConfig:
    """12 million parameters. Version 2, as all sizes here that do not say otherwise: trained without dropout."""
    return _published(vocab_size, num_layers=12, hidden_size=768, num_heads=12)


def large(vocab_size: int = 30000) -> AlbertConfig:
    """18 million parameters."""
    return _published(vocab_size, num_layers=24, hidden_size=1024, num_heads=16)


def xlarge(vocab_size: int = 30000) -> AlbertConfig:
    """60 million parameters; 16 heads of 128 in the released models."""
    return _published(vocab_size, num_layers=24, hidden_size=2048, num_heads=16)


def xxlarge(vocab_size: int = 30000) -> AlbertConfig:
    """235 million parameters. Version 1 had no dropout either."""
    return _published(vocab_size, num_layers=12, hidden_size=4096, num_heads=64)


def version_1(config: AlbertConfig) -> AlbertConfig:
    """The same shape (base, large, xlarge) with the dropout of the first release."""
    return replace(config, dropout=0.1, attention_dropout=0.1)


def _published(vocab_size: int, *, num_layers: int, hidden_size: int, num_heads: int) -> AlbertConfig:
    return AlbertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        feed_forward_size=4 * hidden_size,
    )


class Albert(nn.Module):
    """The encoder and its pooler: `TokenBatch -> x_TD`. Built where the caller says."""

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.num_layers = config.num_layers
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            hidden_size=config.embedding_size,
            max_seq_len=config.max_seq_len,
            num_segments=config.num_segments,
            layer_norm_eps=config.layer_norm_eps,
            dropout=config.dropout,
        )
        self.widen = nn.Linear(config.embedding_size, config.hidden_size)
        self.layer = EncoderLayer(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            feed_forward_size=config.feed_forward_size,
            layer_norm_eps=config.layer_norm_eps,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation=config.activation,
        )
        self.pooler = Pooler(config.hidden_size)

    def states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The widened embeddings, then what each round through the layer gives: `num_layers + 1` tensors `x_TD`."""
        # Under autocast the sums on the way stay in the parameters' precision, as in an encoder that widens nothing.
        x_TD = self.widen(self.embeddings(batch)).to(self.widen.weight.dtype)
        yield x_TD
        yield from layer_states(repeat(self.layer, self.num_layers), x_TD, batch)

    def forward(self, batch: TokenBatch) -> Tensor:
        """The last round's output, `x_TD`."""
        for state in self.states(batch):
            x_TD = state
        return x_TD

    def pooled(self, x_TD: Tensor, cu_seqlens: Tensor) -> Tensor:
        """The sentence representation, `B,D`: the first token through the tanh pooler."""
        return self.pooler(x_TD, cu_seqlens)


class AlbertForPretraining(nn.Module):
    """Masked-LM and sentence-order heads on an ALBERT: `MaskedBatch -> Losses`."""

    def __init__(self, config: AlbertConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.albert = Albert(config)
            self.masked_lm = MaskedLMHead(
                hidden_size=config.hidden_size,
                embedding_size=config.embedding_size,
                vocab_size=config.vocab_size,
                layer_norm_eps=config.layer_norm_eps,
                activation=config.activation,
            )
            self.sentence_order = nn.Linear(config.hidden_size, 2)
        if seed is not None:
            initialize(self, seed=seed, std=config.initializer_std)

    def predictions(self, batch: MaskedBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        counts = {"masked_lm": len(batch.target_tokens_M)}
        return counts if batch.pair_label_B is None else {**counts, "sentence_order": len(batch)}

    def forward(self, batch: MaskedBatch) -> Losses:
        x_TD = self.albert(batch.tokens)
        embedding_VE = self.albert.embeddings.token.weight
        x_MD = x_TD.index_select(0, batch.target_index_M)
        masked_lm, correct = self.masked_lm.loss(x_MD, embedding_VE, batch.target_tokens_M)
        parts = {"masked_lm": masked_lm}
        counts = {
            "masked_lm_correct": correct,
            "masked_lm_count": correct.new_tensor(len(batch.target_tokens_M)),
        }
        if batch.pair_label_B is not None:
            logits_B2 = self._sentence_order(x_TD, batch.tokens).float()
            parts["sentence_order"] = F.cross_entropy(logits_B2, batch.pair_label_B)
            counts["sentence_order_correct"] = (logits_B2.argmax(-1) == batch.pair_label_B).sum()
            counts["sentence_order_count"] = correct.new_tensor(len(batch))
        return Losses(total=torch.stack(list(parts.values())).sum(), parts=parts, counts=counts)

    def masked_lm_logits(self, batch: TokenBatch, index_M: Tensor) -> Tensor:
        """Scores of the whole vocabulary at places `index_M` of the stream, `M,V`."""
        return self.masked_lm(self.albert(batch)[index_M], self.albert.embeddings.token.weight)

    def sentence_order_logits(self, batch: TokenBatch) -> Tensor:
        """`B,2`: column 0 the segments are in order, column 1 they were exchanged."""
        return self._sentence_order(self.albert(batch), batch)

    def _sentence_order(self, x_TD: Tensor, batch: TokenBatch) -> Tensor:
        return self.sentence_order(self.albert.pooled(x_TD, batch.cu_seqlens))
