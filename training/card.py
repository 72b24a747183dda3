"""The model card: what a model is, where it comes from, how well it does and how to call it, for people
(README.md) and for our server (cloze.json).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

LanguageTask = Literal["fill-mask", "text-generation", "text2text-generation"]
Task = LanguageTask | Literal["text-classification"]

AUTO: Mapping[Task, str] = {  # the class of transformers that opens the folder
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
}
QUESTIONS: Mapping[Task, str] = {  # to a pipeline of transformers, which has none from text to text any more
    "fill-mask": "A word is {mask}.",
    "text-classification": "Return the sorted list.",
    "text-generation": "Return the",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is to be said about a model besides its weights."""

    name: str
    labels: Sequence[str] | None = (
        None  # names of the classes, in the order of the outputs; None: no classifier
    )
    language_task: LanguageTask = "fill-mask"  # what a model does that is no classifier
    mask: str = "[MASK]"  # how its vocabulary writes a hidden word
    lineage: Mapping[str, str] = field(
        default_factory=dict
    )  # what it was made from: "corpus" -> "ingest/3f2a..."
    scores: Mapping[str, float] = field(default_factory=dict)
    licence: str = "apache-2.0"

    @property
    def task(self) -> Task:
        return self.language_task if self.labels is None else "text-classification"


def facts(card: Card, *, family: str, shape: Mapping[str, int]) -> dict[str, Any]:
    """The content of cloze.json."""
    return {
        "task": card.task,
        "labels": None if card.labels is None else list(card.labels),
        "family": family,
        "name": card.name,
        "shape": dict(shape),
        "lineage": dict(card.lineage),
        "scores": dict(card.scores),
    }


def readme(card: Card, *, family: str, shape: Mapping[str, int]) -> str:
    """The content of README.md: Hugging Face's front matter, then Markdown."""
    front = [
        "library_name: transformers",
        f"pipeline_tag: {card.task}",
        f"license: {card.licence}",
        "tags: [cloze]",
    ]
    parts = [
        "\n".join(["---", *front, "---"]),
        f"# {card.name}",
        f"A {family} for {card.task}, made with cloze.",
        _table(("shape", "value"), {name.replace("_", " "): f"{value:,}" for name, value in shape.items()}),
    ]
    if card.labels is not None:
        parts += ["## Labels", _table(("output", "label"), dict(enumerate(card.labels)))]
    if card.scores:
        parts += [
            "## Scores",
            _table(("score", "value"), {name: f"{x:.4g}" for name, x in card.scores.items()}),
        ]
    if card.lineage:
        parts += [
            "## Lineage",
            "Every artifact is named by a digest of all that went into it.",
            _table(("made from", "artifact"), {name: f"`{digest}`" for name, digest in card.lineage.items()}),
        ]
    auto = f"{AUTO[card.task]}.from_pretrained(...)` and `AutoTokenizer.from_pretrained(...)"
    if card.task in QUESTIONS:
        text = QUESTIONS[card.task].format(mask=card.mask)
        code = f'ask = pipeline("{card.task}", model="path/to/this/folder")\nprint(ask("{text}"))'
        use = [f"```python\nfrom transformers import pipeline\n\n{code}\n```", f"or `{auto}`."]
    else:
        use = [f"`{auto}`, then `model.generate(...)`."]
    parts += ["## Use", *use[:-1], f"{use[-1]} The folder holds no code and no pickle."]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, str], rows: Mapping[Any, str]) -> str:
    lines = [head, ("---", "---"), *rows.items()]
    return "\n".join(f"| {left} | {str(right).replace('|', chr(92) + '|')} |" for left, right in lines)
