"""SpanBERT -> transformers' BertForMaskedLM: the encoder and its masked-LM head. The head for spans stays behind.

A folder with BERT's weights, the released SpanBERTs too, is read by bert.py, unless the caller asks for a SpanBertConfig:
then it is an encoder to be trained on spans.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange import bert
from training.exchange.family import Facts, everywhere, probe
from training.exchange.tables import gathered, renamed
from training.models.spanbert import SpanBertConfig, SpanBertForPretraining

MODEL_TYPE = "bert"
ARCHITECTURES = ("BertForMaskedLM", "BertForPreTraining")

_BERT_ONLY = (  # in the files of a BERT with pooler and sentence head
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter; none for the head for spans."""
    return [] if ours.startswith("span_boundary.") else bert.their_names(ours)


def their_config(config: SpanBertConfig) -> dict[str, Any]:
    return bert.sizes_of(config)


def our_config(facts: Facts, source: str) -> SpanBertConfig:
    return SpanBertConfig(**bert.read_shape(facts, source))


def to_theirs(model: SpanBertForPretraining) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: SpanBertConfig) -> dict[str, Tensor]:
    """The encoder of any BERT, to be trained on spans: their head is fresh."""
    given = {name: tensor for name, tensor in bert.known_tensors(tensors).items() if name not in _BERT_ONLY}
    network = config.network(seed=None)
    return gathered(given, network, their_names, optional=("span_boundary",), std=config.initializer_std)


def outputs(model: SpanBertForPretraining) -> dict[str, Tensor]:
    config = model.config
    batch = probe(model, config.vocab_size, config.max_seq_len, pairs=config.num_segments > 1)
    return {"masked_lm": model.masked_lm_logits(batch, everywhere(batch))}
