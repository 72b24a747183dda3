"""ALBERT <-> transformers' AlbertForPreTraining and AlbertForMaskedLM."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange import bert
from training.exchange.family import Facts, everywhere, probe
from training.exchange.tables import check_only, gathered, read_sizes, renamed, without
from training.models.albert import AlbertConfig, AlbertForPretraining

MODEL_TYPE = "albert"
ARCHITECTURES = ("AlbertForPreTraining", "AlbertForMaskedLM")

_COPIES = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
_LEFT_OUT = ("albert.embeddings.position_ids",)
_SENTENCE_MODULES = ("albert.pooler", "sentence_order")  # which an AlbertForMaskedLM need not have
_LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
_MODULES = {
    "albert.embeddings.token": ["albert.embeddings.word_embeddings"],
    "albert.embeddings.position": ["albert.embeddings.position_embeddings"],
    "albert.embeddings.segment": ["albert.embeddings.token_type_embeddings"],
    "albert.embeddings.norm": ["albert.embeddings.LayerNorm"],
    "albert.widen": ["albert.encoder.embedding_hidden_mapping_in"],
    "albert.layer.attention.qkv": [f"{_LAYER}.attention.{part}" for part in ("query", "key", "value")],
    "albert.layer.attention.out": [f"{_LAYER}.attention.dense"],
    "albert.layer.attention_norm": [f"{_LAYER}.attention.LayerNorm"],
    "albert.layer.feed_forward.up": [f"{_LAYER}.ffn"],
    "albert.layer.feed_forward.down": [f"{_LAYER}.ffn_output"],
    "albert.layer.feed_forward_norm": [f"{_LAYER}.full_layer_layer_norm"],
    "albert.pooler.dense": ["albert.pooler"],
    "masked_lm": ["predictions"],
    "masked_lm.transform": ["predictions.dense"],
    "masked_lm.norm": ["predictions.LayerNorm"],
    "sentence_order": ["sop_classifier.classifier"],
}
_SIZES = bert.SIZES | {"embedding_size": "embedding_size"}
_DEFAULTS = bert.DEFAULTS | {
    "embedding_size": 128,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_ONLY = {
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
}
_EXACT_GELU = {"gelu": True, "gelu_new": False, "gelu_pytorch_tanh": False}  # the last two are one function


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    module, _, leaf = ours.rpartition(".")
    return [f"{name}.{leaf}" for name in _MODULES[module]]


def their_config(config: AlbertConfig) -> dict[str, Any]:
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    return sizes | _ONLY | {"hidden_act": "gelu" if config.exact_gelu else "gelu_new"}


def our_config(facts: Facts, source: str) -> AlbertConfig:
    facts = _DEFAULTS | dict(facts)
    check_only(facts, _ONLY, "ALBERT", source)
    if facts["hidden_act"] not in _EXACT_GELU:
        raise ValueError(
            f"{source} has hidden_act {facts['hidden_act']!r}; ALBERT has {' or '.join(_EXACT_GELU)}, and its answers "
            "would differ"
        )
    return AlbertConfig(exact_gelu=_EXACT_GELU[facts["hidden_act"]], **read_sizes(facts, _SIZES, source))


def to_theirs(model: AlbertForPretraining) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: AlbertConfig) -> dict[str, Tensor]:
    given = without(tensors, copies=_COPIES, left_out=_LEFT_OUT)
    network = config.network(seed=None)
    return gathered(given, network, their_names, optional=_SENTENCE_MODULES, std=config.initializer_std)


def outputs(model: AlbertForPretraining) -> dict[str, Tensor]:
    config = model.config
    batch = probe(model, config.vocab_size, config.max_seq_len, pairs=config.num_segments > 1)
    return {
        "masked_lm": model.masked_lm_logits(batch, everywhere(batch)),
        "sentence_order": model.sentence_order_logits(batch),
    }
