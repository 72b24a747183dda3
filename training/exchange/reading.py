"""What is in a Hugging Face folder, as far as it is data: config.json and safetensors. Pickles and code stay closed."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

WEIGHTS, CONFIG, README, FACTS = "model.safetensors", "config.json", "README.md", "cloze.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG, "vocab.txt", "vocab.json", "merges.txt")
"""All that a vocabulary may consist of; the first two are always there."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise ValueError(
            f"{folder} has no {CONFIG}; give a folder written by `cloze` or by transformers' save_pretrained"
        )
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy or export it again") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path} holds a {type(facts).__name__}; a config.json is an object with names")
    if "auto_map" in facts:
        raise ValueError(
            f"{path} has auto_map, which asks to run code that came with it; only families that cloze has are read"
        )
    return facts


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors in float32, copied out of the file."""
    path = folder / WEIGHTS
    if not path.exists():
        pickles = sorted(file for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{pickles[0]} is a pickle, which can run code when it is read; save the model again with a "
                f"transformers that writes {WEIGHTS}"
            )
        raise ValueError(f"{folder} has no {WEIGHTS}; save the model as one safetensors file")
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name).to(torch.float32, copy=True) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); copy or export it again"
        ) from None


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
