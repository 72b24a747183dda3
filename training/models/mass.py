"""MASS (Song et al. 2019, arXiv:1905.02450): an encoder reads a sentence with a fragment hidden, a decoder says the fragment,
word by word, at the positions it had.

Follows microsoft/MASS: the Transformer of layers/seq2seq.py with GELU and a LayerNorm on the embeddings. The original is two
programs whose networks differ in more than size, so there are two configs:

    MassConfig              `MASS-summarization`: token embeddings times sqrt(D) before the positions are added, scores
                            without a bias, N(0, .02) weights (`init_bert_params`)
    MassTranslationConfig   `MASS-unsupNMT`: embeddings as they are, a bias for the scores, LayerNorm eps 1e-12; the decoder
                            does not see what the encoder makes of a hidden token (`enc_mask`), so it must look at those
                            around; embeddings N(0, 1/D), projections uniform within 1/sqrt(fan-in)

Encoder, decoder and output share one embedding, as the paper has it. Left out: the translation program's embedding of the
language and its output projection per language, which with one language are constants.

Letters: `S` source tokens, `T` decoder tokens, `D` hidden size, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import generator_for, initialize_normal
from training.models.layers.seq2seq import Memory, Seq2SeqConfig, Seq2SeqTransformer
from training.pretraining_batches import Seq2SeqBatch


@dataclass(frozen=True, kw_only=True)
class MassConfig(Seq2SeqConfig):
    """The shape of a MASS for summarisation."""

    max_seq_len: int = 512

    def network(self, *, seed: int | None = 0) -> "MassForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return MassForPretraining(self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class MassTranslationConfig(Seq2SeqConfig):
    """The shape of a MASS for translation; `initializer_std` is that of the embeddings."""

    max_seq_len: int = 512
    activation_dropout: float = 0.0
    layer_norm_eps: float = 1e-12
    mask_id: int  # source tokens that the decoder does not see

    def network(self, *, seed: int | None = 0) -> "MassForTranslation":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return MassForTranslation(self, seed=seed)


def base(vocab_size: int = 30522) -> MassConfig:
    """6+6 layers of 768."""
    return _published(vocab_size, 768)


def middle(vocab_size: int = 30522) -> MassConfig:
    """6+6 layers of 1,024."""
    return _published(vocab_size, 1024)


def translation(vocab_size: int = 60000, *, mask_id: int) -> MassTranslationConfig:
    """6+6 layers of 1,024 with 8 heads; the vocabulary is joint for both languages."""
    return MassTranslationConfig(
        vocab_size=vocab_size,
        hidden_size=1024,
        num_layers=6,
        num_decoder_layers=6,
        num_heads=8,
        feed_forward_size=4096,
        initializer_std=1024**-0.5,
        mask_id=mask_id,
    )


def _published(vocab_size: int, hidden_size: int) -> MassConfig:
    return MassConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=6,
        num_decoder_layers=6,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class _Mass(nn.Module):
    """What both networks are: `Seq2SeqBatch -> Losses`. Decoder positions are those of the batch."""

    mass: Seq2SeqTransformer

    def memory(self, tokens: TokenBatch) -> Memory:
        """What the decoder sees."""
        return self.mass.encode(tokens)

    def bias(self) -> Tensor:
        """What is added to the scores, `V`."""
        return self.mass.token.weight.new_zeros(self.mass.token.num_embeddings)

    def predictions(self, batch: Seq2SeqBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        return {"seq2seq": len(batch.target_tokens_T)}

    def forward(self, batch: Seq2SeqBatch) -> Losses:
        x_TD = self.mass.decode(batch.decoder, self.memory(batch.tokens))
        return self.mass.losses(x_TD, self.bias(), batch.target_tokens_T)

    def logits(self, batch: Seq2SeqBatch) -> Tensor:
        """Scores of the whole vocabulary at each place of the decoder, `T,V`."""
        x_TD = self.mass.decode(batch.decoder, self.memory(batch.tokens))
        return F.linear(x_TD, self.mass.token.weight, self.bias())


class MassForPretraining(_Mass):
    """Embeddings are scaled, scores have no bias, the decoder sees all of the memory."""

    def __init__(self, config: MassConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.mass = Seq2SeqTransformer(config, embedding_scale=config.hidden_size**0.5)
        if seed is not None:
            initialize_normal(self, seed=seed, std=config.initializer_std)


class MassForTranslation(_Mass):
    """Scores have a bias, the decoder does not see hidden tokens."""

    def __init__(self, config: MassTranslationConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.mass = Seq2SeqTransformer(config)
            self.logits_bias = nn.Parameter(torch.empty(config.vocab_size))
        if seed is not None:
            _draw_by_fan_in(self, seed=seed, embedding_std=config.initializer_std)

    def memory(self, tokens: TokenBatch) -> Memory:
        return super().memory(tokens).where(tokens.tokens_T != self.config.mask_id)

    def bias(self) -> Tensor:
        return self.logits_bias


def _draw_by_fan_in(model: MassForTranslation, *, seed: int, embedding_std: float) -> None:
    """Normal embeddings; projections, their biases and that of the scores uniform within 1/sqrt(fan-in), which is how
    torch draws an `nn.Linear`; LayerNorm one and zero. Each a function of (seed, parameter name).
    """
    model.to_empty(device="cpu")
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            generator = generator_for(seed, f"{path}.{name}")
            if isinstance(module, nn.Embedding):
                nn.init.normal_(parameter, std=embedding_std, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                nn.init.constant_(parameter, float(name == "weight"))
            else:
                fan_in = module.in_features if isinstance(module, nn.Linear) else model.config.hidden_size
                nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
