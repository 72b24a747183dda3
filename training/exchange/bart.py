"""BART <-> transformers' BartForConditionalGeneration (BartModel, the same without its head, is read too)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.batches import TokenBatch
from training.exchange.family import Facts, probe
from training.exchange.tables import check_only, gathered, read_sizes, renamed, without
from training.models.bart import BartConfig, BartForPretraining
from training.pretraining_batches import Seq2SeqBatch

MODEL_TYPE = "bart"
ARCHITECTURES = ("BartForConditionalGeneration", "BartModel")

_BIAS = "final_logits_bias"
_COPIES = {
    "model.encoder.embed_tokens.weight": "model.shared.weight",
    "model.decoder.embed_tokens.weight": "model.shared.weight",
    "lm_head.weight": "model.shared.weight",
}
_LEFT_OUT = ("model.encoder.version", "model.decoder.version")  # of fairseq's checkpoints
_MODULES = {
    "bart.token": ["model.shared"],
    "bart.encoder.embeddings.position": ["model.encoder.embed_positions"],
    "bart.encoder.embeddings.norm": ["model.encoder.layernorm_embedding"],
    "bart.decoder.embeddings.position": ["model.decoder.embed_positions"],
    "bart.decoder.embeddings.norm": ["model.decoder.layernorm_embedding"],
}
_LAYER_MODULES = {
    "attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.out": ["self_attn.out_proj"],
    "attention_norm": ["self_attn_layer_norm"],
    "cross_attention.query": ["encoder_attn.q_proj"],
    "cross_attention.key_value": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "cross_attention.out": ["encoder_attn.out_proj"],
    "cross_attention_norm": ["encoder_attn_layer_norm"],
    "feed_forward.up": ["fc1"],
    "feed_forward.down": ["fc2"],
    "feed_forward_norm": ["final_layer_norm"],
}
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "encoder_attention_heads",
    "feed_forward_size": "encoder_ffn_dim",
    "max_seq_len": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "initializer_std": "init_std",
    "start_id": "decoder_start_token_id",
}
_DEFAULTS = {  # transformers', of what a config.json may leave out
    "max_position_embeddings": 1024,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "init_std": 0.02,
    "decoder_start_token_id": 2,
}
_TWINS = {  # the decoder's, which are the encoder's in every BART
    "encoder_attention_heads": "decoder_attention_heads",
    "encoder_ffn_dim": "decoder_ffn_dim",
}
_ONLY = {  # what our BART is, wherever a config.json says something
    "activation_function": "gelu",
    "scale_embedding": False,
    "normalize_before": False,
    "normalize_embedding": True,
    "add_final_layer_norm": False,
    "static_position_embeddings": False,
    "extra_pos_embeddings": 2,
    "is_encoder_decoder": True,
    "tie_word_embeddings": True,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
_WRITTEN = ("activation_function", "scale_embedding", "is_encoder_decoder", "tie_word_embeddings")


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    module, _, leaf = ours.rpartition(".")
    parts = module.split(".", 4)
    if len(parts) < 5:
        return [f"{name}.{leaf}" for name in _MODULES[module]] if module else [_BIAS]
    _, side, _, number, inner = parts
    return [f"model.{side}.layers.{number}.{name}.{leaf}" for name in _LAYER_MODULES[inner]]


def their_config(config: BartConfig) -> dict[str, Any]:
    """Raises ValueError for a LayerNorm that BART cannot have there."""
    if config.layer_norm_eps != 1e-5:
        raise ValueError(
            f"layer_norm_eps {config.layer_norm_eps}: in transformers BART's is 1e-05; such a model cannot be exported"
        )
    facts = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    twins = {twin: facts[name] for name, twin in _TWINS.items()}
    # Without the last two, generate there would end every text that reaches its full length with token 2.
    unforced = {"forced_bos_token_id": None, "forced_eos_token_id": None}
    return facts | twins | {name: _ONLY[name] for name in _WRITTEN} | unforced


def our_config(facts: Facts, source: str) -> BartConfig:
    twins = {twin: facts.get(name) for name, twin in _TWINS.items()}
    check_only(facts, _ONLY | twins, "BART", source)
    return BartConfig(**read_sizes(_DEFAULTS | dict(facts), _SIZES, source))


def to_theirs(model: BartForPretraining) -> dict[str, Tensor]:
    weights = renamed(model, their_names)
    return weights | {_BIAS: weights[_BIAS].unsqueeze(0)}


def from_theirs(tensors: Mapping[str, Tensor], config: BartConfig) -> dict[str, Tensor]:
    if not any(
        name.startswith("model.") for name in tensors
    ):  # a BartModel, its names without the head's prefix
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
    given = without(tensors, copies=_COPIES, left_out=_LEFT_OUT)
    copies = [
        given.pop(name) for name in _COPIES if name in given
    ]  # safetensors keeps one of several that share memory
    if copies:
        given.setdefault("model.shared.weight", copies[0])
    bias = given.get(_BIAS)
    given[_BIAS] = torch.zeros(config.vocab_size) if bias is None else bias.squeeze(0)
    return gathered(given, config.network(seed=None), their_names)


def outputs(model: BartForPretraining) -> dict[str, Tensor]:
    config = model.config
    source = probe(model, config.vocab_size, config.max_seq_len, pairs=False)
    edges = source.cu_seqlens.tolist()
    noise = np.random.default_rng(1)
    lengths = [min(end - begin + 2, config.max_seq_len) for begin, end in pairwise(edges)]
    rows = [noise.integers(0, config.vocab_size, length) for length in lengths]
    decoder = TokenBatch.from_sequences(rows).to(source.tokens_T.device)
    batch = Seq2SeqBatch(tokens=source, decoder=decoder, target_tokens_T=decoder.tokens_T)
    return {"seq2seq": model.logits(batch)}
