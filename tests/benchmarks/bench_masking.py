"""Every masked-LM objective beside its peers, in one run: one JSON line per figure, `ratio` is ours / peer.

    python tests/benchmarks/bench_masking.py [--repeats 7] [--only masking|pairs|spans]

Masking: transformers' DataCollatorForLanguageModeling (torch and numpy, whole words), fed 32 rows a call as
Python lists, which is what `datasets` yields; ours (BERT's noise and RoBERTa's) on the same rows as flat
uint16 columns, as a shard holds them: a whole shard at once (how `corrupt` runs), and 32 rows a call (a
collator's place). At least 20 times. Pairs: the classic create_pretraining_data loop
(tests/corpus/reference_bert.py) on lists of tokens, ours on token columns, both up to arrays that hold the
instances. Spans: ALBERT's pairs and n-grams and SpanBERT's rows and spans, beside loops in the manner of the
originals (masking_peers.py). At least 50 times. Every figure is tokens of the rows per CPU-second of one
thread; ours and the peer alternate, medians are compared.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from corpus.corruption.albert import AlbertObjective
from corpus.corruption.bert import BertObjective
from corpus.corruption.layout import RowRanges
from corpus.corruption.masking import Marks, Targets, hide
from corpus.corruption.replacement import OrdinaryToken, Replacement
from corpus.corruption.roberta import hide_evenly
from corpus.corruption.rows import BLOCK_TOKENS, Rows
from corpus.corruption.spanbert import SpanBertObjective
from corpus.instance_kinds import NO_PAIR
from corpus.stream import Stream
from tests.benchmarks import masking_peers
from tests.corpus import reference_bert as plain
from tests.corpus.in_memory import MemoryShard, documents, shard_of

VOCAB_SIZE = 30_000
MARKS = Marks(vocab_size=VOCAB_SIZE, cls_id=2, sep_id=3, mask_id=4)
ROWS_A_CALL = 32


def compare(
    figure: str,
    ours: Callable[[Any], int],
    peer: Callable[[Any], int],
    repeats: int,
    fresh: Callable[[], Any] = lambda: None,
    **conditions: Any,
) -> None:
    """Run both in turn on what `fresh` makes, untimed; each returns how many tokens it did."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for repeat in range(repeats + 1):
        for name, work in (("ours", ours), ("peer", peer)):
            given = fresh()
            began = time.process_time()
            done = work(given)
            if repeat:  # the first round warms up
                rates[name].append(done / (time.process_time() - began))
    mine, theirs = (statistics.median(rates[name]) for name in ("ours", "peer"))
    line = {
        "bench": "masking",
        "figure": figure,
        "unit": "tokens/CPU-s",
        "ours": round(mine),
        "peer": round(theirs),
        "ratio": round(mine / theirs, 1),
        "ours_range": [round(min(rates["ours"])), round(max(rates["ours"]))],
        "peer_range": [round(min(rates["peer"])), round(max(rates["peer"]))],
        "repeats": repeats,
        "load1": round(os.getloadavg()[0], 1),
        **conditions,
    }
    print(json.dumps(line), flush=True)


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*specials, *(f"w{i}" for i in range(5, VOCAB_SIZE))])}
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    model = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=model, **dict(zip(names, specials, strict=True)))


