"""Trained models inside artifacts: weights under our own names, and the configs that say which module they fill.

    model.safetensors   parameters by name
    model.json          {"BertConfig": {...}}
    task.json           {"ClassifyConfig": {...}}, of fine-tuned models
    labels.json         names of the classes, of fine-tuned models

`read_model` also reads an exported Hugging Face folder, so that what is measured can be what is served.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
from torch import Tensor, nn

from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact
from infra.config import revived
from training import exchange
from training.checkpoint import check_fits
from training.models.family import Family, give_words
from training.tasks.classify import Classifier, ClassifyConfig, classifier_of

WEIGHTS, MODEL_CONFIG, TASK_CONFIG, LABELS = "model.safetensors", "model.json", "task.json", "labels.json"
_CONFIGS = (*get_args(Family), ClassifyConfig)


def read_config(artifact: Artifact, name: str) -> Any:
    """The config in `name`, as the dataclass it was. Raises ValueError if this cloze does not know it."""
    written = artifact.read_json(name)
    for config in _CONFIGS:
        if config.__name__ in written:
            return revived(written, config)
    raise ValueError(
        f"{name} of {artifact.short} holds a {' and '.join(written)}; known are {', '.join(c.__name__ for c in _CONFIGS)}; "
        "use the cloze that wrote it"
    )


def read_weights(artifact: Artifact) -> dict[str, Tensor]:
    """Parameters by name; their checksum is verified."""
    return safetensors.torch.load_file(artifact.path(WEIGHTS))


def read_model(artifact: Artifact) -> Any:
    """The model of a training step or of an exported folder, float32 on the CPU. Raises ValueError if it is neither."""
    names = artifact.names()
    if exchange.CONFIG in names:
        with tempfile.TemporaryDirectory(
            prefix="cloze-model-"
        ) as folder:  # one folder, wherever the store keeps them
            for name in (exchange.CONFIG, exchange.WEIGHTS):
                Path(folder, name).symlink_to(artifact.path(name).absolute())
            return exchange.import_folder(Path(folder))
    if MODEL_CONFIG not in names:
        raise ValueError(
            f"{artifact.short} holds no model ({', '.join(names[:5])}); give a trained or exported one"
        )
    config = read_config(artifact, MODEL_CONFIG)
    if TASK_CONFIG in names:
        model: nn.Module = classifier_of(config, read_config(artifact, TASK_CONFIG))
    else:
        model = config.network()
        give_words(model, encoder_of(artifact.inputs["vocabulary"]).vocabulary)
    fill(model, read_weights(artifact))
    return model


def read_language_model(artifact: Artifact) -> nn.Module:
    """What pretraining made. Raises ValueError for a model that does something else."""
    model: nn.Module = read_model(artifact)
    if isinstance(model, Classifier):
        raise ValueError(
            f"{artifact.short} is a classifier; only a language model can be measured on hidden words"
        )
    return model


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError naming the first tensor that does not fit."""
    check_fits(model, weights)
    missing, unexpected = model.load_state_dict(weights, strict=False)  # buffers are not trained, so not kept
    assert not unexpected
    assert {*missing} <= {name for name, _ in model.named_buffers()}
