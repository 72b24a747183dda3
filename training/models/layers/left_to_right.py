"""A left-to-right language model around any stack of decoder blocks: token and position embeddings, the
blocks, maybe a last norm, and scores by the token embedding transposed, without a bias (GPT, GPT-2).

In training every token but the last of its sequence predicts the one after it. To make text it is
`Generative` (training/generation/protocol.py): prompts are read as one flat stream, then one token a row.

Letters: `B` sequences or rows, `T` tokens, `M` predictions, `D` hidden size, `V` vocabulary.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TokenBatch
from training.generation.cache import KeyValueCache, Look, PromptMemory
from training.generation.protocol import Begun
from training.losses import Losses
from training.models.initialize import initialize_normal
from training.models.layers.attention import attend, find_spans
from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.decoder import PostNormDecoderLayer, PreNormDecoderLayer
from training.models.layers.dropout import drop
from training.models.layers.shapes import with_filler
from training.pretraining_batches import CausalBatch


class LeftToRight(nn.Module):
    """`CausalBatch -> Losses`, and text."""

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        max_seq_len: int,
        layers: Iterable[PostNormDecoderLayer | PreNormDecoderLayer],
        norm: nn.LayerNorm | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.position = nn.Embedding(max_seq_len, hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Identity() if norm is None else norm
        self.dropout = dropout

    def states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The embeddings, the output of each layer, the last one normed: `num_layers + 2` tensors `x_TD`."""
        self._fits(batch.max_seq_len)
        x_TD = self._embedded(batch.tokens_T, batch.positions_T)
        yield x_TD
        tokens = len(x_TD)
        x_TD = with_filler(x_TD)
        look = _blind_to_the_right(batch, filler=len(x_TD) - tokens)
        for layer in self.layers:
            x_TD = layer(x_TD, look)
            yield x_TD[:tokens]
        yield self.norm(x_TD[:tokens])

    def hidden(self, batch: TokenBatch) -> Tensor:
        """The last state, `x_TD`: what scores are made of."""
        for state in self.states(batch):
            x_TD = state
        return x_TD

    def predictions(self, batch: CausalBatch) -> dict[str, int]:
        """How many predictions the loss is a mean over."""
        return {"causal_lm": batch.num_tokens - len(batch)}

    def forward(self, batch: CausalBatch) -> Losses:
        index_M = _with_a_successor(batch.tokens)
        x_MD = with_filler(self.hidden(batch.tokens).index_select(0, index_M))
        embedding_VD, target_M = self.token.weight, batch.tokens.tokens_T[index_M + 1]
        no_bias_V = embedding_VD.new_zeros(len(embedding_VD))
        loss, correct = vocabulary_cross_entropy(x_MD, embedding_VD, no_bias_V, target_M)
        counts = {"causal_lm_correct": correct, "causal_lm_count": correct.new_tensor(len(target_M))}
        return Losses(total=loss, parts={"causal_lm": loss}, counts=counts)

    def logits(self, batch: TokenBatch, index_M: Tensor) -> Tensor:
        """Scores of the whole vocabulary for what follows places `index_M` of the stream, `M,V`."""
        return self._scores(self.hidden(batch)[index_M])

    @torch.inference_mode()
    def begin(self, prompts: TokenBatch, *, new_tokens: int) -> Begun[KeyValueCache]:
        """See training/generation/protocol.py. The last new token is never read: it needs no position."""
        self._fits(prompts.max_seq_len, new_tokens - 1)
        memory = PromptMemory(prompts.cu_seqlens, prompts.max_seq_len, len(self.layers))
        cache = KeyValueCache(memory, new_tokens=new_tokens)
        x_TD = with_filler(self._embedded(prompts.tokens_T, prompts.positions_T))
        look = _blind_to_the_right(prompts, filler=len(x_TD) - prompts.num_tokens)
        for layer in self.layers:
            x_TD = layer(x_TD, cache.reading(look))
        last_BD = x_TD[prompts.cu_seqlens[1:].long() - 1]
        return Begun(logits_BV=self._scores(self.norm(last_BD)), cache=cache, said=prompts)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor, cache: KeyValueCache) -> Tensor:
        """See training/generation/protocol.py."""
        x_BD = self._embedded(tokens_B, cache.lengths_B)
        for number, layer in enumerate(self.layers):
            x_BD = layer(x_BD, cache.looking(number))
        cache.advance()
        return self._scores(self.norm(x_BD))

    def _embedded(self, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
        x_TD: Tensor = self.token(tokens_T) + self.position(positions_T)
        return drop(x_TD, self.dropout if self.training else 0.0)

    def _scores(self, x_MD: Tensor) -> Tensor:
        return F.linear(x_MD, self.token.weight)

    def _fits(self, length: int, more: int = 0) -> None:
        if length + more > self.position.num_embeddings:
            what = f"a sequence of {length} tokens" + (f" and {more} more to read" if more > 0 else "")
            raise ValueError(
                f"{what}: this model holds at most {self.position.num_embeddings}; cut the text or use a model "
                "with a larger max_seq_len"
            )


def _blind_to_the_right(batch: TokenBatch, *, filler: int) -> Look:
    spans = find_spans(batch.cu_seqlens, batch.max_seq_len, filler=filler, causal=True)
    return lambda qkv_T3NH, dropout: attend(qkv_T3NH, spans, dropout)


def _with_a_successor(batch: TokenBatch) -> Tensor:
    """Indices of all tokens that are not the last of their sequence; nothing waits for a GPU."""
    count, device = batch.num_tokens - len(batch), batch.tokens_T.device
    lengths_B = batch.cu_seqlens.diff().long() - 1
    row_M = torch.arange(len(batch), device=device).repeat_interleave(lengths_B, output_size=count)
    return torch.arange(count, device=device) + row_M


def initialize_left_to_right(model: LeftToRight, *, seed: int, std: float, residual_std: float) -> None:
    """Normal weights; those that write into the sums (`out`, `down`) have a deviation of their own."""

    def deviation(path: str) -> float:
        return residual_std if path.endswith((".attention.out", ".feed_forward.down")) else std

    initialize_normal(model, seed=seed, std=deviation)
