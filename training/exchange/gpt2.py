"""GPT-2 <-> transformers' GPT2LMHeadModel (and GPT2Model, the same without its tied head)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange.family import Facts
from training.exchange.gpt import DEFAULTS, SIZES, outputs, read, written
from training.exchange.tables import check_only, read_sizes
from training.models.gpt2 import Gpt2, Gpt2Config

__all__ = ["ARCHITECTURES", "MODEL_TYPE", "from_theirs", "our_config", "outputs", "their_config", "to_theirs"]

MODEL_TYPE = "gpt2"
ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")

_MODULES = {"token": "transformer.wte", "position": "transformer.wpe", "norm": "transformer.ln_f"}
_DEFAULTS = DEFAULTS | {"n_positions": 1024}
_ONLY = {  # what our GPT-2 is, wherever a config.json says something
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def their_config(config: Gpt2Config) -> dict[str, Any]:
    facts = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
    return facts | {"n_inner": config.feed_forward_size} | _ONLY


def our_config(facts: Facts, source: str) -> Gpt2Config:
    check_only(facts, _ONLY, "GPT-2", source)
    given = _DEFAULTS | dict(facts)
    if given.get("n_inner") is None and "n_embd" in given:
        given["n_inner"] = 4 * given["n_embd"]
    return Gpt2Config(**read_sizes(given, SIZES | {"feed_forward_size": "n_inner"}, source))


def to_theirs(model: Gpt2) -> dict[str, Tensor]:
    return written(model, _MODULES)


def from_theirs(tensors: Mapping[str, Tensor], config: Gpt2Config) -> dict[str, Tensor]:
    return read(tensors, config.network(seed=None), _MODULES)
