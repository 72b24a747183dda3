"""XLNet's rows, masks and training step beside their peers, in one run: one JSON line per figure, `ratio` is ours / peer.

    python tests/benchmarks/bench_permutation.py [--repeats 5] [--only instances|masks|step] [--precision float32]

instances  the loop of data_utils.py (tests/corpus/reference_xlnet.py), with chance from numpy's generator, one number at
           a time, as there; `python` is the same loop with Python's, which is faster. Ours on a whole shard
masks      both attention masks of rows of 512 tokens. The peer is the same rule as the original computes it, `L,L` arrays
           from index arrays, row by row in numpy. `cache` is numpy making and filling one mask after the other, `memory`
           numpy filling 256 MiB. Bytes are those written, 1 a pair and stream (512 KiB a row); 8 KiB a row are read
step       forward and backward of 4 layers x 256, rows of 512 tokens, 85 targets, a memory of 384, dropout .1, vocabulary
           8,000, beside transformers' XLNetLMHeadModel with the same weights (losses are compared first)

Every figure is per CPU-second of one thread; ours and the peer alternate, medians are compared.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from corpus.corruption.masking import Marks
from corpus.corruption.permutation import PermutationObjective, Streams, xlnet_published
from corpus.corruption.two_stream import ranks, seen, with_itself
from corpus.instance_kinds import PermutationInstances
from tests.corpus import reference_xlnet as plain
from tests.corpus.in_memory import documents, shard_of

VOCAB = 8000
MARKS = Marks(vocab_size=VOCAB, cls_id=2, sep_id=3, mask_id=None)


def compare(figure: str, works: dict[str, Callable[[], float]], repeats: int, **facts: Any) -> None:
    """Run all in turn; each returns how much it did."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            began = time.process_time()
            done = work()
            if repeat:  # the first round warms up
                rates[name].append(done / (time.process_time() - began))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    line = {"figure": figure, **{n: float(f"{m:.3g}") for n, m in medians.items()}, **facts}
    print(json.dumps({**line, "ratio": round(medians["ours"] / medians["peer"], 2)}), flush=True)


class NumpyDraws(plain.RandomDraws):
    """As the original draws."""

    def count(self, number: int) -> int:
        shares = 1 / np.arange(1, 6)
        return int(np.random.choice(np.arange(1, 6), p=shares / shares.sum()))  # noqa: NPY002

    def ahead(self, number: int, context: int) -> int:
        return int(np.random.choice(context))  # noqa: NPY002


def plain_rows(shard: Any, count: int, kind: str, draws: plain.RandomDraws) -> int:
    """`count` rows of a stream, by the plain loop: tokens of rows."""
    size = len(shard.tokens_T)
    tokens, starts = shard.tokens_T.tolist(), shard.word_start_T.tolist()
    boundaries = set(shard.sentence_offsets[1:-1].tolist())
    out = []
    for row in range(count):
        begin = 256 * row
        (a, a_end), (b, b_end), label = plain.split(boundaries, size, begin + 256, 253, draws)
        run = [*range(begin, a_end), None, *range(b, b_end), None, None]
        special = [place is None for place in run]
        begins = [place is not None and starts[place] for place in run]
        targets, order = [], []
        for first, last, goal in ((0, 256, 43), (256, 512, 42)):
            taken = plain.sample(kind, begins[first:last], special[first:last], goal, draws)
            selected = [t or s for t, s in zip(taken, special[first:last], strict=True)]
            order += plain.ranks(selected, 256, draws)
            targets += [first + i for i, t in enumerate(taken) if t]
        out.append(([0 if p is None else tokens[p] for p in run], order, targets, label, a))
    return 512 * len(out)


def instances(repeats: int) -> None:
    shard = shard_of(documents(4000, seed=1), vocab_size=VOCAB)
    for name, objective, kind in (
        ("words", PermutationObjective(), "words"),
        ("pieces, as the original", xlnet_published(), "pieces"),
    ):

        def ours(objective: PermutationObjective = objective) -> int:
            return len(objective.corrupt(shard, MARKS, seed=0, pass_number=0).tokens)

        works = {
            "ours": ours,
            "peer": lambda kind=kind: plain_rows(shard, 200, kind, NumpyDraws(0)),
            "python": lambda kind=kind: plain_rows(shard, 200, kind, plain.RandomDraws(0)),
        }
        compare("instances", works, repeats, unit="tokens of rows", spans=name)


