"""A trained model as a Hugging Face folder with its lineage and scores: what is registered, promoted and served. So is a
released checkpoint, once it is one of our folders.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from corpus.instance_kinds import CausalInstances, MaskedInstances, PermutationInstances, Seq2SeqInstances
from infra.artifacts import Artifact, Counts
from infra.output import Output
from training.card import Card, LanguageTask
from training.exchange import TOKENIZER_FILES, Model, export_folder
from training.exchange.reading import TOKENIZER_CONFIG
from training.finetune import SCORES
from training.saved import LABELS, read_model
from training.start import ReleasedFolder, labels_of, released_model

LANGUAGE_TASKS: Mapping[type, LanguageTask] = {  # of what a language model was trained on
    MaskedInstances: "fill-mask",
    CausalInstances: "text-generation",
    PermutationInstances: "text-generation",
    Seq2SeqInstances: "text2text-generation",
}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`name` is what the model card says; it is also the name under which recipes register the model."""

    name: str


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """`release` under the `name` by which it is registered here."""

    name: str
    release: ReleasedFolder


def export_language_model(
    config: ExportConfig, *, model: Artifact, vocabulary: Artifact, scores: Artifact, out: Output
) -> Counts:
    """Write the folder of a pretrained model, with its held-out scores. Counts: parameters."""
    card = Card(name=config.name, lineage=_lineage(model, scores), scores=scores.read_json(SCORES))
    return _export(read_model(model), card, vocabulary, out)


def export_classifier(config: ExportConfig, *, model: Artifact, vocabulary: Artifact, out: Output) -> Counts:
    """Write the folder of the best seed of a fine-tuning, with that seed's dev and test scores. Counts: parameters."""
    best = {k: float(v) for k, v in model.read_json(SCORES)["best"].items() if k != "seed"}
    card = Card(name=config.name, labels=model.read_json(LABELS), lineage=_lineage(model), scores=best)
    return _export(read_model(model), card, vocabulary, out)


def export_release(config: ReleaseConfig, *, vocabulary: Artifact, out: Output) -> Counts:
    """Write a released checkpoint as one of our folders; `vocabulary` is its own (corpus/vocabulary/imported.py).

    Counts: parameters. Raises ValueError, one sentence, for what is no network of ours or has another vocabulary.
    """
    model = released_model(config.release)
    lineage = {"release": config.release.sha256} | _lineage(vocabulary)
    return _export(
        model, Card(name=config.name, labels=labels_of(config.release), lineage=lineage), vocabulary, out
    )


def _export(model: Model, card: Card, vocabulary: Artifact, out: Output) -> Counts:
    with tempfile.TemporaryDirectory(prefix="cloze-export-") as scratch:
        folder = Path(scratch)
        files: Mapping[str, bytes] = {
            name: vocabulary.read(name) for name in TOKENIZER_FILES if name in vocabulary.names()
        }
        export_folder(model, folder, vocabulary=files, card=fitting(card, model, files))
        for path in sorted(folder.iterdir()):
            out.write(path.name, path.read_bytes())
    return {"parameters": sum(p.numel() for p in model.parameters())}


def fitting(card: Card, model: Model, files: Mapping[str, bytes]) -> Card:
    """The card with what follows from the model and its vocabulary."""
    named = json.loads(files[TOKENIZER_CONFIG]) if TOKENIZER_CONFIG in files else {}
    mask = named.get("mask_token") or card.mask
    return replace(card, language_task=LANGUAGE_TASKS[model.config.reads], mask=mask)


def _lineage(*artifacts: Artifact) -> dict[str, str]:
    """Everything the artifacts were made from, by step: the way back to the sources."""
    found: dict[str, str] = {}
    todo = list(artifacts)
    while todo:
        artifact = todo.pop(0)
        if artifact.address not in found.values():
            name = artifact.step
            while name in found:
                name += "'"
            found[name] = artifact.address
            todo += artifact.inputs.values()
    return found
