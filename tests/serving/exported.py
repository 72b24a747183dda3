"""Small exported models with random weights, as folders and as artifacts in a store."""

import json
import string
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from corpus.vocabulary.byte_files import BYTE_ALPHABET, RobertaTokens, byte_bpe_files
from corpus.vocabulary.unigram import UnigramEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from training.card import Card
from training.exchange import export_folder
from training.models.albert import AlbertConfig
from training.models.bert import BertConfig
from training.models.gpt2 import Gpt2Config
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.tasks.classify import ClassifyConfig, classifier_of

WORDS = ("the", "a", "of", "is", "in", "and", "all", "return", "##ing", "list", "##s", "name", "names")
LETTERS = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *".,!?()'"]
VOCABULARY = list(dict.fromkeys([*SPECIAL_TOKENS, *LETTERS, *WORDS]))
LABELS = ("numpy", "torch", "ray")
SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "feed_forward_size": 64, "max_seq_len": 64}
MERGES = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "the"),
    ("l", "i"),
    ("s", "t"),
    ("li", "st"),
    ("Ġ", "list"),
    ("n", "a"),
    ("m", "e"),
    ("Ġ", "na"),
    ("Ġna", "me"),
]
BYTES = [*RobertaTokens().names, *BYTE_ALPHABET, *("".join(merge) for merge in MERGES)]
PIECES = [(piece, -8.0) for piece in "▁" + string.ascii_letters + ".,!?()'"] + [
    (f"▁{word}", -2.0) for word in WORDS if not word.startswith("##")
]


def _taking_blanks(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """As released RoBERTas are: the mask token takes the blanks before it along."""
    described = json.loads(files["tokenizer.json"])
    for token in described["added_tokens"]:
        token["lstrip"] = token["content"] == "<mask>"
    return {**files, "tokenizer.json": json.dumps(described).encode()}


PIECEWISE = vocabulary_files(VOCABULARY, True)
FAMILIES = {
    "bert": (BertConfig(vocab_size=len(VOCABULARY), **SHAPE), PIECEWISE),
    "roberta": (RobertaConfig(vocab_size=len(BYTES), **SHAPE), _taking_blanks(byte_bpe_files(BYTES, MERGES))),
    "albert": (
        AlbertConfig(vocab_size=len(PIECES) + 5, embedding_size=16, **SHAPE),
        UnigramEncoder([("<unk>", 0.0), *PIECES]).files(),
    ),
    "spanbert": (SpanBertConfig(vocab_size=len(VOCABULARY), **SHAPE), PIECEWISE),
    "gpt2": (Gpt2Config(vocab_size=len(BYTES), **SHAPE), byte_bpe_files(BYTES, MERGES)),
}


def export(folder: Path, task: str, *, seed: int = 0, family: str = "bert") -> Path:
    config, vocabulary = FAMILIES[family]
    if task == "text-classification":
        model = classifier_of(config, ClassifyConfig(num_labels=len(LABELS), max_seq_len=64), seed=seed)
        card = Card(name="test", labels=LABELS)
    else:
        model, card = config.network(seed=seed), Card(name="test", language_task=task)
    with torch.no_grad():  # so far from uniform that an exchanged weight would be seen
        for parameter in model.parameters():
            parameter.mul_(4.0)
    export_folder(model, folder, vocabulary=vocabulary, card=card)
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
