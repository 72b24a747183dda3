"""Every family learns with every objective it can read: a tiny network learns a hundred real sentences by heart.

The text is documentation that lies on every Python machine. One pass of noise is prepared and learned until little is left
to be lost; what a family cannot read is refused by type (tests of recipes).
"""

import inspect
import math
import re
import textwrap
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from corpus.corruption.albert import AlbertObjective
from corpus.corruption.bart import (
    BartObjective,
    DocumentRotation,
    TokenDeletion,
    TokenMasking,
)
from corpus.corruption.bert import BertObjective
from corpus.corruption.bilm import BidirectionalLMObjective
from corpus.corruption.causal import CausalObjective
from corpus.corruption.masking import Marks
from corpus.corruption.mass import MassObjective
from corpus.corruption.permutation import Documents, PermutationObjective
from corpus.corruption.roberta import RobertaObjective
from corpus.corruption.spanbert import SpanBertObjective
from corpus.shards import TokenShard, encode_documents, write_shard
from corpus.wordpiece.count import count_words
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from training.models.albert import AlbertConfig
from training.models.bart import BartConfig
from training.models.bert import BertConfig
from training.models.elmo import ElmoConfig
from training.models.family import Family, give_words
from training.models.gpt import GptConfig
from training.models.gpt2 import Gpt2Config
from training.models.mass import MassConfig, MassTranslationConfig
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.models.xlnet import XLNetConfig
from training.pretraining_batches import CausalBatch, batch_of

SENTENCES = 100
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_size": 128,
    "max_seq_len": 64,
}
STILL: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0}
QUIET: dict[str, Any] = {**SHAPE, **STILL, "num_layers": 1, "activation_dropout": 0.0}
BART_NOISES: dict[str, dict[str, Any]] = {
    "published": {},
    "masking": {"permute": None, "infill": None, "mask": TokenMasking()},
    "deletion": {"permute": None, "infill": None, "delete": TokenDeletion()},
    "rotation": {"permute": None, "infill": None, "rotate": DocumentRotation(share=1.0)},
}


def real_documents() -> list[str]:
    """A hundred sentences of the standard library's documentation, five to a document."""
    import argparse
    import collections
    import logging

    found: list[str] = []
    for module in (argparse, collections, logging, textwrap, re):
        for _, thing in inspect.getmembers(module):
            text = " ".join((inspect.getdoc(thing) or "").split())
            found += re.findall(r"[A-Z][a-z ,]{25,80}\.", text)
    sentences = list(dict.fromkeys(found))[:SENTENCES]
    assert len(sentences) == SENTENCES
    return [" ".join(sentences[i : i + 5]) for i in range(0, SENTENCES, 5)]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    words = count_words(pa.array(real_documents(), pa.large_string()), lowercase=True)["word"].to_pylist()
    return Encoder([*SPECIAL_TOKENS, *words])


@pytest.fixture(scope="module")
def shard(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> TokenShard:
    texts = real_documents()
    ids = pa.array([blake2b(t.encode(), digest_size=16).digest() for t in texts], pa.binary(16))
    path: Path = tmp_path_factory.mktemp("text") / "shard.arrow"
    write_shard(path, encode_documents(encoder, ids, pa.array(texts, pa.large_string())))
    return TokenShard.open(path)


def shape(config: type, **more: Any) -> Any:
    """A config of the family, tiny; the vocabulary's size comes later."""
    return lambda encoder: config(vocab_size=encoder.vocab_size, **{**SHAPE, **STILL, **more})


def bart(encoder: Encoder) -> Family:
    return BartConfig(vocab_size=encoder.vocab_size, start_id=encoder.sep_id, num_decoder_layers=1, **QUIET)


def mass(encoder: Encoder) -> Family:
    return MassConfig(vocab_size=encoder.vocab_size, num_decoder_layers=1, **QUIET)


def mass_translation(encoder: Encoder) -> Family:
    return MassTranslationConfig(
        vocab_size=encoder.vocab_size, mask_id=encoder.mask_id, num_decoder_layers=1, **QUIET
    )


def elmo(encoder: Encoder) -> Family:
    return ElmoConfig(
        vocab_size=encoder.vocab_size,
        cell_size=64,
        projection_size=64,
        filters=((1, 16), (2, 16), (3, 32)),
        num_candidates=None,
        dropout=0.0,
        max_seq_len=64,
    )


PAIRS: Sequence[tuple[str, Any, Any]] = (
    ("bert", shape(BertConfig), BertObjective(max_seq_len=64)),
    ("bert-words", shape(BertConfig), BertObjective(max_seq_len=64, whole_word=True, next_sentence=False)),
    ("roberta", shape(RobertaConfig), RobertaObjective(max_seq_len=64)),
    ("albert", shape(AlbertConfig, embedding_size=32), AlbertObjective(max_seq_len=64, max_predictions=10)),
    ("spanbert", shape(SpanBertConfig), SpanBertObjective(max_seq_len=64)),
    ("gpt", shape(GptConfig, embedding_dropout=0.0), CausalObjective(max_seq_len=64)),
    ("gpt2", shape(Gpt2Config, embedding_dropout=0.0), CausalObjective(max_seq_len=64)),
    *((f"bart-{name}", bart, BartObjective(max_seq_len=64, **noise)) for name, noise in BART_NOISES.items()),
    ("mass", mass, MassObjective(max_seq_len=64)),
    ("mass-translation", mass_translation, MassObjective(max_seq_len=64)),
    (
        "xlnet",
        shape(XLNetConfig, memory_len=32),
        PermutationObjective(max_seq_len=64, num_predict=10, perm_size=32, layout=Documents()),
    ),
    ("elmo", elmo, BidirectionalLMObjective(max_seq_len=64)),
)


def unforeseeable(network: torch.nn.Module, batch: Any) -> float:
    """Nats a prediction that no model saves where text is read from its beginning: which of the rows it is.

    All rows differ, so that the tokens of a row together cost log(rows), in each direction.
    """
    if not isinstance(batch, CausalBatch):
        return 0.0
    return sum(len(batch) * math.log(len(batch)) / count for count in network.predictions(batch).values())


@pytest.mark.parametrize(
    ("config", "objective"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS]
)
def test_a_tiny_network_learns_a_hundred_sentences_by_heart(config, objective, encoder, shard):
    marks = Marks.of(encoder, mask=objective.uses_mask)
    instances = objective.corrupt(shard, marks, seed=0, pass_number=0)
    assert objective.makes is config(encoder).reads is type(instances)
    network = config(encoder).network(seed=0)
    give_words(network, encoder.vocabulary)
    batch = batch_of(instances.take(np.arange(len(instances))))
    steps, rate = (140, 2e-2) if isinstance(batch, CausalBatch) and len(batch) == SENTENCES else (90, 1e-2)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / steps)
        result = network(batch)
        optimizer.zero_grad(set_to_none=True)
        result.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(result.total.detach()))
    counts = network.predictions(batch)
    assert set(counts) == set(result.parts)
    assert min(counts.values()) > 0
    assert losses[-1] - unforeseeable(network, batch) < 0.06 * losses[0]
