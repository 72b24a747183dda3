"""What fine-tuned classifiers of all families share on their way to transformers' ...ForSequenceClassification and back."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.exchange.family import Facts, probe
from training.tasks.classify import Classifiable, Classifier, ClassifyConfig, classifier_of


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The encoder, the task on top of it, and the names of its outputs. A family's subclass is what names it in FAMILIES."""

    encoder: Classifiable
    task: ClassifyConfig
    labels: tuple[str, ...]

    def network(self, *, seed: int | None = 0) -> Classifier:
        return classifier_of(self.encoder, self.task, seed=seed)


def their_labels(config: ClassifierConfig) -> dict[str, Any]:
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(config.labels)},
        "label2id": {label: number for number, label in enumerate(config.labels)},
    }


def our_labels(facts: Facts, source: str) -> tuple[str, ...]:
    """In the order of the outputs. Raises ValueError if they are not numbered from 0."""
    labels = facts.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves out its default
    numbered = {str(number): label for number, label in labels.items()}
    if set(numbered) != {str(number) for number in range(len(numbered))}:
        raise ValueError(
            f"{source} has id2label for {', '.join(sorted(numbered)[:5])}; outputs are numbered from 0 without a gap"
        )
    return tuple(numbered[str(number)] for number in range(len(numbered)))


def outputs(model: Classifier) -> dict[str, Tensor]:
    config = model.config
    pairs = getattr(config, "num_segments", 1) > 1
    return {"label": model.logits(probe(model, config.vocab_size, config.max_seq_len, pairs=pairs))}
