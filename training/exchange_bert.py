"""What transformers calls the parts and sizes of a BERT.

Names differ by module, so the correspondence is a table of modules; our one projection for queries, keys and
values is three modules there.
"""

from typing import Any

from training.models.bert import BertConfig

PRETRAINING = ("BertForPreTraining", "BertForMaskedLM")
CLASSIFICATION = "BertForSequenceClassification"

# Tensors that may be in a file although they only repeat another one.
COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# Our modules that a BertForMaskedLM does not have.
SENTENCE_MODULES = ("bert.pooler.dense", "next_sentence")

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
_LAYER_MODULES = {
    "attention.qkv": ["attention.self.query", "attention.self.key", "attention.self.value"],
    "attention.out": ["attention.output.dense"],
    "attention_norm": ["attention.output.LayerNorm"],
    "feed_forward.up": ["intermediate.dense"],
    "feed_forward.down": ["output.dense"],
    "feed_forward_norm": ["output.LayerNorm"],
}
_REQUIRED_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feed_forward_size": "intermediate_size",
}
_SIZES = _REQUIRED_SIZES | {
    "max_seq_len": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_std": "initializer_range",
}
# What our BERT is, wherever a config.json says something.
_ONLY = {
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
    return [f"bert.encoder.layer.{number}.{name}.{leaf}" for name in _LAYER_MODULES[inner]]


def modern_name(theirs: str) -> str:
    """Checkpoints converted from TensorFlow call LayerNorm's weight gamma and its bias beta."""
    return theirs.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def their_config(config: BertConfig) -> dict[str, Any]:
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    return sizes | _ONLY | {"model_type": "bert", "pad_token_id": 0, "dtype": "float32"}


def our_config(facts: dict[str, Any], source: str) -> BertConfig:
    """The sizes in a config.json. Raises ValueError, one sentence that names `source`, if it is not our
    BERT's.
    """
    if "auto_map" in facts:
        raise ValueError(
            f"{source} has auto_map, which asks to run code that came with it; only BERT itself is read"
        )
    if facts.get("model_type") != "bert":
        raise ValueError(f"{source} has model_type {facts.get('model_type')!r}; only 'bert' is read")
    for name, value in _ONLY.items():
        if facts.get(name, value) != value:
            raise ValueError(
                f"{source} has {name} {facts[name]!r}; BERT has {value!r}, and its answers would differ"
            )
    for theirs in _REQUIRED_SIZES.values():
        if theirs not in facts:
            raise ValueError(f"{source} has no {theirs}; put the config.json of these weights beside them")
    return BertConfig(**{ours: facts[theirs] for ours, theirs in _SIZES.items() if theirs in facts})
