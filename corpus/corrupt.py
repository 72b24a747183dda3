"""Token shards -> instances, prepared ahead: the step that runs an objective over every shard, as often as
asked.

One partition is one pass over one shard. The objective is a pure function of (seed, pass, document, shard),
so partitions can run anywhere in any order, and the same instances can be made on the fly instead.
"""

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from corpus.corruption.albert import AlbertObjective
from corpus.corruption.bart import BartObjective
from corpus.corruption.bert import BertObjective
from corpus.corruption.bilm import BidirectionalLMObjective
from corpus.corruption.causal import CausalObjective
from corpus.corruption.masking import Marks
from corpus.corruption.mass import MassObjective
from corpus.corruption.permutation import PermutationObjective
from corpus.corruption.roberta import RobertaObjective
from corpus.corruption.spanbert import SpanBertObjective
from corpus.document import ID_BYTES
from corpus.generations import retired_ids
from corpus.shards import TokenShard
from corpus.vocabulary.open import encoder_of
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

# What they have in common is corruption/objective.py.
Objective = (
    BertObjective
    | RobertaObjective
    | AlbertObjective
    | SpanBertObjective
    | BartObjective
    | MassObjective
    | CausalObjective
    | BidirectionalLMObjective
    | PermutationObjective
)


@dataclass(frozen=True, kw_only=True)
class CorruptConfig:
    """`passes` is how often each document is read, every time with other draws (BERT's dupe_factor is 10)."""

    objective: Objective = field(default_factory=BertObjective)
    passes: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= 1000:
            raise ValueError(f"CorruptConfig.passes is {self.passes}; it must be 1 to 1000, e.g. 10")


def corrupt(
    config: CorruptConfig,
    *,
    shards: Artifact,
    vocabulary: Artifact,
    generation: Artifact | None = None,
    out: Output,
) -> Counts:
    """Write one file of instances per (shard, pass); read it with corpus.instances.Instances.

    The documents that `generation` (corpus/generations.py) retires are left out.

    Counts: documents, and of these empty_documents (they give no instance), one_token_documents and
    one_sentence_documents (their B is always random), counted once; over all passes instances, tokens, and what
    the kind of instances counts besides. Raises ValueError if the vocabulary is not that of the shards, or has no mask where
    one is needed.
    """
    encoder = encoder_of(vocabulary)
    marks = Marks.of(encoder, mask=config.objective.uses_mask)
    names = [name for name in shards.names() if name.endswith(".arrow")]
    items = {f"{PurePosixPath(n).stem}-{p:03d}": (n, p) for n in names for p in range(config.passes)}
    shared = {
        "config": config,
        "shards": shards,
        "marks": marks,
        "tokenizer_digest": encoder.digest,
        "generation": generation,
    }
    return total(out.map(corrupt_partition, items, **shared))


def corrupt_partition(
    item: tuple[str, int],
    *,
    out: PartitionOutput,
    config: CorruptConfig,
    shards: Artifact,
    marks: Marks,
    tokenizer_digest: str,
    generation: Artifact | None,
) -> Counts:
    """One pass over one shard."""
    name, pass_number = item
    shard = TokenShard.open(shards.path(name), tokenizer_digest)
    kept = np.arange(len(shard))
    if generation is not None:
        ids = np.ascontiguousarray(shard.document_ids).view(f"V{ID_BYTES}").ravel()
        stays = ~np.isin(ids.astype(object), list(retired_ids(generation).astype(object)))
        kept, shard = kept[stays], shard.keep(stays)
    instances = config.objective.corrupt(shard, marks, seed=config.seed, pass_number=pass_number)
    instances = replace(instances, document=kept[instances.document].astype(np.int32))
    with out.writer(f"{out.id}.arrow") as path:
        instances.write(path)
    sentences, tokens = np.diff(shard.document_sentences), np.diff(shard.document_offsets)
    once = int(pass_number == 0)
    return {
        "documents": len(sentences) * once,
        "empty_documents": int((sentences == 0).sum()) * once,
        "one_token_documents": int((tokens == 1).sum()) * once,
        "one_sentence_documents": int((sentences == 1).sum()) * once,
        "instances": len(instances),
        **instances.counts(),
    }