def masking(repeats: int, seq: int, most: int, whole_word: bool, tensors: str) -> None:
    import torch
    from transformers import DataCollatorForLanguageModeling

    torch.set_num_threads(1)
    calls = 6400 // seq
    count = calls * ROWS_A_CALL
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, VOCAB_SIZE, (count, seq)).astype(np.uint16)
    tokens[:, 0], tokens[:, -1] = MARKS.cls_id, MARKS.sep_id
    begins = rng.random((count, seq)) < 0.8
    collator = DataCollatorForLanguageModeling(
        make_tokenizer(), whole_word_mask=whole_word, return_tensors=tensors
    )
    rows = [{"input_ids": row.tolist(), "special_tokens_mask": [1, *[0] * (seq - 2), 1]} for row in tokens]
    if whole_word:  # pieces of a word touch, words are a space apart
        ends = np.cumsum(3 + begins, axis=1)
        for row, end in zip(rows, ends.tolist(), strict=True):
            row["offset_mapping"] = [[0, 0], *([e - 3, e] for e in end[1:-1]), [0, 0]]

    def fresh() -> list[list[dict[str, Any]]]:
        """The collators write into what they are given."""
        return [[dict(row) for row in rows[i : i + ROWS_A_CALL]] for i in range(0, count, ROWS_A_CALL)]

    def peer(batches: list[list[dict[str, Any]]]) -> int:
        for batch in batches:
            collator(batch)
        return tokens.size

    shard: Any = MemoryShard(
        tokens_T=tokens.reshape(-1),
        word_start_T=begins.reshape(-1),
        document_offsets=None,
        sentence_offsets=None,
        document_sentences=None,
        document_ids=None,
    )
    places = RowRanges(
        start_K=np.arange(count) * seq + 1,
        length_K=np.full(count, seq - 2),
        ranges_B=np.ones(count, np.int64),
        pair_label_B=np.full(count, NO_PAIR),
        document_B=np.arange(count),
        chunk_B=np.zeros(count, np.int64),
    )
    stream = Stream.of(0, "bench", 0, np.arange(count, dtype=np.uint64))
    roberta = Replacement(other=OrdinaryToken(), together=True)
    noises: dict[str, Callable[[Rows], Targets]] = {
        "BERT": partial(hide, share=0.15, most=most, whole_word=whole_word, replacement=Replacement()),
        "RoBERTa": partial(
            hide_evenly, share=0.15, whole_word=whole_word, mask_special=False, replacement=roberta
        ),
    }

    def ours(noise: Callable[[Rows], Targets], rows_a_call: int, _: Any) -> int:
        read = tokens.reshape(-1).copy()
        for i in range(0, count, rows_a_call):
            j = min(i + rows_a_call, count)
            noise(
                Rows(
                    tokens_T=read[i * seq : j * seq],
                    ranges=places.at(i, j),
                    stream=stream.at(slice(i, j)),
                    shard=shard,
                    marks=MARKS,
                )
            )
        return tokens.size

    kind = "whole words" if whole_word else "tokens"
    for name, noise in noises.items():
        for how, rows_a_call in (
            ("a shard at once", BLOCK_TOKENS // seq),
            (f"{ROWS_A_CALL} rows a call", ROWS_A_CALL),
        ):
            compare(
                f"mask {kind} ({name}), length {seq}, {how}, beside DataCollatorForLanguageModeling({tensors})",
                partial(ours, noise, rows_a_call),
                peer,
                repeats,
                fresh,
                rows=count,
            )


Loop = Callable[[masking_peers.Texts, dict[int, bool], Any, int], int]


def bert_loop(texts: masking_peers.Texts, begins: dict[int, bool], objective: Any, vocab_size: int) -> int:
    """The classic loop; returns the tokens of all rows."""
    return sum(one[0] for one in plain.create_instances(texts, begins, objective, vocab_size))


def documents_to_instances(repeats: int, figure: str, objective: Any, loop: Loop) -> None:
    """From token columns, and from lists of tokens, to arrays of instances."""
    lengths = documents(600, seed=1)
    shard, large = (shard_of(part, vocab_size=VOCAB_SIZE) for part in (lengths, documents(20_000, seed=1)))
    tokens, bounds = shard.tokens_T.tolist(), shard.sentence_offsets.tolist()
    begins = dict(enumerate(shard.word_start_T.tolist()))
    sentences = [list(enumerate(tokens[a:b], a)) for a, b in pairwise(bounds)]
    ends = shard.document_sentences.tolist()
    texts = [sentences[a:b] for a, b in pairwise(ends)]

    def peer(_: Any) -> int:
        return loop(texts, begins, objective, VOCAB_SIZE)

    def ours(_: Any) -> int:
        return len(objective.corrupt(large, MARKS, seed=0, pass_number=0).tokens)

    compare(
        f"{figure}, length {objective.max_seq_len}, beside a loop in the manner of the original",
        ours,
        peer,
        repeats,
        documents=[len(large.document_ids), len(texts)],
        mean_sentence_tokens=22,
        mean_document_sentences=12,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=["masking", "pairs", "spans"])
    arguments = parser.parse_args()
    repeats, only = arguments.repeats, arguments.only
    warnings.filterwarnings("ignore")
    lengths = ((128, 20), (512, 77))
    if only in (None, "masking"):
        for seq, most in lengths:
            for whole_word, tensors in ((False, "np"), (False, "pt"), (True, "pt")):
                masking(repeats, seq, most, whole_word, tensors)
    if only in (None, "pairs"):
        for seq, most in lengths:
            for whole_word in (False, True):
                objective = BertObjective(max_seq_len=seq, max_predictions=most, whole_word=whole_word)
                kind = "whole words" if whole_word else "tokens"
                documents_to_instances(repeats, f"BERT's pairs and masks ({kind})", objective, bert_loop)
    if only in (None, "spans"):
        for seq, most in lengths:
            albert = AlbertObjective(max_seq_len=seq, max_predictions=most, cross_segments=True)
            documents_to_instances(repeats, "ALBERT's pairs and n-grams", albert, masking_peers.albert)
            spanbert = SpanBertObjective(max_seq_len=seq)
            documents_to_instances(repeats, "SpanBERT's rows and spans", spanbert, masking_peers.spanbert)


if __name__ == "__main__":
    main()
