"""Finished artifacts that training steps read, made from drawn tokens."""

from dataclasses import dataclass

from corpus.corruption.bert import BertObjective
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from tests.corpus.in_memory import MARKS, documents, shard_of


@dataclass(frozen=True, kw_only=True)
class PreparedConfig:
    objective: BertObjective
    documents: int = 60


def prepare_instances(config: PreparedConfig, *, out: Output) -> Counts:
    made = 0
    for pass_number in range(2):
        shard = shard_of(documents(config.documents, seed=1))
        instances = config.objective.corrupt(shard, MARKS, seed=0, pass_number=pass_number)
        with out.writer(f"a-{pass_number}.arrow") as path:
            instances.write(path)
        made += len(instances)
    return {"instances": made}


def prepare_vocabulary(config: None, *, out: Output) -> Counts:
    words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(MARKS.vocab_size - len(SPECIAL_TOKENS)))]
    for name, content in vocabulary_files(words, lowercase=True).items():
        out.write(name, content)
    return {}


def instances(store: Folder, **objective: object) -> Artifact:
    config = PreparedConfig(objective=BertObjective(**{"max_seq_len": 48, "max_predictions": 8, **objective}))
    return run_step(prepare_instances, config, store=store)


def vocabulary(store: Folder) -> Artifact:
    return run_step(prepare_vocabulary, None, store=store)
