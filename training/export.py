"""A trained model as a Hugging Face folder with its lineage and scores: what is registered, promoted and served."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.artifacts import Artifact, Counts
from infra.output import Output
from training.card import Card
from training.exchange import TOKENIZER_FILES, Model, export_folder
from training.finetune import SCORES
from training.saved import LABELS, read_model


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`name` is what the model card says; it is also the name under which recipes register the model."""

    name: str


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


def _export(model: Model, card: Card, vocabulary: Artifact, out: Output) -> Counts:
    with tempfile.TemporaryDirectory(prefix="cloze-export-") as scratch:
        folder = Path(scratch)
        files: Mapping[str, bytes] = {
            name: vocabulary.read(name) for name in TOKENIZER_FILES if name in vocabulary.names()
        }
        export_folder(model, folder, vocabulary=files, card=card)
        for path in sorted(folder.iterdir()):
            out.write(path.name, path.read_bytes())
    return {"parameters": sum(p.numel() for p in model.parameters())}


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
