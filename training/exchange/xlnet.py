"""XLNet <-> transformers' XLNetLMHeadModel.

There a projection is a tensor `hidden, heads, size per head`, here a Linear of all heads; our keys and values are one.
Whether a text is read from its end is a matter of the batch here, so `bi_data` is not read, and `reuse_len` neither.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corpus.instance_kinds import NO_PAIR, PermutationInstances
from training.exchange.family import Facts
from training.exchange.tables import check_only, gathered, read_sizes, renamed, without
from training.models.xlnet import XLNetConfig, XLNetForPretraining
from training.pretraining_batches import PermutationBatch

MODEL_TYPE = "xlnet"
ARCHITECTURES = ("XLNetLMHeadModel",)

_COPIES = {"lm_loss.weight": "transformer.word_embedding.weight"}
_NAMES = {
    "bias": "lm_loss.bias",
    "xlnet.query": "transformer.mask_emb",
    "xlnet.token.weight": "transformer.word_embedding.weight",
}
_LAYER_NAMES = {
    "attention.query.weight": ["rel_attn.q"],
    "attention.key_value.weight": ["rel_attn.k", "rel_attn.v"],
    "attention.distance.weight": ["rel_attn.r"],
    "attention.out.weight": ["rel_attn.o"],
    "attention.content_bias": ["rel_attn.r_w_bias"],
    "attention.distance_bias": ["rel_attn.r_r_bias"],
    "attention.segment_bias": ["rel_attn.r_s_bias"],
    "attention.segment": ["rel_attn.seg_embed"],
    "attention_norm.weight": ["rel_attn.layer_norm.weight"],
    "attention_norm.bias": ["rel_attn.layer_norm.bias"],
    "feed_forward.up.weight": ["ff.layer_1.weight"],
    "feed_forward.up.bias": ["ff.layer_1.bias"],
    "feed_forward.down.weight": ["ff.layer_2.weight"],
    "feed_forward.down.bias": ["ff.layer_2.bias"],
    "feed_forward_norm.weight": ["ff.layer_norm.weight"],
    "feed_forward_norm.bias": ["ff.layer_norm.bias"],
}
_TURNED = (".q", ".k", ".v", ".r")  # projections from hidden to heads; `.o` leads back
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "feed_forward_size": "d_inner",
    "max_seq_len": "max_seq_len",  # our own entry: theirs has no limit
    "memory_len": "mem_len",
    "max_distance": "clamp_len",
    "dropout": "dropout",
    "attention_dropout": "dropout",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_std": "initializer_range",
}
_DEFAULTS = {  # theirs, of what a config.json may leave out
    "vocab_size": 32000,
    "d_model": 1024,
    "n_layer": 24,
    "n_head": 16,
    "d_inner": 4096,
    "max_seq_len": 512,
    "dropout": 0.1,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
}
_ONLY = {  # what our XLNet is, wherever a config.json says something
    "attn_type": "bi",
    "ff_activation": "gelu",
    "same_length": False,
    "untie_r": True,
    "tie_word_embeddings": True,
}


def their_config(config: XLNetConfig) -> dict[str, Any]:
    """Raises ValueError for two dropouts, which they cannot have."""
    if config.attention_dropout != config.dropout:
        raise ValueError(
            f"attention_dropout {config.attention_dropout} and dropout {config.dropout}: in transformers an XLNet has one for "
            "both; such a model cannot be exported"
        )
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    return sizes | _ONLY | {"d_head": config.hidden_size // config.num_heads}


def our_config(facts: Facts, source: str) -> XLNetConfig:
    given = _DEFAULTS | dict(facts)
    if (given.get("clamp_len") or -1) < 0:  # -1: distances are not cut
        given["clamp_len"] = XLNetConfig.max_distance
    if given.get("mem_len") is None:  # everything; how much it is belongs to whoever calls
        given["mem_len"] = XLNetConfig.memory_len
    sizes = read_sizes(given, _SIZES, source)
    only = _ONLY | {"d_head": sizes["hidden_size"] // max(1, sizes["num_heads"])}
    check_only({name: value for name, value in given.items() if value is not None}, only, "XLNet", source)
    return XLNetConfig(**sizes)


def _their_names(ours: str) -> list[str]:
    if not ours.startswith("xlnet.layers."):
        return [_NAMES[ours]]
    _, _, number, inner = ours.split(".", 3)
    return [f"transformer.layer.{number}.{name}" for name in _LAYER_NAMES[inner]]


def to_theirs(model: XLNetForPretraining) -> dict[str, Tensor]:
    heads = model.config.num_heads
    weights = renamed(model, _their_names)
    for name, tensor in weights.items():
        if ".rel_attn." in name and name.endswith((*_TURNED, ".o")):
            matrix = tensor.t() if name.endswith(_TURNED) else tensor
            weights[name] = matrix.reshape(len(matrix), heads, -1).contiguous()
    weights["transformer.mask_emb"] = weights["transformer.mask_emb"].reshape(1, 1, -1)
    return weights


def from_theirs(tensors: Mapping[str, Tensor], config: XLNetConfig) -> dict[str, Tensor]:
    flat = {}
    for name, tensor in without(tensors, copies=_COPIES, left_out=()).items():
        if ".rel_attn." in name and name.endswith((*_TURNED, ".o")):
            matrix = tensor.flatten(1)
            flat[name] = matrix.t().contiguous() if name.endswith(_TURNED) else matrix
        else:
            flat[name] = tensor.flatten() if name == "transformer.mask_emb" else tensor
    return gathered(flat, config.network(seed=None), _their_names)


@torch.no_grad()
def outputs(model: XLNetForPretraining) -> dict[str, Tensor]:
    """Scores at targets of rows of two parts, in both directions."""
    device = next(model.parameters()).device
    noise = np.random.default_rng(0)
    lengths = np.array([min(length, model.config.max_seq_len) for length in (6, 17, 70)])
    offsets = np.cumsum([0, *lengths])
    order = np.full(offsets[-1], -1)
    targets = [np.sort(noise.choice(n, n // 3, replace=False)) for n in lengths]
    for first, chosen in zip(offsets, targets, strict=False):
        order[first + chosen] = noise.permutation(len(chosen))
    positions = np.concatenate(targets)
    found = PermutationInstances(
        tokens=noise.integers(0, model.config.vocab_size, offsets[-1]),
        segments=np.concatenate([np.arange(n) >= n // 2 for n in lengths]),
        order=order,
        offsets=offsets,
        target_positions=positions,
        target_tokens=np.zeros_like(positions),
        target_offsets=np.cumsum([0, *(len(chosen) for chosen in targets)]),
        reuse_len=lengths // 2,
        continues=np.zeros_like(lengths),
        backward=np.array([0, 1, 0]),
        pair_label=np.full_like(lengths, NO_PAIR),
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros_like(lengths),
    )
    batch = PermutationBatch.of(found).to(device)
    return {"permutation_lm": model.permutation_lm_logits(batch)}
