"""Small exported models with random weights, as folders and as artifacts in a store."""

import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from training.card import Card
from training.exchange import export_folder
from training.models.bert import BertConfig, BertForPretraining
from training.tasks.classify import BertForClassification, ClassifyConfig

WORDS = ("the", "a", "of", "is", "in", "and", "all", "return", "##ing", "list", "##s", "name", "names")
LETTERS = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *".,!?()'"]
VOCABULARY = list(dict.fromkeys([*SPECIAL_TOKENS, *LETTERS, *WORDS]))
LABELS = ("numpy", "torch", "ray")
CONFIG = BertConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    feed_forward_size=64,
    max_seq_len=64,
)


def export(folder: Path, task: str, *, seed: int = 0) -> Path:
    if task == "fill-mask":
        model, labels = BertForPretraining(CONFIG, seed=seed), None
    else:
        model = BertForClassification(
            CONFIG, ClassifyConfig(num_labels=len(LABELS), max_seq_len=64), seed=seed
        )
        labels = LABELS
    with torch.no_grad():  # so far from uniform that an exchanged weight would be seen
        for parameter in model.parameters():
            parameter.mul_(4.0)
    export_folder(
        model, folder, vocabulary=vocabulary_files(VOCABULARY, True), card=Card(name="test", labels=labels)
    )
    return folder


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    task: str
    seed: int


def export_random(config: ExportConfig, *, out: Output) -> dict[str, int]:
    """The step: writes an exported folder into the store."""
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(export(Path(folder), config.task, seed=config.seed).iterdir()):
            out.write(file.name, file.read_bytes())
    return {}


def export_artifact(store: Folder, task: str, *, seed: int = 0) -> Artifact:
    return run_step(export_random, ExportConfig(task=task, seed=seed), store=store)
