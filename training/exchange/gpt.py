"""GPT <-> transformers' OpenAIGPTLMHeadModel (and OpenAIGPTModel, the same without its tied head)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.exchange.family import Facts, everywhere, probe
from training.exchange.tables import check_only, gathered, read_sizes, without
from training.models.gpt import Gpt, GptConfig
from training.models.layers.left_to_right import LeftToRight

MODEL_TYPE = "openai-gpt"
ARCHITECTURES = ("OpenAIGPTLMHeadModel", "OpenAIGPTModel")

_MODULES = {"token": "transformer.tokens_embed", "position": "transformer.positions_embed"}
_MASKS = (
    ".attn.bias",
    ".attn.masked_bias",
)  # which older checkpoints carry: what is to the left, and minus ten thousand
LAYER_MODULES = {
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "attention_norm": "ln_1",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
    "feed_forward_norm": "ln_2",
}
SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "max_seq_len": "n_positions",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "embedding_dropout": "embd_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_std": "initializer_range",
}
DEFAULTS = {  # transformers', of what a config.json may leave out
    "n_positions": 512,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
}
_ONLY = {"afn": "gelu", "tie_word_embeddings": True}  # what our GPT is, wherever a config.json says something


def their_name(ours: str, modules: Mapping[str, str]) -> str:
    """The tensor there that is our parameter; matrices of LAYER_MODULES are transposed there."""
    module, _, leaf = ours.rpartition(".")
    if not module.startswith("layers."):
        return f"{modules[module]}.{leaf}"
    _, number, inner = module.split(".", 2)
    return f"transformer.h.{number}.{LAYER_MODULES[inner]}.{leaf}"


def lies_turned(ours: str) -> bool:
    """Whether a matrix is stored there as `in, out` (their Conv1D)."""
    return ours.startswith("layers.") and ours.endswith(".weight") and "norm" not in ours


def their_config(config: GptConfig) -> dict[str, Any]:
    """Raises ValueError for a feed-forward layer that their GPT cannot have."""
    if config.feed_forward_size != 4 * config.hidden_size:
        raise ValueError(
            f"feed_forward_size {config.feed_forward_size}: in transformers GPT's is 4 times hidden_size "
            f"{config.hidden_size}; such a model cannot be exported"
        )
    return {theirs: getattr(config, ours) for ours, theirs in SIZES.items()} | _ONLY


def our_config(facts: Facts, source: str) -> GptConfig:
    check_only(facts, _ONLY, "GPT", source)
    sizes = read_sizes(DEFAULTS | dict(facts), SIZES, source)
    return GptConfig(**sizes, feed_forward_size=4 * sizes["hidden_size"])


def to_theirs(model: Gpt) -> dict[str, Tensor]:
    return written(model, _MODULES)


def from_theirs(tensors: Mapping[str, Tensor], config: GptConfig) -> dict[str, Tensor]:
    return read(tensors, config.network(seed=None), _MODULES)


def written(model: LeftToRight, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights under their names, turned as they lie there."""
    weights = {}
    for ours, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        weights[their_name(ours, modules)] = (tensor.t() if lies_turned(ours) else tensor).contiguous()
    return weights


def read(tensors: Mapping[str, Tensor], model: LeftToRight, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """The reverse, for a model on the meta device. Raises ValueError for the first tensor missing, misshapen or unknown."""
    if not any(name.startswith("transformer.") for name in tensors):  # a model without its head
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    copies = {"lm_head.weight": f"{modules['token']}.weight"}
    left_out = [name for name in tensors if name.endswith(_MASKS)]
    given = without(tensors, copies=copies, left_out=left_out)
    turned = {their_name(ours, modules) for ours in model.state_dict() if lies_turned(ours)}
    laid = {
        name: tensor.t() if name in turned and tensor.ndim == 2 else tensor for name, tensor in given.items()
    }
    ours = gathered(laid, model, lambda name: [their_name(name, modules)])
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def outputs(model: LeftToRight) -> dict[str, Tensor]:
    """Logits of a network in eval mode for fixed inputs."""
    batch = probe(model, model.token.num_embeddings, model.position.num_embeddings, pairs=False)
    return {"causal_lm": model.logits(batch, everywhere(batch))}
