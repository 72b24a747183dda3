"""RoBERTa <-> transformers' RobertaForMaskedLM."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange import bert
from training.exchange.family import Facts, everywhere, probe
from training.exchange.tables import check_only, gathered, read_sizes, renamed, without
from training.models.roberta import RobertaConfig, RobertaForPretraining

MODEL_TYPE = "roberta"
ARCHITECTURES = ("RobertaForMaskedLM",)

_COPIES = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
_LEFT_OUT = (  # the released files have a pooler that no objective trained
    "roberta.embeddings.position_ids",
    "roberta.pooler.dense.weight",
    "roberta.pooler.dense.bias",
)
_MODULES = {
    "roberta.embeddings.token": ["roberta.embeddings.word_embeddings"],
    "roberta.embeddings.position": ["roberta.embeddings.position_embeddings"],
    "roberta.embeddings.segment": ["roberta.embeddings.token_type_embeddings"],
    "roberta.embeddings.norm": ["roberta.embeddings.LayerNorm"],
    "masked_lm": ["lm_head"],
    "masked_lm.transform": ["lm_head.dense"],
    "masked_lm.norm": ["lm_head.layer_norm"],
}
_SIZES = {
    ours: theirs for ours, theirs in bert.SIZES.items() if ours not in ("num_segments", "max_seq_len")
} | {"pad_id": "pad_token_id"}
_DEFAULTS = bert.DEFAULTS | {"pad_token_id": 1}
_ONLY = bert.ONLY | {"type_vocab_size": 1}


def their_names(ours: str) -> list[str]:
    """The tensors there that, one below the other, are our parameter."""
    module, _, leaf = ours.rpartition(".")
    if not module.startswith("roberta.layers."):
        return [f"{name}.{leaf}" for name in _MODULES[module]]
    _, _, number, inner = module.split(".", 3)
    return [f"roberta.encoder.layer.{number}.{name}.{leaf}" for name in bert.LAYER_MODULES[inner]]


def their_config(config: RobertaConfig) -> dict[str, Any]:
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    return sizes | _ONLY | {"max_position_embeddings": config.pad_id + 1 + config.max_seq_len}


def our_config(facts: Facts, source: str) -> RobertaConfig:
    facts = _DEFAULTS | dict(facts)
    check_only(facts, _ONLY, "RoBERTa", source)
    sizes = read_sizes(facts, {**_SIZES, "positions": "max_position_embeddings"}, source)
    return RobertaConfig(max_seq_len=sizes.pop("positions") - sizes["pad_id"] - 1, **sizes)


def to_theirs(model: RobertaForPretraining) -> dict[str, Tensor]:
    return renamed(model, their_names)


def from_theirs(tensors: Mapping[str, Tensor], config: RobertaConfig) -> dict[str, Tensor]:
    given = without(tensors, copies=_COPIES, left_out=_LEFT_OUT)
    return gathered(given, config.network(seed=None), their_names)


def outputs(model: RobertaForPretraining) -> dict[str, Tensor]:
    batch = probe(model, model.config.vocab_size, model.config.max_seq_len, pairs=False)
    return {"masked_lm": model.masked_lm_logits(batch, everywhere(batch))}
