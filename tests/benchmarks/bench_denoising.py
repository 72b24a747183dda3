"""Denoising objectives beside the same made example by example, in one run: one JSON line per figure.

    python tests/benchmarks/bench_denoising.py [--repeats 5] [--only infill]

The peer works as the originals do (fairseq's DenoisingDataset, MASS's trainer and dataset): one example at a time, by small
torch operations and Python loops over sentences and along spans; masking, deletion and infilling are one function of many
settings; numpy's generator is seeded for every example and put back (BART). It goes up to the source, what the decoder reads and the
target, without dataset classes, checks and padding around it, and its rows are cut already: ours begins at the token shard.
Every figure is tokens of the text per CPU-second of one thread; ours and the peer alternate, medians are compared; `ratio`
is ours / peer, `floor` what is asked of it. `ratio_unseeded` leaves out the peer's seeding, which is most of what a noise
costs it that is a few torch calls on a row of 220 tokens.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor

from corpus.corruption.bart import BartObjective, bart_command_published, bart_published, mbart_published
from corpus.corruption.infilling import TextInfilling, poisson_shares
from corpus.corruption.masking import Marks
from corpus.corruption.mass import MassObjective, OneFragment, mass_published, mass_summarisation_published
from corpus.corruption.packing import DocSentences
from corpus.corruption.permuting import FullStops, SentencePermutation
from corpus.corruption.rotating import DocumentRotation
from corpus.corruption.token_noises import TokenDeletion, TokenInsertion, TokenMasking
from tests.corpus.in_memory import documents, shard_of

VOCAB_SIZE = 30_000
MARKS = Marks(vocab_size=VOCAB_SIZE, cls_id=2, sep_id=3, mask_id=4)
FLOOR = 50
PEER_ROWS = 250
FULL_STOP = 13
Example = tuple[
    Tensor, Tensor, list[int]
]  # a row <s> text </s>, where words begin in it, lengths of its sentences


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """A seed of its own for every example, as the original does it."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(hash((0, 1, number)) % 1_000_000)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


