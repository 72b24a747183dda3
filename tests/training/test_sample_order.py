"""Which instance a sample is: languages by weight, exact, and a pure function of the sample's number."""

import numpy as np
import pyarrow as pa
import pytest

from corpus.corrupt import CorruptConfig, corrupt
from corpus.corruption.bert import BertObjective
from corpus.instances import Instances
from corpus.mixture import Leave, MixtureConfig, Stage
from corpus.shards import encode_documents, write_shard
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS, vocabulary_files
from infra.artifacts import Artifact, Counts
from infra.materialize import run_step
from infra.output import Output
from infra.storage import Folder
from training.sample_order import Shuffled, SmoothedLanguages, index_of, languages_of, ledger_of

DOCUMENTS = {"en": 64, "de": 16, "sw": 4}


def make_vocabulary(config: None, *, out: Output) -> Counts:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    for name, content in vocabulary_files(
        [*SPECIAL_TOKENS, *letters, *(f"##{c}" for c in letters)], True
    ).items():
        out.write(name, content)
    return {}


def make_shards(config: None, *, vocabulary: Artifact, out: Output) -> Counts:
    rng = np.random.default_rng(0)
    encoder = Encoder.from_artifact(vocabulary)
    languages = rng.permutation([name for name, count in DOCUMENTS.items() for _ in range(count)])
    for name, part in (("p0", languages[:50]), ("p1", languages[50:])):
        ids = pa.array([rng.bytes(16) for _ in part], pa.binary(16))
        texts = pa.array([f"hello {name} {n}" for n in range(len(part))], pa.large_string())
        with out.writer(f"{name}.arrow") as path:
            write_shard(path, encode_documents(encoder, ids, texts, pa.array(part, pa.string())))
    return {}


@pytest.fixture
def instances(store: Folder) -> tuple[Artifact, ...]:
    vocabulary = run_step(make_vocabulary, None, store=store)
    shards = run_step(make_shards, None, store=store, vocabulary=vocabulary)
    config = CorruptConfig(objective=BertObjective(max_seq_len=32, next_sentence=False), passes=1)
    return (run_step(corrupt, config, store=store, shards=shards, vocabulary=vocabulary),)


def test_every_instance_knows_the_language_of_its_document(instances):
    names, counts = np.unique(languages_of(instances), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == DOCUMENTS


@pytest.mark.parametrize(("exponent", "shares"), [(0.5, (8, 4, 2)), (0.0, (1, 1, 1)), (1.0, (64, 16, 4))])
def test_languages_are_smoothed_by_the_exponent(instances, exponent, shares):
    order = SmoothedLanguages(exponent=exponent, block=84)
    index = index_of(order, instances, Instances(*instances), seed=0, samples=840)
    language = languages_of(instances)[index(range(840))]
    expected = np.array(shares) / sum(shares)
    for name, share in zip(("en", "de", "sw"), expected, strict=True):
        for block in range(10):
            got = np.count_nonzero(language[84 * block : 84 * block + 84] == name)
            assert abs(got - 84 * share) < 1


def test_a_sample_depends_on_its_number_alone(instances):
    for order in (Shuffled(), SmoothedLanguages(block=20)):
        index = index_of(order, instances, Instances(*instances), seed=3, samples=500)
        whole = index(range(500))
        assert np.array_equal(index(range(123, 321)), whole[123:321])
        other = index_of(order, instances, Instances(*instances), seed=4, samples=500)
        assert not np.array_equal(other(range(500)), whole)


def test_each_language_is_read_whole_before_it_is_read_again(instances):
    index = index_of(
        SmoothedLanguages(exponent=0.0, block=3), instances, Instances(*instances), seed=0, samples=300
    )
    found = index(range(300))
    language = languages_of(instances)
    for name, count in DOCUMENTS.items():
        mine = found[language[found] == name]
        assert len(set(mine[:count])) == min(count, len(mine))


def test_the_ledger_says_what_was_read(instances):
    order = MixtureConfig(
        stages=(
            Stage(weights=(("en", 3.0), ("de", 1.0))),
            Stage(begin=40, weights=(("en", 1.0), ("sw", 1.0))),
        ),
        block=8,
    )
    rows = ledger_of(order, instances, 0, 80)
    assert [(row["begin"], row["end"]) for row in rows] == [(0, 40), (40, 80)]
    assert rows[0]["per_block"] == {"en": 6, "de": 2}
    assert rows[1]["read_before"] == {"en": 30, "de": 10, "sw": 0}
    found = index_of(order, instances, Instances(*instances), seed=0, samples=80)(range(40))
    assert np.count_nonzero(languages_of(instances)[found] == "en") == 30


def test_a_mixture_that_cannot_be_read_is_refused(instances):
    stage = Stage(weights=(("fr", 1.0),))
    with pytest.raises(ValueError, match="'fr', which is none of"):
        index_of(MixtureConfig(stages=(stage,), block=8), instances, Instances(*instances), seed=0, samples=8)
    short = MixtureConfig(stages=(Stage(weights=(("sw", 1.0),)),), block=2, at_end=Leave())
    with pytest.raises(ValueError, match=r"ends after 4 samples and 400 are to be read"):
        index_of(short, instances, Instances(*instances), seed=0, samples=400)
    with pytest.raises(ValueError, match="exponent is 2"):
        SmoothedLanguages(exponent=2)
