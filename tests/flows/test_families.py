"""One recipe line chooses a family: corpus, objective, training, held-out scores, export, replay, all from one config."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpus.ingest import IngestConfig
from corpus.select import SelectConfig
from corpus.sources.text_files import TextFiles
from corpus.split import SplitConfig
from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import BYTE_ALPHABET, RobertaTokens
from flows import cli
from flows import run as runs
from flows.pretrain import Pretrained, pretrain
from flows.recipe import Recipe
from flows.recipes import recipe, recipes
from flows.settings import Settings
from infra.report import SILENT, Report
from tests.training.test_learning import real_documents
from training import launch
from training.models.family import require_vocabulary

TINY: dict[str, dict[str, Any]] = {
    "text-elmo": {
        "cell_size": 16,
        "projection_size": 8,
        "filters": ((1, 8), (2, 8)),
        "max_seq_len": 256,
        "num_candidates": 50,
    },
    "text-albert": {"embedding_size": 16},
    "text-bart": {"num_decoder_layers": 1},
    "text-mass": {"num_decoder_layers": 1},
    "text-xlnet": {"memory_len": 16},
}
SHAPE = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "feed_forward_size": 64, "max_seq_len": 256}
TOKENS = 400


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.step._as_task", lambda name, title, work: work())


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training process takes ten seconds to start, twice a family; tests/training/test_launch.py starts real ones."""

    def call(function: Any, *arguments: Any, report: Report = SILENT, **where: Any) -> Any:
        return function(*arguments, report=report)

    monkeypatch.setattr(launch, "run", call)


def tiny(name: str, text: Path) -> Recipe:
    """The shipped recipe, with small numbers."""
    whole = recipe(name)
    shape = TINY[name] if name == "text-elmo" else {**SHAPE, **TINY.get(name, {})}
    model: Any = replace(whole.pretrain.model, vocab_size=TOKENS, **shape)
    train = replace(whole.pretrain.train, steps=6, batch_size=4, warmup_steps=1, checkpoint_every_steps=3)
    vocabulary: Any = replace(whole.corpus.vocabulary, vocab_size=TOKENS)
    return replace(
        whole,
        corpus=replace(
            whole.corpus,
            ingest=IngestConfig(sources=(TextFiles(folder=str(text), separator="\n\n"),)),
            select=SelectConfig(min_bytes=20),
            vocabulary=vocabulary,
            hold_out=SplitConfig(dev_share=0.1, test_share=0.1),
        ),
        corrupt=replace(whole.corrupt, passes=1),
        pretrain=replace(whole.pretrain, model=model, train=train),
    )


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith("text")])
def test_a_family_goes_from_text_to_a_measured_model(name, tmp_path, capsys):
    (tmp_path / "text").mkdir()
    # what a document says is its own: nothing here is a near duplicate
    body = "\n\n".join(
        f"{text} {n} " + " ".join(f"word{n}x{k}" for k in range(40))
        for n, text in enumerate(real_documents() * 3)
    )
    (tmp_path / "text" / "a.txt").write_text(body)
    settings = Settings(home=tmp_path / "home", store=str(tmp_path / "store"))
    config = tiny(name, tmp_path / "text")
    with runs.using(runs.new_run(settings, "test")):
        made: Pretrained = pretrain(config)
    scores = made.scores.read_json("scores.json")
    assert scores["perplexity"] > 1
    assert json.loads(made.weights.read("ledger.json"))
    if made.exported is not None:
        assert "model.safetensors" in made.exported.names()
        assert "config.json" in made.exported.names()
    else:
        assert name in ("text-mass", "text-elmo")
    capsys.readouterr()
    asked = ["replay", made.weights.address, "3", "--store", settings.store, "--samples", "2"]
    assert cli.main([*asked, "--without-losses"] if name == "text-elmo" else asked) == 0
    out = capsys.readouterr().out
    assert "sample 12  document" in out
    assert "predicted" in out
    says = cli.main(
        ["generate", made.weights.address, "word1x2", "--store", settings.store, "--new-tokens", "3"]
    )
    assert says == (0 if name in ("text-gpt2", "text-bart") else 2)


def test_an_objective_that_the_network_cannot_read_is_refused_by_type():
    bert, bart = recipe("text"), recipe("text-bart")
    with pytest.raises(
        ValueError,
        match=r"BertObjective, which makes MaskedInstances.*BartConfig, which reads Seq2SeqInstances",
    ):
        replace(bart, corrupt=bert.corrupt)


def test_a_network_that_does_not_suit_the_vocabulary_is_refused_with_the_number():
    model: Any = replace(recipe("text-bart").pretrain.model, vocab_size=261)
    vocabulary = ByteBPEEncoder([*RobertaTokens().names, *BYTE_ALPHABET], [])
    require_vocabulary(model, vocabulary)
    wrong: Any = replace(model, start_id=7)
    with pytest.raises(
        ValueError, match=r"model.start_id 7: with this vocabulary it is 2; set pretrain.model.start_id=2"
    ):
        require_vocabulary(wrong, vocabulary)
