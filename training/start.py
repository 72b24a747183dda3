"""Where training begins when not with drawn weights: a released Hugging Face folder, or what a step has made.

    ReleasedFolder(folder="/models/bert")     config.json and model.safetensors, named by what they hold
    first_weights                             for pretraining: heads that the release has not are fresh
    pretrained_config, pretrained_weights     for fine-tuning, of a pretraining or of an exported folder

Only data is read: safetensors and JSON (training/exchange/reading.py).
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.imported import read_released
from infra.artifacts import Artifact
from infra.storage import Folder
from training.checkpoint import commit, verify
from training.exchange import CONFIG, WEIGHTS, Model, exportable, import_folder
from training.exchange.classifier import our_labels
from training.exchange.reading import read_config as read_their_config
from training.exchange.reading import read_weights as read_their_weights
from training.models.family import Family
from training.saved import MODEL_CONFIG, fill, read_config, read_model, read_weights

_FREE = ("dropout", "initializer_std", "memory_len")  # endings of fields that no weight depends on


@dataclass(frozen=True, kw_only=True)
class ReleasedFolder:
    """A Hugging Face folder on this machine. Where it lies names no result; `sha256`, of its config.json and weights, does
    (found, if it is not given).
    """

    folder: str = field(default="", compare=False)
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.folder and not self.sha256:
            raise ValueError("folder is empty; name the folder of a released model on this machine")
        if not self.sha256:
            object.__setattr__(self, "sha256", _content(Path(self.folder)))


def released_model(start: ReleasedFolder, *, family: type | None = None) -> Model:
    """Its network in float32; `family` as in import_folder. Raises ValueError if it is none of ours or has changed."""
    folder = Path(start.folder)
    if not start.folder or _content(folder) != start.sha256:
        raise ValueError(
            f"{start.folder or 'the folder'} does not hold the model {start.sha256[:12]} any more; run the command again, or "
            "bring the files back"
        )
    return import_folder(folder, family=family)


def labels_of(start: ReleasedFolder) -> tuple[str, ...] | None:
    """The classes of a released classifier; None for any other model."""
    facts = read_their_config(Path(start.folder))
    if not (facts.get("architectures") or [""])[0].endswith("ForSequenceClassification"):
        return None
    return our_labels(facts, start.folder)


def first_weights(start: ReleasedFolder, config: Family) -> dict[str, Tensor]:
    """The weights of a released model for a network of `config`, which may choose other dropouts than the release.

    Raises ValueError naming the first field in which the shapes differ.
    """
    if not exportable(config):
        raise ValueError(
            f"start: a {type(config).__name__} has no counterpart in transformers; leave start out, or choose another model"
        )
    model = released_model(start, family=type(config))
    for one in dataclasses.fields(config):
        ours, theirs = getattr(config, one.name), getattr(model.config, one.name)
        if ours != theirs and not one.name.endswith(_FREE):
            raise ValueError(
                f"model.{one.name} {ours}: {start.folder} has {theirs}; set pretrain.model.{one.name}={theirs}"
            )
    return dict(model.named_parameters())


def keep_start(start: ReleasedFolder, config: Family, vocabulary: Encoder, folder: Folder) -> None:
    """Put the first weights where every training process finds them, on whichever machine.

    Raises ValueError as `first_weights`, and if the vocabulary is not the release's own.
    """
    if read_released(Path(start.folder))[0].digest != vocabulary.digest:
        raise ValueError(
            f"the vocabulary is not the tokenizer in {start.folder}, so its numbers mean other words; set "
            "corpus.vocabulary to an ImportedVocabulary of that folder"
        )
    with commit(folder) as write:
        write.tensors(WEIGHTS, first_weights(start, config))


def load_start(network: nn.Module, folder: Folder) -> None:
    verify(folder)
    fill(network, load_file(folder.local(WEIGHTS)))


def pretrained_config(artifact: Artifact) -> Any:
    """Of the network in a pretraining, a fine-tuning or an exported folder."""
    if MODEL_CONFIG in artifact.names():
        return read_config(artifact, MODEL_CONFIG)
    return read_model(artifact).config


def pretrained_weights(artifact: Artifact) -> dict[str, Tensor]:
    """Of the same, by our names."""
    if MODEL_CONFIG in artifact.names():
        return read_weights(artifact)
    weights: dict[str, Tensor] = read_model(artifact).state_dict()
    return weights


def _content(folder: Path) -> str:
    """sha256 over what the two files hold, read once for each state of them."""
    read_their_config(folder)  # says in a sentence what is missing
    if not (folder / WEIGHTS).exists():
        read_their_weights(folder)  # so does this
    digests = []
    for name in (CONFIG, WEIGHTS):
        state = (folder / name).stat()
        digests.append([name, _sha256(str(folder / name), state.st_size, state.st_mtime_ns)])
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, changed_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
