"""The Transformer of Vaswani et al. 2017: an encoder, and a decoder that looks at its own past and at what the encoder made
of the source.

Both are post-LN stacks with learned positions, a LayerNorm on the sum of token and position, and GELU, as BART and MASS have
them; the token embedding is one for source, target and output. What a source token is to the decoder is its row of the
`Memory`, worked out once.

    source    x y _ z        -> encoder -> memory_SD
    decoder   </s> x y w     -> decoder, over memory_SD -> x_TD -> vocabulary
    targets   x    y w z

Letters: `B` sequences, `S` source tokens, `T` decoder tokens, `D` hidden size, `V` vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from corpus.instance_kinds import Seq2SeqInstances
from training.batches import TokenBatch
from training.generation.cache import Look
from training.losses import Losses
from training.models.layers.attention import SelfAttention, Spans, attend, find_spans
from training.models.layers.cross_attention import (
    CrossAttention,
    CrossSpans,
    LookThere,
    attend_across,
    find_cross_spans,
)
from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.dropout import add_dropped, drop
from training.models.layers.encoder import EncoderLayer, FeedForward, layer_states
from training.models.layers.shapes import with_filler
from training.models.sizes import check_heads, check_sizes


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """The shape of an encoder-decoder; sizes are counts, `max_seq_len` is tokens of either side."""

    reads: ClassVar = Seq2SeqInstances

    vocab_size: int
    hidden_size: int
    num_layers: int  # of the encoder
    num_decoder_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1  # of what the feed-forward layer's GELU gives
    layer_norm_eps: float = 1e-5
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)


@dataclass(frozen=True)
class Memory:
    """What the decoder looks at: the encoder's output of `B` sequences."""

    x_SD: Tensor  # filler rows (shapes.py) may follow
    cu_seqlens: Tensor  # int32 (B + 1,)
    max_seq_len: int  # or a larger number

    def where(self, seen_S: Tensor) -> "Memory":
        """Only the tokens marked true: the others cost nothing and are looked at by nobody."""
        before = F.pad(seen_S.cumsum(0), (1, 0))
        kept = with_filler(self.x_SD.index_select(0, seen_S.nonzero().flatten()))
        return Memory(kept, before[self.cu_seqlens.long()].int(), self.max_seq_len)


