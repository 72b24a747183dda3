"""SpanBERT (Joshi et al. 2019, arXiv:1907.10529): BERT on single segments, that predicts hidden spans twice: as BERT does,
and from the two tokens around the span.

Follows facebookresearch/SpanBERT: BERT's encoder without pooler and sentence head, the span-boundary head of
layers/span_boundary.py on its last layer with weight 1, at most 15 targets a span; normal weights of deviation .02 that are
not cut. The original divides the sum over boundary targets by their number plus one; here it is their mean.

What is exported and fine-tuned is the encoder with its masked-LM head: a BERT.

Letters: `T` tokens, `M` targets, `D` hidden size, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.batches import TokenBatch
from training.losses import Losses
from training.models.bert import BertEncoder, BertShape
from training.models.initialize import initialize_normal
from training.models.layers.heads import MaskedLMHead
from training.models.layers.span_boundary import SpanBoundaryHead, span_targets
from training.pretraining_batches import MaskedBatch


@dataclass(frozen=True, kw_only=True)
class SpanBertConfig(BertShape):
    """The shape of a BERT, and of the head for spans: its targets a span, and the size of the embedding of their place."""

    max_span_targets: int = 15
    place_size: int = 200

    def network(self, *, seed: int | None = 0) -> "SpanBertForPretraining":
        """What is pretrained; with seed None its weights are left on the meta device."""
        return SpanBertForPretraining(self, seed=seed)


def base(vocab_size: int = 28996) -> SpanBertConfig:
    """BERT-base with BERT's cased vocabulary."""
    return _published(vocab_size, 12, 768)


def large(vocab_size: int = 28996) -> SpanBertConfig:
    return _published(vocab_size, 24, 1024)


def _published(vocab_size: int, num_layers: int, hidden_size: int) -> SpanBertConfig:
    return SpanBertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 64,
        feed_forward_size=4 * hidden_size,
    )


class SpanBertForPretraining(nn.Module):
    """Masked-LM and span-boundary heads on BERT's encoder: `MaskedBatch -> Losses`."""

    def __init__(self, config: SpanBertConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.bert = BertEncoder(config, seed=None)
            self.masked_lm = MaskedLMHead(
                hidden_size=config.hidden_size,
                vocab_size=config.vocab_size,
                layer_norm_eps=config.layer_norm_eps,
            )
            self.span_boundary = SpanBoundaryHead(
                hidden_size=config.hidden_size,
                vocab_size=config.vocab_size,
                most=config.max_span_targets,
                place_size=config.place_size,
                layer_norm_eps=config.layer_norm_eps,
            )
        if seed is not None:
            initialize_normal(self, seed=seed, std=config.initializer_std)

    def predictions(self, batch: MaskedBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        spans = span_targets(batch, self.config.max_span_targets)
        return {"masked_lm": len(batch.target_tokens_M), "span_boundary": len(spans)}

    def forward(self, batch: MaskedBatch) -> Losses:
        x_TD = self.bert(batch.tokens)
        embedding_VD = self.bert.embeddings.token.weight
        x_MD = x_TD.index_select(0, batch.target_index_M)
        masked_lm, masked_correct = self.masked_lm.loss(x_MD, embedding_VD, batch.target_tokens_M)
        spans = span_targets(batch, self.config.max_span_targets)
        boundary, boundary_correct = self.span_boundary.loss(x_TD, spans, embedding_VD)
        counts = {
            "masked_lm_correct": masked_correct,
            "masked_lm_count": masked_correct.new_tensor(len(batch.target_tokens_M)),
            "span_boundary_correct": boundary_correct,
            "span_boundary_count": masked_correct.new_tensor(len(spans)),
        }
        parts = {"masked_lm": masked_lm, "span_boundary": boundary}
        return Losses(total=masked_lm + boundary, parts=parts, counts=counts)

    def masked_lm_logits(self, batch: TokenBatch, index_M: Tensor) -> Tensor:
        """Scores of the whole vocabulary at places `index_M` of the stream, `M,V`."""
        return self.masked_lm(self.bert(batch)[index_M], self.bert.embeddings.token.weight)