def original_masks(order: Any, is_target: Any, is_special: Any, reuse_len: int) -> tuple[Any, Any]:
    """One row as `_local_perm` and its caller make it: part by part, then put together."""
    parts = []
    for part in (slice(0, reuse_len), slice(reuse_len, None)):
        selected = is_target[part] | is_special[part]
        own = np.where(is_target[part], order[part], order[part] + 1)
        parts.append((own[:, None] <= order[part][None, :]) & selected)
    first, second = parts
    upper = np.concatenate([first, np.ones((len(first), len(second)), bool)], 1)
    lower = np.concatenate([np.zeros((len(second), len(first)), bool), second], 1)
    query = np.concatenate([upper, lower], 0)
    return query & ~np.eye(len(query), dtype=bool), query


def masks(repeats: int) -> None:
    shard = shard_of(documents(300, seed=1), vocab_size=VOCAB)
    made = PermutationObjective().corrupt(shard, MARKS, seed=0, pass_number=0).take(np.arange(64))
    assert isinstance(made, PermutationInstances)
    is_target = np.zeros(len(made.tokens), bool)
    is_target[np.repeat(made.offsets[:-1], np.diff(made.target_offsets)) + made.target_positions] = True
    columns = [c.reshape(64, 512) for c in (made.order, is_target, (made.order >= 0) & ~is_target)]

    def ours() -> float:
        for key, asking in zip(*(c.reshape(64, 512) for c in ranks(made)), strict=True):
            with_itself(seen(asking, key))  # both masks of one row, as attention uses them
        return 64 * 2 * 512 * 512 / 1e9

    def peer() -> float:
        for row in zip(*columns, strict=True):
            original_masks(*row, 256)
        return 64 * 2 * 512 * 512 / 1e9

    def fill() -> float:
        for _ in range(2 * 64):
            np.empty((512, 512), bool).fill(True)
        return 64 * 2 * 512 * 512 / 1e9

    content, query = original_masks(*(c[5] for c in columns), 256)
    key_T, query_T = (c.reshape(64, 512)[5] for c in ranks(made))
    assert np.array_equal(~query, seen(query_T, key_T))
    assert np.array_equal(~content, seen(query_T, key_T) | np.eye(512, dtype=bool))
    large = np.ones(1 << 28, bool)

    def fill_memory() -> float:
        large.fill(True)
        return len(large) / 1e9

    works = {"ours": ours, "peer": peer, "cache": fill, "memory": fill_memory}
    compare("masks", works, repeats, unit="GB written")


def step(repeats: int, precision: str) -> None:
    import torch
    import transformers

    from tests.training.test_xlnet import padded
    from training.exchange import xlnet as exchange
    from training.models.xlnet import XLNetConfig
    from training.pretraining_batches import PermutationBatch

    torch.set_num_threads(1)
    config = XLNetConfig(vocab_size=VOCAB, hidden_size=256, num_layers=4, num_heads=4, feed_forward_size=1024)
    ours, sizes = config.network(seed=0).eval(), exchange.their_config(config)
    theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**sizes, reuse_len=256)).eval()
    theirs.load_state_dict(exchange.to_theirs(ours), strict=False)
    shard = shard_of(documents(200, seed=1), vocab_size=VOCAB)
    objective = PermutationObjective(layout=Streams(both_directions=False))
    rows = objective.corrupt(shard, MARKS, seed=0, pass_number=0).take(np.arange(1, 13, 3))
    assert isinstance(rows, PermutationInstances)
    batch, (inputs, _, _) = PermutationBatch.of(rows), padded(rows)
    mems = None
    with torch.no_grad():
        for _ in range(3):
            own, their = ours(batch), theirs(**inputs, use_mems=True, mems=mems)
            torch.testing.assert_close(own.total, their.loss, atol=1e-5, rtol=1e-5)
            batch, mems = replace(batch, carried=own.carried), their.mems
    dtype = torch.bfloat16 if precision == "bfloat16" else None

    def run(model: torch.nn.Module, loss: Callable[[], Any]) -> float:
        model.train()
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            value = loss()
        value.backward()
        return batch.num_tokens

    works = {
        "ours": lambda: run(ours, lambda: ours(batch).total),
        "peer": lambda: run(theirs, lambda: theirs(**inputs, use_mems=True, mems=mems).loss),
    }
    compare("step", works, repeats, unit="tokens of rows", rows=len(rows), precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("instances", "masks", "step"))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    if args.only in (None, "instances"):
        instances(args.repeats)
    if args.only in (None, "masks"):
        masks(args.repeats)
    if args.only in (None, "step"):
        step(args.repeats, args.precision)


if __name__ == "__main__":
    main()