class PlainBart:
    """BART's noises on one example after the other."""

    def __init__(self, objective: BartObjective, seeds: bool = True) -> None:
        self.objective = objective
        self.seeded = seeded if seeds else lambda number: nullcontext()
        if objective.infill:
            shares = torch.tensor(poisson_shares(objective.infill.mean_span))
            self.lengths = torch.distributions.Categorical(shares)

    def __call__(self, number: int, example: Example) -> tuple[Tensor, ...]:
        with self.seeded(number):
            tokens, begins, sentences = example
            source, target, noise = tokens.clone(), tokens.clone(), self.objective
            if noise.permute:
                source, begins = self.permute(source, begins, sentences, noise.permute)
            if noise.mask:
                source, begins = self.hide(source, begins, noise.mask.share, noise.mask.random_share)
            if noise.delete:
                source, begins = self.hide(source, begins, noise.delete.share, 0.0, delete=True)
            if noise.infill:
                share, random_share = noise.infill.share, noise.infill.random_share
                source, _ = self.hide(source, begins, share, random_share, spans=True)
            if noise.insert:
                count = math.ceil(len(source) * noise.insert.share)
                source = self.insert(source, count, noise.insert.random_share)
            if noise.rotate and np.random.random() < noise.rotate.share:  # noqa: NPY002
                offset = np.random.randint(1, len(source))  # noqa: NPY002
                source = torch.cat([source[:1], source[offset:-1], source[1:offset], source[-1:]])
            return source, torch.cat([target[-1:], target[:-1]]), target

    def permute(
        self, source: Tensor, begins: Tensor, sentences: list[int], noise: SentencePermutation
    ) -> tuple[Tensor, Tensor]:
        if isinstance(noise.ends, FullStops):
            stops = source == noise.ends.token_ids[0]
            stops[-2] = True
            ends = (stops[1:] & ~stops[:-1]).nonzero()[:, 0] + 2
        else:
            ends = torch.tensor(sentences).cumsum(0) + 1
        chosen = torch.randperm(len(ends))[: math.ceil(len(ends) * noise.share)]
        order = torch.arange(len(ends))
        order[chosen] = chosen[torch.randperm(len(chosen))]
        moved, moved_begins, at = source.clone(), begins.clone(), 1
        for number in order:
            part = slice(ends[number - 1] if number else 1, ends[number])
            size = len(source[part])
            moved[at : at + size], moved_begins[at : at + size] = source[part], begins[part]
            at += size
        return moved, moved_begins

    def hide(
        self,
        source: Tensor,
        begins: Tensor,
        share: float,
        random_share: float,
        delete: bool = False,
        spans: bool = False,
    ) -> tuple[Tensor, Tensor]:
        starts = begins.clone().long() if spans else torch.ones(len(source), dtype=torch.long)
        starts[0] = starts[-1] = 0
        budget = math.ceil(starts.float().sum() * share)
        inserts, lengths = 0, torch.ones(budget, dtype=torch.long)
        if spans:
            lengths = self.lengths.sample((budget,))
            while lengths.sum() < budget:
                lengths = torch.cat([lengths, self.lengths.sample((budget,))])
            last = int((lengths.cumsum(0) >= budget).nonzero()[0])
            lengths = lengths[: last + 1]
            lengths[last] -= lengths.sum() - budget
            inserts = int((lengths == 0).sum())
            lengths = lengths[lengths > 0]
        words = starts.nonzero()[:, 0]
        at = words[torch.randperm(len(words))[: len(lengths)]]
        is_random = torch.rand(len(at)) < random_share
        keep = torch.ones(len(source), dtype=torch.bool)
        starts[-1] = 1000
        if delete:
            keep[at] = False
        else:
            source[at] = MARKS.mask_id
            source[at[is_random]] = torch.randint(1, VOCAB_SIZE, (int(is_random.sum()),))
        left = lengths - 1
        while len(at):
            left = left - starts[at + 1]
            goes_on = left >= 0
            at, left = at[goes_on] + 1, left[goes_on]
            keep[at] = False
        source, begins = source[keep], begins[keep]
        return (self.insert(source, inserts, random_share) if inserts else source), begins

    def insert(self, source: Tensor, count: int, random_share: float) -> Tensor:
        at = torch.randperm(len(source) + count - 2)[:count] + 1
        new = torch.zeros(len(source) + count, dtype=torch.bool)
        new[at] = True
        out = torch.full((len(source) + count,), -1)
        others = math.ceil(count * random_share)
        out[at[others:]] = MARKS.mask_id
        out[at[:others]] = torch.randint(1, VOCAB_SIZE, (others,))
        out[~new] = source
        return out


class PlainMass:
    """MASS on one example after the other."""

    def __init__(self, objective: MassObjective) -> None:
        self.objective = objective
        self.shares = torch.tensor([0.8, 0.1, 0.1])
        self.rng = np.random.default_rng(0)

    def __call__(self, number: int, example: Example) -> tuple[Any, ...]:
        tokens, fragments = example[0].numpy().copy(), self.objective.fragments
        at: list[int] = []
        if isinstance(fragments, OneFragment):
            hidden = round(len(tokens) * fragments.share)
            others, draw = [0] * (len(tokens) - hidden - 1), self.rng.random()
            parts = others if draw >= 0.6 else [*others, hidden]
            random.shuffle(parts)
            parts = [hidden, *parts] if draw >= 0.8 else [*parts, hidden] if draw >= 0.6 else parts
            where = 1
            for part in parts:
                at.extend(where + i for i in range(part))
                where += max(part, 1)
        else:
            positions = np.arange(len(tokens))
            for first in range(1, len(tokens), fragments.block_tokens):
                block = positions[first : first + fragments.block_tokens]
                hidden = max(int(len(block) * fragments.share), first == 1)
                begin = self.rng.choice(block[: len(block) - hidden + 1], 1)[0]
                at.extend(positions[begin : begin + hidden])
        places = np.array(at)
        target, decoder = tokens[places].copy(), tokens[places - 1].copy()
        kind = torch.multinomial(self.shares, len(places), replacement=True).numpy()
        other = self.rng.integers(VOCAB_SIZE, size=len(places))
        tokens[places] = MARKS.mask_id * (kind == 0) + target * (kind == 1) + other * (kind == 2)
        return torch.LongTensor(tokens), torch.LongTensor(decoder), places - 1, torch.LongTensor(target)