class DroppedGelu(nn.Module):
    """The exact (erf) GELU, then dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, x_TD: Tensor) -> Tensor:
        return drop(F.gelu(x_TD), self.dropout if self.training else 0.0)


class DecoderLayer(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + cross_attention(x, memory)); x = norm(x + feed_forward(x))`, dropout on
    each branch.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        gelu = DroppedGelu(config.activation_dropout)
        self.attention = SelfAttention(size, config.num_heads, config.attention_dropout)
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.cross_attention = CrossAttention(size, config.num_heads, config.attention_dropout)
        self.cross_attention_norm = nn.LayerNorm(size, eps=eps)
        self.feed_forward = FeedForward(size, config.feed_forward_size, gelu)
        self.feed_forward_norm = nn.LayerNorm(size, eps=eps)
        self.dropout = config.dropout

    def forward(self, x_TD: Tensor, memory_SD: Tensor, spans: Spans, cross_spans: CrossSpans) -> Tensor:
        """`spans` are causal."""
        kv_S2NH = self.cross_attention.keys_values(memory_SD)
        return self.through(
            x_TD,
            lambda qkv_T3NH, dropout: attend(qkv_T3NH, spans, dropout),
            lambda q_TNH, dropout: attend_across(q_TNH, kv_S2NH, cross_spans, dropout),
        )

    def through(self, x_TD: Tensor, look: Look, look_there: LookThere) -> Tensor:
        """The same with other attentions, e.g. such as have a cache."""
        dropout = self.dropout if self.training else 0.0
        x_TD = self.attention_norm(add_dropped(x_TD, self.attention.through(x_TD, look), dropout))
        mixed_TD = self.cross_attention.through(x_TD, look_there)
        x_TD = self.cross_attention_norm(add_dropped(x_TD, mixed_TD, dropout))
        return self.feed_forward_norm(add_dropped(x_TD, self.feed_forward(x_TD), dropout))


class PlacedEmbeddings(nn.Module):
    """Token embeddings, scaled, + learned positions, then LayerNorm and dropout; `x_TD, positions_T -> x_TD`."""

    def __init__(self, config: Seq2SeqConfig, *, first_position: int, scale: float) -> None:
        super().__init__()
        self.first_position = first_position  # the row of the table that a sequence begins at
        self.scale = scale
        self.position = nn.Embedding(config.max_seq_len + first_position, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.dropout

    def forward(self, x_TD: Tensor, positions_T: Tensor) -> Tensor:
        if self.scale != 1:
            x_TD = x_TD * self.scale
        x_TD = x_TD + self.position(positions_T + self.first_position)
        return drop(self.norm(x_TD), self.dropout if self.training else 0.0)


class Stack(nn.Module):
    """One side of the Transformer: its embeddings and its blocks."""

    def __init__(self, embeddings: PlacedEmbeddings, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.layers = nn.ModuleList(layers)


class Seq2SeqTransformer(nn.Module):
    """Encoder and decoder over one token embedding. Its weights are on the device it is built on, as torch draws them."""

    def __init__(
        self, config: Seq2SeqConfig, *, first_position: int = 0, embedding_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.max_seq_len = config.max_seq_len
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)

        def embeddings() -> PlacedEmbeddings:
            return PlacedEmbeddings(config, first_position=first_position, scale=embedding_scale)

        self.encoder = Stack(embeddings(), [_encoder_layer(config) for _ in range(config.num_layers)])
        self.decoder = Stack(embeddings(), [DecoderLayer(config) for _ in range(config.num_decoder_layers)])

    def encoder_states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The embeddings, then the output of each layer: `num_layers + 1` tensors `x_SD`."""
        x_SD = self._embedded(self.encoder, batch)
        yield x_SD
        yield from layer_states(self.encoder.layers, x_SD, batch)

    def decoder_states(self, batch: TokenBatch, memory: Memory) -> Iterator[Tensor]:
        """The embeddings, then the output of each layer: `num_decoder_layers + 1` tensors `x_TD`."""
        x_TD = self._embedded(self.decoder, batch)
        yield x_TD
        tokens, edges, longest = len(x_TD), batch.cu_seqlens, batch.max_seq_len
        x_TD = with_filler(x_TD)
        spans = find_spans(edges, longest, filler=len(x_TD) - tokens, causal=True)
        cross_spans = find_cross_spans(edges, longest, memory.cu_seqlens, memory.max_seq_len)
        for layer in self.decoder.layers:
            x_TD = layer(x_TD, memory.x_SD, spans, cross_spans)
            yield x_TD[:tokens]

    def encode(self, batch: TokenBatch) -> Memory:
        for state in self.encoder_states(batch):
            x_SD = state
        return Memory(with_filler(x_SD), batch.cu_seqlens, batch.max_seq_len)

    def decode(self, batch: TokenBatch, memory: Memory) -> Tensor:
        """The last layer's output, `x_TD`."""
        for state in self.decoder_states(batch, memory):
            x_TD = state
        return x_TD

    def losses(self, x_TD: Tensor, bias_V: Tensor, target_T: Tensor) -> Losses:
        """The part "seq2seq": the mean cross-entropy of `target_T` against the whole vocabulary."""
        loss, correct = vocabulary_cross_entropy(with_filler(x_TD), self.token.weight, bias_V, target_T)
        counts = {"seq2seq_correct": correct, "seq2seq_count": correct.new_tensor(len(target_T))}
        return Losses(total=loss, parts={"seq2seq": loss}, counts=counts)

    def _embedded(self, side: Stack, batch: TokenBatch) -> Tensor:
        if batch.max_seq_len > self.max_seq_len:
            raise ValueError(
                f"a sequence of {batch.max_seq_len} tokens: this model holds at most "
                f"{self.max_seq_len}; cut the text or use a model with a larger max_seq_len"
            )
        x_TD: Tensor = side.embeddings(self.token(batch.tokens_T), batch.positions_T)
        return x_TD


def _encoder_layer(config: Seq2SeqConfig) -> EncoderLayer:
    return EncoderLayer(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        feed_forward_size=config.feed_forward_size,
        layer_norm_eps=config.layer_norm_eps,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        activation=DroppedGelu(config.activation_dropout),
    )
