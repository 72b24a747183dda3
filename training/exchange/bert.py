"""BERT <-> transformers' BertForPreTraining and BertForMaskedLM (whole-word and multilingual ones too)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange.family import Facts, everywhere, probe
from training.exchange.tables import check_only, gathered, read_sizes, renamed, without
from training.models.bert import BertConfig, BertForPretraining, BertShape

MODEL_TYPE = "bert"
ARCHITECTURES = ("BertForPreTraining", "BertForMaskedLM")

COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
LEFT_OUT = ("bert.embeddings.position_ids",)  # 0, 1, 2, ... in older checkpoints
SENTENCE_MODULES = ("bert.pooler", "next_sentence")  # which a BertForMaskedLM need not have

_MODULES = {
    "bert.embeddings.token": ["bert.embeddings.word_embeddings"],
    "bert.embeddings.position": ["bert.embeddings.position_embeddings"],
    "bert.embeddings.segment": ["bert.embeddings.token_type_embeddings"],
    "bert.embeddings.norm": ["bert.embeddings.LayerNorm"],
    "bert.pooler.dense": ["bert.pooler.dense"],
    "masked_lm": ["cls.predictions"],
    "masked_lm.transform": ["cls.predictions.transform.dense"],
    "masked_lm.norm": ["cls.predictions.transform.LayerNorm"],
    "next_sentence": ["cls.seq_relationship"],
    "classifier": ["classifier"],
}
LAYER_MODULES = {
    "attention.qkv": ["attention.self.query", "attention.self.key", "attention.self.value"],
    "attention.out": ["attention.output.dense"],
    "attention_norm": ["attention.output.LayerNorm"],
    "feed_forward.up": ["intermediate.dense"],
    "feed_forward.down": ["output.dense"],
    "feed_forward_norm": ["output.LayerNorm"],
}
SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feed_forward_size": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_std": "initializer_range",
}
DEFAULTS = {  # transformers', of what a config.json may leave out
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
}
ONLY = {  # what our BERT is, wherever a config.json says something
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    module, _, leaf = ours.rpartition(".")
    if not module.startswith("bert.layers."):
        return [f"{name}.{leaf}" for name in _MODULES[module]]
    _, _, number, inner = module.split(".", 3)
    return [f"bert.encoder.layer.{number}.{name}.{leaf}" for name in LAYER_MODULES[inner]]


def their_config(config: BertConfig) -> dict[str, Any]:
    return sizes_of(config)


def sizes_of(shape: BertShape) -> dict[str, Any]:
    return {theirs: getattr(shape, ours) for ours, theirs in SIZES.items()} | ONLY


def our_config(facts: Facts, source: str) -> BertConfig:
    return BertConfig(**read_shape(facts, source))


def read_shape(facts: Facts, source: str) -> dict[str, Any]:
    """The fields of a BertShape. Raises ValueError if it is not our BERT's."""
    check_only(facts, ONLY, "BERT", source)
    return read_sizes(DEFAULTS | dict(facts), SIZES, source)


def to_theirs(model: BertForPretraining) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    network = config.network(seed=None)
    given = known_tensors(tensors)
    return gathered(given, network, their_names, optional=SENTENCE_MODULES, std=config.initializer_std)


def known_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without copies, and under the names of today: checkpoints converted from TensorFlow call LayerNorm's weight gamma
    and its bias beta.
    """
    modern = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        ): tensor
        for name, tensor in tensors.items()
    }
    return without(modern, copies=COPIES, left_out=LEFT_OUT)


def outputs(model: BertForPretraining) -> dict[str, Tensor]:
    config = model.config
    batch = probe(model, config.vocab_size, config.max_seq_len, pairs=config.num_segments > 1)
    return {
        "masked_lm": model.masked_lm_logits(batch, everywhere(batch)),
        "next_sentence": model.next_sentence_logits(batch),
    }
