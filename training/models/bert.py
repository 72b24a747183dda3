"""BERT (Devlin et al. 2019, arXiv:1810.04805): a bidirectional encoder trained on hidden tokens and on which
sentence comes next.

Follows google-research/bert `modeling.py`: post-LN blocks, exact GELU, LayerNorm eps 1e-12, truncated normal
.02, an output matrix that is the token embedding, a bias of its own for it. The compact sizes are those of
Turc et al. 2019 (arXiv:1908.08962).

Everything runs on the flat stream of `training/batches.py`: no padding is ever computed on, and the
vocabulary head runs at targets only.

Letters: `B` sequences, `T` tokens, `M` targets, `D` hidden size, `V` vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.instance_kinds import MaskedInstances
from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import initialize
from training.models.layers.embeddings import Embeddings
from training.models.layers.encoder import EncoderLayer, layer_states
from training.models.layers.heads import MaskedLMHead, Pooler
from training.models.sizes import check_heads, check_sizes
from training.pretraining_batches import MaskedBatch


@dataclass(frozen=True, kw_only=True)
class BertShape:
    """The shape of BERT's encoder; sizes are counts, `max_seq_len` is tokens."""

    reads: ClassVar = MaskedInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int = 512
    num_segments: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class BertConfig(BertShape):
    """A BERT with its pooler and both heads."""

    def network(self, *, seed: int | None = 0) -> "BertForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return BertForPretraining(self, seed=seed)


def tiny(vocab_size: int = 30522) -> BertConfig:
    return _published(vocab_size, 2, 128)


def mini(vocab_size: int = 30522) -> BertConfig:
    return _published(vocab_size, 4, 256)


def small(vocab_size: int = 30522) -> BertConfig:
    return _published(vocab_size, 4, 512)


def medium(vocab_size: int = 30522) -> BertConfig:
    return _published(vocab_size, 8, 512)


def base(vocab_size: int = 30522) -> BertConfig:
    """The vocabulary is 30,522 uncased, 28,996 cased."""
    return _published(vocab_size, 12, 768)


def large(vocab_size: int = 30522) -> BertConfig:
    """Trained on hidden pieces or, later, on hidden whole words: the network is the same."""
    return _published(vocab_size, 24, 1024)


def multilingual_cased(vocab_size: int = 119547) -> BertConfig:
    """BERT-base on the Wikipedias of 104 languages."""
    return base(vocab_size)


def multilingual_uncased(vocab_size: int = 105879) -> BertConfig:
    """BERT-base on the Wikipedias of 102 languages."""
    return base(vocab_size)


def chinese(vocab_size: int = 21128) -> BertConfig:
    """BERT-base on single Chinese characters; trained on whole words, it is the network of BERT-wwm."""
    return base(vocab_size)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> BertConfig:
    """Every published size has heads of 64 and a feed-forward layer four times as wide."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class BertEncoder(nn.Module):
    """Embeddings and layers: `TokenBatch -> x_TD`."""

    def __init__(self, config: BertShape, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self._build(config)
        if seed is not None:
            initialize(self, seed=seed, std=config.initializer_std)

    def _build(self, config: BertShape) -> None:
        self.embeddings = Embeddings(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            max_seq_len=config.max_seq_len,
            num_segments=config.num_segments,
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


class Bert(BertEncoder):
    """The encoder with its pooler."""

    def _build(self, config: BertShape) -> None:
        super()._build(config)
        self.pooler = Pooler(config.hidden_size)

    def pooled(self, x_TD: Tensor, cu_seqlens: Tensor) -> Tensor:
        """The sentence representation, `B,D`: the first token through the tanh pooler."""
        return self.pooler(x_TD, cu_seqlens)


class BertForPretraining(nn.Module):
    """Masked-LM and next-sentence heads on a BERT: `MaskedBatch -> Losses`."""

    def __init__(self, config: BertConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.bert = Bert(config, seed=None)
            self.masked_lm = MaskedLMHead(
                hidden_size=config.hidden_size,
                vocab_size=config.vocab_size,
                layer_norm_eps=config.layer_norm_eps,
            )
            self.next_sentence = nn.Linear(config.hidden_size, 2)
        if seed is not None:
            initialize(self, seed=seed, std=config.initializer_std)

    def predictions(self, batch: MaskedBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        counts = {"masked_lm": len(batch.target_tokens_M)}
        return counts if batch.pair_label_B is None else {**counts, "next_sentence": len(batch)}

    def forward(self, batch: MaskedBatch) -> Losses:
        x_TD = self.bert(batch.tokens)
        embedding_VD = self.bert.embeddings.token.weight
        x_MD = x_TD.index_select(0, batch.target_index_M)
        masked_lm, correct = self.masked_lm.loss(x_MD, embedding_VD, batch.target_tokens_M)
        parts = {"masked_lm": masked_lm}
        counts = {
            "masked_lm_correct": correct,
            "masked_lm_count": correct.new_tensor(len(batch.target_tokens_M)),
        }
        if batch.pair_label_B is not None:
            logits_B2 = self._next_sentence(x_TD, batch.tokens).float()
            parts["next_sentence"] = F.cross_entropy(logits_B2, batch.pair_label_B)
            counts["next_sentence_correct"] = (logits_B2.argmax(-1) == batch.pair_label_B).sum()
            counts["next_sentence_count"] = correct.new_tensor(len(batch))
        return Losses(total=torch.stack(list(parts.values())).sum(), parts=parts, counts=counts)

    def masked_lm_logits(self, batch: TokenBatch, index_M: Tensor) -> Tensor:
        """Scores of the whole vocabulary at places `index_M` of the stream, `M,V`."""
        return self.masked_lm(self.bert(batch)[index_M], self.bert.embeddings.token.weight)

    def next_sentence_logits(self, batch: TokenBatch) -> Tensor:
        """`B,2`: column 0 the second text follows the first, column 1 it came from elsewhere."""
        return self._next_sentence(self.bert(batch), batch)

    def _next_sentence(self, x_TD: Tensor, batch: TokenBatch) -> Tensor:
        return self.next_sentence(self.bert.pooled(x_TD, batch.cu_seqlens))
