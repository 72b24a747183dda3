"""A registered version -> a model that has proved it answers.

Every file is verified against the artifact's checksums before it is read, then the predictor must answer its probes
(finite, normalised, independent of what shares the batch). Only what comes out of `load` is ever put before a client.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.artifacts import Artifact
from infra.storage import Folder
from serving.predictors.classify import Classify
from serving.predictors.fill_mask import FillMask, MaskedLM
from serving.predictors.predictor import Predictor
from serving.predictors.texts import Texts
from serving.rollout import Version
from training.exchange import import_folder
from training.tasks.classify import Classifier

SERVED = (FillMask.task, Classify.task)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checked predictor and the version it came from; items of one Loaded share batches."""

    version: Version
    predictor: Predictor

    def run(self, items: Sequence[Any]) -> list[Any]:
        return self.predictor.run(items)


def load(store: Folder, version: Version) -> Loaded:
    """Load and check. Raises FileNotFoundError, CorruptFile, ValueError: one sentence each."""
    step, digest = version.artifact.split("/")
    artifact = Artifact(store, step, digest)
    with tempfile.TemporaryDirectory(prefix="cloze-load-") as name:
        folder = Path(name)
        for file in artifact.names():
            link = folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(
                artifact.path(file).absolute()
            )  # verified; on S3 each file is cached under a name of its own
        predictor = load_folder(folder)
    predictor.check()
    return Loaded(version, predictor)


def load_folder(folder: Path) -> Predictor:
    """The predictor of an exported folder, not yet checked. Raises ValueError for a task that nothing here answers."""
    facts = json.loads((folder / "cloze.json").read_text(encoding="utf-8"))
    name, task = facts.get("name", folder.name), facts.get("task")
    if task not in SERVED:
        raise ValueError(
            f"{name} is for the task {task!r}, which is not served yet; served are {', '.join(SERVED)}"
        )
    model = import_folder(folder)
    if isinstance(model, Classifier):
        return Classify(model, Texts.from_folder(folder, model.config.max_seq_len), facts["labels"])
    if isinstance(model, MaskedLM):
        return FillMask(model, Texts.from_folder(folder, model.config.max_seq_len))
    raise ValueError(
        f"{name} holds a {type(model).__name__}, which does not answer {task}; export it again with this cloze"
    )
