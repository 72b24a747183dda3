"""Text classification: a score for every label, best first, as transformers' pipeline gives them.

    "some text" -> [{"label", "score"}, ...]

Scores are a softmax over the labels (a sigmoid if there is only one), or what `function_to_apply` asks for.
Letters: `B` texts, `C` labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from serving.predictors.predictor import Prepared, UnfitModel, check_scores, known, whole_number
from serving.predictors.texts import Texts
from training.batches import TokenBatch
from training.tasks.classify import Classifier

PROBES = ("Return a list.", "a", "The quick brown fox jumps over the lazy dog, twice.")
FUNCTIONS = ("softmax", "sigmoid", "none")


@dataclass(frozen=True, kw_only=True)
class Options:
    top_k: int
    function: str


class Classify:
    """`labels` are in the order of the model's outputs."""

    task = "text-classification"
    mask = None

    def __init__(self, model: Classifier, texts: Texts, labels: Sequence[str]) -> None:
        self.model = model.eval()
        self.texts = texts
        self.labels = tuple(labels)
        self.max_seq_len = texts.max_seq_len

    def read(self, parameters: Mapping[str, Any]) -> Options:
        given = known(parameters, ("top_k", "function_to_apply"))
        function = given.get("function_to_apply", "softmax" if len(self.labels) > 1 else "sigmoid")
        if function not in FUNCTIONS:
            raise ValueError(f"function_to_apply is {function!r}; it must be one of {', '.join(FUNCTIONS)}")
        return Options(
            top_k=whole_number("top_k", given.get("top_k", len(self.labels)), len(self.labels)),
            function=function,
        )

    def prepare(self, text: str, options: Options) -> Prepared:
        tokens, whole = self.texts.tokens(text)
        return Prepared(tokens=tokens, options=options, whole_tokens=whole)

    @torch.inference_mode()
    def run(self, items: Sequence[Prepared]) -> list[Any]:
        logits_BC = self.model.logits(TokenBatch.from_sequences([item.tokens for item in items])).float()
        if not torch.isfinite(logits_BC).all():
            raise UnfitModel("the model's scores are not finite")
        functions = {"softmax": logits_BC.softmax(-1), "sigmoid": logits_BC.sigmoid(), "none": logits_BC}
        answers = []
        for row, item in enumerate(items):
            scores, places = functions[item.options.function][row].topk(item.options.top_k)
            pairs = zip(scores.tolist(), places.tolist(), strict=True)
            answers.append([{"label": self.labels[place], "score": score} for score, place in pairs])
        return answers

    def check(self) -> None:
        """Probes: finite, normalised, and the same alone as in one batch."""
        options = self.read({})
        items = [self.prepare(text, options) for text in PROBES]
        for text, item, answer in zip(PROBES, items, self.run(items), strict=True):
            total = 1.0 if options.function == "softmax" else None
            check_scores(f"classification of {text!r}", [guess["score"] for guess in answer], total=total)
            alone = {guess["label"]: guess["score"] for guess in self.run([item])[0]}
            if max(abs(guess["score"] - alone[guess["label"]]) for guess in answer) > 1e-3:
                raise UnfitModel(f"classification of {text!r} answers differently in a batch than alone")
