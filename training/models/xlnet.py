"""XLNet (Yang et al. 2019, arXiv:1906.08237): an encoder pretrained by predicting tokens in random orders, with memory.

Two streams of states go through the same layers. The content stream is that of an encoder; the query stream begins as one
learned vector, knows only where it is, and predicts. It exists at targets alone (85 of 512 tokens), and the content stream
ends one layer early, because no prediction reads its last state. Who may see whom: corpus/corruption/two_stream.py.

What a layer read of the first part of each row is remembered, up to `memory_len` tokens, and is before the next row in the
same place of the batch (Transformer-XL): handed over as `Losses.carried` -> `batch.carried`, without gradients, and
forgotten where the text does not go on. Positions and segments are relative (layers/relative_attention.py), so neither the
length of a text nor the number of its segments is built in.

Follows zihangdai/xlnet `modeling.py`: untied biases, LayerNorm after each sum, eps 1e-12, normal .02, the output matrix is
the token embedding. As in transformers GELU is the exact one; dropout in the feed-forward layer stands at its end only
(the paper's Table 7: GELU dropout 0), and that of the table of distances is one draw for the batch.

Letters: `B` sequences, `T` tokens, `M` targets, `Q` = T + M queries, `D` hidden size, `V` vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from corpus.instance_kinds import PermutationInstances
from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import generator_for
from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.dropout import add_dropped, drop
from training.models.layers.encoder import FeedForward
from training.models.layers.relative_attention import RelativeAttention, Spans, sinusoids
from training.models.layers.relative_spans import Places, TwoStreams, padded_of, tiles_of
from training.models.layers.shapes import with_filler
from training.models.sizes import check_heads, check_sizes
from training.pretraining_batches import PermutationBatch


@dataclass(frozen=True, kw_only=True)
class XLNetConfig:
    """The shape of an XLNet.

    `max_seq_len` bounds the rows of pretraining; the network itself has no limit. At most `memory_len` tokens are
    remembered, none where the rows of an objective share no text. Beyond `max_distance` tokens all distances are alike
    (clamp_len; the published models know every distance).
    """

    reads: ClassVar = PermutationInstances

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    max_seq_len: int = 512
    memory_len: int = 384
    max_distance: int = 1 << 20
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_std: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self.hidden_size, self.num_heads)
        if self.hidden_size % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size}: half of it are sines and half cosines; give an even one"
            )

    def network(self, *, seed: int | None = 0) -> "XLNetForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return XLNetForPretraining(self, seed=seed)


def base(vocab_size: int = 32000) -> XLNetConfig:
    return _published(vocab_size, 12, 768)


def large(vocab_size: int = 32000) -> XLNetConfig:
    return _published(vocab_size, 24, 1024)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> XLNetConfig:
    return XLNetConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class XLNetLayer(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + feed_forward(x))` for queries of both streams; `x_QD -> x_QD`."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention = RelativeAttention(size, config.num_heads, config.attention_dropout)
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.feed_forward = FeedForward(size, config.feed_forward_size)
        self.feed_forward_norm = nn.LayerNorm(size, eps=eps)
        self.dropout = config.dropout

    def forward(self, x_QD: Tensor, keys_SD: Tensor, table_RD: Tensor, spans: Spans) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        looked_QD = self.attention(x_QD, keys_SD, table_RD, spans)
        x_QD = self.attention_norm(add_dropped(x_QD, looked_QD, dropout))
        return self.feed_forward_norm(add_dropped(x_QD, self.feed_forward(x_QD), dropout))


class XLNet(nn.Module):
    """The encoder: `TokenBatch -> x_TD`; every token sees its whole sequence, in segments of any number."""

    def __init__(self, config: XLNetConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.token = nn.Embedding(config.vocab_size, config.hidden_size)
            self.query = nn.Parameter(torch.empty(config.hidden_size))  # what the query stream begins with
            self.layers = nn.ModuleList(XLNetLayer(config) for _ in range(config.num_layers))
        if seed is not None:
            draw_weights(self, seed=seed, std=config.initializer_std)

    def forward(self, batch: TokenBatch) -> Tensor:
        """The last layer's output, `x_TD`."""
        for state in self.states(batch):
            x_TD = state
        return self._dropped(x_TD)

    def states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The embeddings, then the output of each layer: `num_layers + 1` tensors `x_TD`."""
        none = [0] * len(batch)
        places = Places(
            lengths=batch.cu_seqlens.diff().tolist(),
            memory=none,
            backward=[False] * len(batch),
            segments_T=batch.segments_T,
            streams=None,
            target_counts=none,
        )
        x_TD = self._dropped(self.token(batch.tokens_T))
        yield x_TD
        for x_QD in self._layers(x_TD, places, None):
            yield x_QD[: len(x_TD)]

    def two_streams(self, batch: PermutationBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for both streams, `x_TD` and `g_MD`, with what is carried."""
        places, memory = self._read(batch)
        yield from self._streams(batch, places, memory)

    def predict(self, batch: PermutationBatch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The query stream's last state, `g_MD`, and what the next step is to remember."""
        places, memory = self._read(batch)
        *read, (_, g_MD) = self._streams(batch, places, memory, last_content=False)
        return self._dropped(g_MD), self._remember([x_TD for x_TD, _ in read], batch, places, memory)

    def _streams(
        self, batch: PermutationBatch, places: Places, memory: Tensor | None, *, last_content: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Without `last_content` the last pair has an empty content stream."""
        tokens, targets = batch.num_tokens, len(batch.target_index_M)
        x_TD = self._dropped(self.token(batch.tokens.tokens_T))
        g_MD = self._dropped(self.query.expand(targets, -1))
        yield x_TD, g_MD
        states = self._layers(torch.cat([x_TD, g_MD]), places, memory, last_content=last_content)
        for number, x_QD in enumerate(states, start=1):
            content = tokens if last_content or number < len(self.layers) else 0
            yield x_QD[:content], x_QD[content : content + targets]

    def _layers(
        self, x_QD: Tensor, places: Places, memory_BLKD: Tensor | None, *, last_content: bool = True
    ) -> Iterator[Tensor]:
        tokens = sum(places.lengths)
        spans_of = tiles_of if x_QD.device.type == "cpu" else padded_of
        spans = spans_of(places)
        limit = self.config.max_distance
        distances_R = places.distances(x_QD.device).clamp(-limit, limit)
        table_RD = self._dropped(sinusoids(distances_R, self.config.hidden_size).to(x_QD.dtype))
        queries, x_QD = len(x_QD), with_filler(x_QD)
        for number, layer in enumerate(self.layers):
            keys_SD = _keys(x_QD[:tokens], memory_BLKD, number, places)
            if not last_content and number == len(self.layers) - 1:
                x_QD, spans = with_filler(x_QD[tokens:queries]), spans_of(places, content=False)
            x_QD = layer(x_QD, with_filler(keys_SD), table_RD, spans)
            yield x_QD

    def _read(self, batch: PermutationBatch) -> tuple[Places, Tensor | None]:
        """Where everything lies, and the memory, `B, layers, K, D`."""
        memory, memory_BLKD = [0] * len(batch), None
        if batch.carried:
            length_B, memory_BLKD = batch.carried
            if len(length_B) != len(batch):
                raise ValueError(
                    f"{len(batch)} sequences, and memory of {len(length_B)}: what is carried belongs to the same rows of the "
                    "step before; make all batches of one size"
                )
            memory = (length_B * batch.continues_B).tolist()
        streams = TwoStreams(
            key_rank_T=batch.key_rank_T,
            query_rank_T=batch.query_rank_T,
            target_index_M=batch.target_index_M,
        )
        places = Places(
            lengths=batch.tokens.cu_seqlens.diff().tolist(),
            memory=memory,
            backward=batch.backward_B.bool().tolist(),
            segments_T=batch.tokens.segments_T,
            streams=streams,
            target_counts=batch.target_counts_B.tolist(),
        )
        return places, memory_BLKD

    @torch.no_grad()
    def _remember(
        self, read: list[Tensor], batch: PermutationBatch, places: Places, memory_BLKD: Tensor | None
    ) -> tuple[Tensor, ...]:
        """(B,) how many tokens are remembered of each sequence; `B, layers, K, D` what each layer read of them."""
        new = batch.reuse_len_B.tolist()
        kept = [min(self.config.memory_len, m + n) for m, n in zip(places.memory, new, strict=True)]
        size = max(kept, default=0)
        out_BLKD = read[0].new_zeros(len(batch), len(read), size, self.config.hidden_size)
        for row, (token, n, m, k) in enumerate(
            zip(accumulate(places.lengths[:-1], initial=0), new, places.memory, kept, strict=True)
        ):
            own = min(n, k)
            for layer, x_TD in enumerate(read):
                out_BLKD[row, layer, k - own : k] = x_TD[token + n - own : token + n]
                if k > own and memory_BLKD is not None:
                    out_BLKD[row, layer, : k - own] = memory_BLKD[row, layer, m - (k - own) : m]
        return torch.tensor(kept, device=out_BLKD.device), out_BLKD

    def _dropped(self, x: Tensor) -> Tensor:
        return drop(x, self.config.dropout if self.training else 0.0)


def _keys(x_TD: Tensor, memory_BLKD: Tensor | None, layer: int, places: Places) -> Tensor:
    """The memory of each sequence, then its tokens; `S,D`."""
    if memory_BLKD is None or not any(places.memory):
        return x_TD
    parts = []
    for row, (length, own_LD) in enumerate(
        zip(places.memory, torch.split(x_TD, places.lengths), strict=True)
    ):
        parts += [memory_BLKD[row, layer, :length].to(x_TD.dtype), own_LD]
    return torch.cat(parts)


class XLNetForPretraining(nn.Module):
    """A vocabulary head on the query stream: `PermutationBatch -> Losses`."""

    reads_in_order = True

    def __init__(self, config: XLNetConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.xlnet = XLNet(config, seed=None)
            self.bias = nn.Parameter(torch.empty(config.vocab_size))
        if seed is not None:
            draw_weights(self, seed=seed, std=config.initializer_std)

    def predictions(self, batch: PermutationBatch) -> dict[str, int]:
        """How many predictions the loss is a mean over."""
        return {"permutation_lm": len(batch.target_tokens_M)}

    def forward(self, batch: PermutationBatch) -> Losses:
        g_MD, carried = self.xlnet.predict(batch)
        loss, correct = vocabulary_cross_entropy(
            with_filler(g_MD), self.xlnet.token.weight, self.bias, batch.target_tokens_M
        )
        counts = {
            "permutation_lm_correct": correct,
            "permutation_lm_count": correct.new_tensor(len(batch.target_tokens_M)),
        }
        return Losses(total=loss, parts={"permutation_lm": loss}, counts=counts, carried=carried)

    def permutation_lm_logits(self, batch: PermutationBatch) -> Tensor:
        """Scores of the whole vocabulary at the targets, `M,V`."""
        g_MD, _ = self.xlnet.predict(batch)
        return g_MD @ self.xlnet.token.weight.t() + self.bias


def draw_weights(model: nn.Module, *, seed: int, std: float) -> None:
    """Normal for every matrix, attention's biases and the query vector; zero for other biases, one and zero for LayerNorm.

    Pure in (seed, parameter name), as training/models/initialize.py.
    """
    model.to_empty(device="cpu")
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1 or isinstance(module, XLNet):
                nn.init.normal_(parameter, std=std, generator=generator_for(seed, f"{path}.{name}"))
            else:
                nn.init.constant_(parameter, float(isinstance(module, nn.LayerNorm) and name == "weight"))
