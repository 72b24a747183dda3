"""BART (Lewis et al. 2019, arXiv:1910.13461): an encoder reads a text that was damaged in any way, a decoder says the whole
text again.

Follows fairseq `models/bart`: the Transformer of layers/seq2seq.py with GELU, a LayerNorm on the embeddings, no LayerNorm
at the end of a stack, normal weights of deviation .02 (not cut, unlike BERT's). As in the released models the position
tables begin with two rows that stand for padding, position 0 is the third; and there is a bias of the vocabulary's scores
that is zero and never trained, which checkpoints carry.

Dropout rates are those in the released base and large: .1 everywhere. The paper turns it off for the last tenth of the
steps. Letters: `S` source tokens, `T` decoder tokens, `D` hidden size, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TokenBatch
from training.generation.protocol import Begun
from training.losses import Losses
from training.models.initialize import initialize_normal
from training.models.layers.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from training.models.layers.seq2seq_cache import Seq2SeqCache, begin_saying, say
from training.pretraining_batches import Seq2SeqBatch

FIRST_POSITION = 2


@dataclass(frozen=True, kw_only=True)
class BartConfig(Seq2SeqConfig):
    """The shape of a BART; the token is that of the released models by default."""

    max_seq_len: int = 1024
    start_id: int = 2  # what the decoder reads first: </s>

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.start_id < self.vocab_size:
            raise ValueError(
                f"start_id {self.start_id}: it must be one of the {self.vocab_size} of the vocabulary"
            )

    def network(self, *, seed: int | None = 0) -> "BartForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return BartForPretraining(self, seed=seed)


def base(vocab_size: int = 50265) -> BartConfig:
    """139 million parameters."""
    return _published(vocab_size, 6, 768)


def large(vocab_size: int = 50265) -> BartConfig:
    """406 million parameters."""
    return _published(vocab_size, 12, 1024)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> BartConfig:
    return BartConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_decoder_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class BartForPretraining(nn.Module):
    """A BART and its vocabulary head: `Seq2SeqBatch -> Losses`."""

    logits_bias: Tensor

    def __init__(self, config: BartConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.bart = Seq2SeqTransformer(config, first_position=FIRST_POSITION)
            self.register_buffer("logits_bias", torch.empty(config.vocab_size))
        if seed is not None:
            initialize_normal(self, seed=seed, std=config.initializer_std)
            nn.init.zeros_(self.logits_bias)

    def predictions(self, batch: Seq2SeqBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        return {"seq2seq": len(batch.target_tokens_T)}

    def forward(self, batch: Seq2SeqBatch) -> Losses:
        x_TD = self.bart.decode(batch.decoder, self.bart.encode(batch.tokens))
        return self.bart.losses(x_TD, self.logits_bias, batch.target_tokens_T)

    def logits(self, batch: Seq2SeqBatch) -> Tensor:
        """Scores of the whole vocabulary after each token the decoder read, `T,V`."""
        return self._scores(self.bart.decode(batch.decoder, self.bart.encode(batch.tokens)))

    @torch.inference_mode()
    def begin(self, prompts: TokenBatch, *, new_tokens: int) -> Begun[Seq2SeqCache]:
        """Read the sources and the start token; see training/generation/protocol.py."""
        edges_B = torch.arange(len(prompts) + 1, dtype=torch.int32, device=prompts.cu_seqlens.device)
        start_B = torch.full_like(edges_B[1:], self.config.start_id, dtype=torch.int64)
        nothing_B = torch.zeros_like(start_B)
        said = TokenBatch(
            tokens_T=start_B, segments_T=nothing_B, positions_T=nothing_B, cu_seqlens=edges_B, max_seq_len=1
        )
        x_BD, cache = begin_saying(self.bart, self.bart.encode(prompts), said, new_tokens=new_tokens)
        return Begun(logits_BV=self._scores(x_BD), cache=cache, said=said)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor, cache: Seq2SeqCache) -> Tensor:
        """See training/generation/protocol.py."""
        return self._scores(say(self.bart, tokens_B, cache))

    def _scores(self, x_MD: Tensor) -> Tensor:
        return F.linear(x_MD, self.bart.token.weight, self.logits_bias)