def compare(figure: str, objective: BartObjective | MassObjective, repeats: int) -> None:
    shard = shard_of(documents(8000, seed=1), vocab_size=VOCAB_SIZE)
    shard.tokens_T[shard.sentence_offsets[1:] - 1] = FULL_STOP
    examples = examples_of(shard, objective)
    sizes = sum(len(tokens) - 2 for tokens, _, _ in examples)

    def ours() -> int:
        objective.corrupt(shard, MARKS, seed=0, pass_number=0)
        return len(shard.tokens_T)

    def by(peer: Callable[[int, Example], Any]) -> Callable[[], int]:
        def run() -> int:
            for number, example in enumerate(examples):
                peer(number, example)
            return sizes

        return run

    works = {"ours": ours}
    if isinstance(objective, MassObjective):
        works["peer"] = by(PlainMass(objective))
    else:
        works |= {"peer": by(PlainBart(objective)), "unseeded": by(PlainBart(objective, seeds=False))}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            began = time.process_time()
            done = work()
            if repeat:  # the first round warms up
                rates[name].append(done / (time.process_time() - began))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    line = {
        "bench": "denoising",
        "figure": figure,
        "unit": "tokens/CPU-s",
        "ours": round(middle["ours"]),
        "peer": round(middle["peer"]),
        "ratio": round(middle["ours"] / middle["peer"], 1),
        "ratio_unseeded": round(middle["ours"] / middle.get("unseeded", middle["peer"]), 1),
        "floor": FLOOR,
        "ours_range": [round(min(rates["ours"])), round(max(rates["ours"]))],
        "peer_range": [round(min(rates["peer"])), round(max(rates["peer"]))],
        "repeats": repeats,
        "max_seq_len": objective.max_seq_len,
        "tokens": [len(shard.tokens_T), sizes],
        "load1": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)


def examples_of(shard: Any, objective: BartObjective | MassObjective) -> list[Example]:
    if isinstance(objective, MassObjective):
        rows = objective.packing.pack(shard, np.arange(300), objective.max_seq_len - 2)
    else:
        rows = DocSentences().pack(shard, np.arange(300), objective.room)
    bounds, found = shard.sentence_offsets.tolist(), []
    for start, length in zip(
        rows.start_K[:PEER_ROWS].tolist(), rows.length_K[:PEER_ROWS].tolist(), strict=True
    ):
        at = slice(start, start + length)
        tokens = torch.tensor([MARKS.cls_id, *shard.tokens_T[at].tolist(), MARKS.sep_id])
        begins = torch.tensor([True, *shard.word_start_T[at].tolist(), True])
        cuts = [start, *(cut for cut in bounds if start < cut < start + length), start + length]
        found.append((tokens, begins, [b - a for a, b in pairwise(cuts)]))
    return found


def alone(**noise: Any) -> BartObjective:
    """One noise and no other."""
    return BartObjective(**{"permute": None, "infill": None, **noise})


FIGURES: dict[str, BartObjective | MassObjective] = {
    "BART, infilling and permutation (paper)": bart_published(),
    "BART, infilling and permutation (command)": bart_command_published(),
    "mBART": mbart_published(),
    "BART, infilling": alone(infill=TextInfilling()),
    "BART, infilling, exact": alone(infill=TextInfilling(exact=True)),
    "BART, permutation, the shard's sentences": alone(permute=SentencePermutation()),
    "BART, permutation, full stops": alone(
        permute=SentencePermutation(ends=FullStops(token_ids=(FULL_STOP,)))
    ),
    "BART, token masking": alone(mask=TokenMasking()),
    "BART, token deletion": alone(delete=TokenDeletion()),
    "BART, insertion": alone(insert=TokenInsertion()),
    "BART, rotation": alone(rotate=DocumentRotation()),
    "BART, all six": BartObjective(
        mask=TokenMasking(), delete=TokenDeletion(), insert=TokenInsertion(), rotate=DocumentRotation()
    ),
    "MASS, sentences": mass_published(),
    "MASS, blocks of 64": mass_summarisation_published(),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="figures with this in their name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for figure, objective in FIGURES.items():
        if arguments.only in figure:
            compare(figure, objective, arguments.repeats)


if __name__ == "__main__":
    main()
