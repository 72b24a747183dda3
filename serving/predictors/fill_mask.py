"""Fill-mask: the likeliest tokens at every mask ([MASK], <mask>: as its vocabulary writes it), as transformers' pipeline
gives them.

    "a [MASK]."        -> [{"score", "token", "token_str", "sequence"}, ...]       best first
    "a [MASK] [MASK]." -> one such list per mask; probabilities of different masks are not joint

Letters: `M` masked positions of all texts in a batch, `V` vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from serving.predictors.predictor import Prepared, UnfitModel, check_scores, known, whole_number
from serving.predictors.texts import Texts
from training.batches import TokenBatch

PROBES = ("a {mask}.", "The {mask} of the {mask} is returned.", "{mask}")
DEFAULT_TOP_K = 5
MAX_TARGETS = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """targets: token ids the answer is limited to, ascending (None: the whole vocabulary)."""

    top_k: int = DEFAULT_TOP_K
    targets: tuple[int, ...] | None = None


@runtime_checkable
class MaskedLM(Protocol):
    """A network that predicts hidden tokens."""

    @property
    def config(self) -> Any: ...  # vocab_size, max_seq_len

    def eval(self) -> Any: ...

    def masked_lm_logits(self, batch: TokenBatch, index_M: torch.Tensor) -> torch.Tensor: ...


class FillMask:
    """Predicts only at masked positions: the rest of the text never reaches the V-wide output layer."""

    task = "fill-mask"
    labels = None

    def __init__(self, model: MaskedLM, texts: Texts) -> None:
        self.model: MaskedLM = model.eval()
        self.texts = texts
        self.max_seq_len = texts.max_seq_len
        self.mask = texts.mask

    def read(self, parameters: Mapping[str, Any]) -> Options:
        given = known(parameters, ("top_k", "targets"))
        top_k = whole_number("top_k", given.get("top_k", DEFAULT_TOP_K), len(self.texts.ids))
        targets = given.get("targets")
        return Options(top_k=top_k, targets=None if targets is None else self._targets(targets))

    def prepare(self, text: str, options: Options) -> Prepared:
        tokens, whole = self.texts.tokens(text)
        mask, kept = self.texts.mask, int((tokens == self.texts.mask_id).sum())
        masks = text.count(mask)
        if masks == 0:
            raise ValueError(f"no {mask} in {text[:60]!r}; write {mask} where a word is to be filled in")
        if kept < masks:
            raise ValueError(
                f"{masks - kept} of {masks} {mask} lie beyond the {self.max_seq_len} tokens the model reads "
                f"(the text has {whole}); shorten the text before them"
            )
        return Prepared(tokens=tokens, options=options, whole_tokens=whole)

    @torch.inference_mode()
    def run(self, items: Sequence[Prepared]) -> list[Any]:
        batch = TokenBatch.from_sequences([item.tokens for item in items])
        index_M = torch.nonzero(batch.tokens_T == self.texts.mask_id).squeeze(1)
        probabilities_MV = self.model.masked_lm_logits(batch, index_M).float().softmax(-1)
        if not torch.isfinite(probabilities_MV).all():
            raise UnfitModel("the model's probabilities are not finite")
        answers, row = [], 0
        for item in items:
            places = np.flatnonzero(item.tokens == self.texts.mask_id)
            rows = [
                self._guesses(item, int(place), probabilities_MV[row + i], alone=len(places) == 1)
                for i, place in enumerate(places)
            ]
            row += len(places)
            answers.append(rows[0] if len(rows) == 1 else rows)
        return answers

    def _guesses(
        self, item: Prepared, place: int, probabilities_V: torch.Tensor, *, alone: bool
    ) -> list[dict[str, Any]]:
        options: Options = item.options
        if options.targets is None:
            scores, tokens = probabilities_V.topk(options.top_k)
        else:
            targets = torch.tensor(options.targets)
            scores, places = probabilities_V[targets].topk(min(options.top_k, len(targets)))
            tokens = targets[places]
        filled = item.tokens.tolist()
        guesses = []
        for score, token in zip(scores.tolist(), tokens.tolist(), strict=True):
            filled[place] = token
            guesses.append(
                {
                    "score": score,
                    "token": token,
                    "token_str": self.texts.text([token], skip_special=False),
                    # With one mask, special tokens are dropped; with several, the other masks must stay visible.
                    "sequence": self.texts.text(filled, skip_special=alone),
                }
            )
        return guesses

    def _targets(self, targets: Any) -> tuple[int, ...]:
        words = [targets] if isinstance(targets, str) else targets
        if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
            raise ValueError(f"targets is {str(targets)[:60]!r}; it must be a word or a list of words")
        if len(words) > MAX_TARGETS:
            raise ValueError(
                f"targets holds {len(words)} words; at most {MAX_TARGETS} are taken, or leave targets out"
            )
        ids = set()
        for word in words:
            token = self.texts.ids.get(word)
            if token is None:  # as transformers: a word that is split counts as its first piece
                pieces = self.texts.pieces(word)
                token = pieces[0] if pieces else self.texts.unk_id
            if token in self.texts.special:
                raise ValueError(f"target {word!r} is not in the model's vocabulary; choose another word")
            ids.add(token)
        return tuple(sorted(ids))

    def check(self) -> None:
        """Probes: finite, normalised over the whole vocabulary, and the same alone as in one batch."""
        everything = self.read({"top_k": len(self.texts.ids)})
        probes = [probe.format(mask=self.texts.mask) for probe in PROBES]
        items = [self.prepare(text, everything) for text in probes]
        together = self.run(items)
        for text, item, answer in zip(probes, items, together, strict=True):
            alone = self.run([item])[0]
            rows = zip(*((a if isinstance(a[0], list) else [a]) for a in (answer, alone)), strict=True)
            for shared, single in rows:
                check_scores(f"fill-mask of {text!r}", [g["score"] for g in shared], total=1.0)
                by_token = {g["token"]: g["score"] for g in single}
                if max(abs(g["score"] - by_token[g["token"]]) for g in shared) > 1e-3:
                    raise UnfitModel(f"fill-mask of {text!r} answers differently in a batch than alone")
