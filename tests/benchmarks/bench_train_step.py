"""A masked-LM training step beside transformers' BertForMaskedLM (eager), in one run: one JSON line per
figure, `ratio` is ours / peer.

    python tests/benchmarks/bench_train_step.py [--sizes mini,small] [--precisions float32,bfloat16]
        [--shapes pairs,lines,fixed] [--rounds 7] [--threads 1] [--matmul highest] [--text PATH]

A step is forward, backward, clipping to norm 1, AdamW and a linear warm-up. Both models start from the same
weights (their losses are compared first), have dropout .1 everywhere, read the same batches of 32 sequences
in turn, bfloat16 is autocast on both sides, and everything else (threads, OMP settings, matmul precision) is
the process's. Ours gets the flat stream, the peer what its collator would make: rows padded to the longest.
The peer's optimizer is torch's AdamW as it comes, ours the fused one that cloze trains with.

    pairs   what BERT reads: pairs of segments of up to 128 tokens, shorter at the ends of documents
    lines   one paragraph of documentation a row, at most 128 tokens
    fixed   the pairs of exactly 128 tokens: nothing to pad

Rates are tokens of the text (padding not counted) per CPU-second of the process and per second, medians of
paired rounds.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads would count as work
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import torch
import transformers
from torch import nn

from corpus.corruption.bert import BertObjective
from corpus.corruption.masking import Marks
from corpus.instance_kinds import MaskedInstances
from corpus.shards import TokenShard, encode_documents, write_shard
from corpus.wordpiece.count import count_words
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.train import WordPieceConfig, learn_vocabulary
from tests.benchmarks.bench_tokenize import take, texts_of
from training.exchange.bert import their_config, their_names
from training.models import bert
from training.optim import adamw
from training.pretraining_batches import MaskedBatch

ROWS, LENGTH, WARMUP_STEPS, LEARNING_RATE = 32, 128, 100, 1e-4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def instances_of(encoder: Encoder, texts: list[str], *, next_sentence: bool) -> MaskedInstances:
    """The instances our own pipeline makes of the texts."""
    column = pa.array(texts, pa.large_string())
    ids = pa.array([blake2b(text.encode(), digest_size=16).digest() for text in texts], pa.binary(16))
    marks = Marks.of(encoder, mask=True)
    objective = BertObjective(max_seq_len=LENGTH, next_sentence=next_sentence)
    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder) / "shard.arrow", encode_documents(encoder, ids, column))
        return objective.corrupt(TokenShard.open(Path(folder) / "shard.arrow"), marks, seed=0, pass_number=0)


def batches_of(encoder: Encoder, texts: list[str], shape: str, count: int) -> list[MaskedBatch]:
    """`count` batches of 32 instances in random order; only their masked tokens are predicted."""
    if shape == "lines":
        texts = list({line for text in texts for line in text.split("\n") if line})
    shard = instances_of(encoder, sorted(texts), next_sentence=shape != "lines")
    lengths = shard.lengths()
    usable = np.flatnonzero((lengths == LENGTH) | (shape != "fixed"))
    order = np.random.default_rng(0).permutation(usable)
    if len(order) < count * ROWS:
        raise SystemExit(
            f"the text gives {len(order)} instances; {count * ROWS} are needed: "
            "give more text or fewer --rounds"
        )
    chosen = order[: count * ROWS].reshape(count, ROWS)
    return [replace(MaskedBatch.of(shard.take(rows)), pair_label_B=None) for rows in chosen]


def padded(batch: MaskedBatch) -> dict[str, torch.Tensor]:
    """What the collator would hand to transformers."""
    tokens = batch.tokens
    real_BL = torch.arange(tokens.max_seq_len) < tokens.cu_seqlens.diff()[:, None]
    labels_T = torch.full_like(tokens.tokens_T, -100).index_copy(
        0, batch.target_index_M, batch.target_tokens_M
    )
    return {
        "input_ids": torch.zeros(real_BL.shape, dtype=torch.int64).masked_scatter(real_BL, tokens.tokens_T),
        "labels": torch.full(real_BL.shape, -100).masked_scatter(real_BL, labels_T),
        "token_type_ids": torch.zeros(real_BL.shape, dtype=torch.int64).masked_scatter(
            real_BL, tokens.segments_T
        ),
        "attention_mask": real_BL.long(),
    }


def models(size: str, vocab_size: int) -> tuple[nn.Module, nn.Module]:
    """Ours and the peer, with the same weights."""
    config = getattr(bert, size)(vocab_size)
    ours = bert.BertForPretraining(config)
    peer = transformers.BertForMaskedLM(transformers.BertConfig(**their_config(config)))
    own = peer.state_dict()
    weights = {}
    for name, tensor in ours.state_dict().items():
        names = their_names(name)
        weights |= dict(zip(names, tensor.detach().chunk(len(names)), strict=True))
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
    peer.load_state_dict({name: weights[name] for name in own})
    return ours, peer


def stepper(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Any], torch.Tensor],
    dtype: torch.dtype,
) -> Callable[[Any], float]:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))

    def step(batch: Any) -> float:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(
    size: str, precision: str, shape: str, batches: list[MaskedBatch], given: Any, vocab_size: int
) -> None:
    dtype = DTYPES[precision]
    ours, peer = models(size, vocab_size)
    with torch.no_grad():
        first = ours.eval()(batches[0]).total.item(), peer.eval()(**padded(batches[0])).loss.item()
    assert abs(first[0] - first[1]) < 1e-4, f"not the same model: losses {first}"
    our_optimizer = adamw(ours, learning_rate=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-6)
    peer_optimizer = torch.optim.AdamW(peer.parameters(), lr=LEARNING_RATE, weight_decay=0.01, eps=1e-6)
    our_step = stepper(ours.train(), our_optimizer, lambda batch: ours(batch).total, dtype)
    peer_step = stepper(peer.train(), peer_optimizer, lambda batch: peer(**batch).loss, dtype)
    pairs, tokens, filled = [], [], []
    for number, batch in enumerate(batches):
        rows = padded(batch)
        pair = seconds(lambda batch=batch: our_step(batch)), seconds(lambda rows=rows: peer_step(rows))
        if number:  # the first warms up
            pairs.append(pair)
            tokens.append(len(batch.tokens.tokens_T))
            filled.append(tokens[-1] / rows["input_ids"].numel())
    for clock, metric in enumerate(("tokens_per_cpu_s", "tokens_per_s")):
        ratios = [theirs[clock] / mine[clock] for mine, theirs in pairs]
        rates = [[n / pair[side][clock] for n, pair in zip(tokens, pairs, strict=True)] for side in (0, 1)]
        line = {
            "bench": "train_step",
            "figure": f"{size} {shape} {precision}",
            "peer": "transformers BertForMaskedLM, eager",
            "metric": metric,
            "value": round(statistics.median(rates[0])),
            "peer_value": round(statistics.median(rates[1])),
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
            "n": len(ratios),
            "filled": round(statistics.mean(filled), 2),  # share of the peer's padded batch that is text
            "vocab_size": vocab_size,
            "threads": torch.get_num_threads(),
            "matmul": given.matmul,
            "losses": [round(loss, 5) for loss in first],
            "load1": round(os.getloadavg()[0], 1),
            "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=names, default=["mini", "small"])
    parser.add_argument("--precisions", type=names, default=["float32", "bfloat16"])
    parser.add_argument("--shapes", type=names, default=["pairs", "lines", "fixed"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--matmul", choices=["highest", "high", "medium"], default="highest")
    parser.add_argument("--vocab-size", type=int, default=30_000)
    parser.add_argument("--text", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision(given.matmul)

    texts = take(texts_of(given.text), 4.0)
    encoder = Encoder(
        learn_vocabulary(count_words(pa.array(texts, pa.large_string()), True), WordPieceConfig())
    )
    for shape in given.shapes:
        batches = batches_of(encoder, texts, shape, given.rounds + 1)
        for size in given.sizes:
            for precision in given.precisions:
                compare(size, precision, shape, batches, given, given.vocab_size)


if __name__ == "__main__":
    main()
