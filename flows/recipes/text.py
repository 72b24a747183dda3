"""Your own text: files below a folder -> a BERT language model in production. Copy the YAML of `cloze recipes text`."""

from dataclasses import replace

from corpus.corrupt import CorruptConfig
from corpus.corruption.bert import BertObjective
from corpus.ingest import IngestConfig
from corpus.sources.text_files import TextFiles
from corpus.wordpiece.train import WordPieceConfig
from flows.recipe import CorpusRecipe, Recipe
from infra import hardware
from training.loop import TrainConfig
from training.models.bert import small
from training.pretrain import PretrainConfig


def text() -> Recipe:
    """BERT (4 x 512) on the .txt, .jsonl and .parquet files below ./text; a language model, no fine-tuning task."""
    return Recipe(
        name="text",
        corpus=CorpusRecipe(
            ingest=IngestConfig(sources=(TextFiles(folder="text"),)),
            vocabulary=WordPieceConfig(vocab_size=16000),
        ),
        corrupt=CorruptConfig(objective=BertObjective(max_seq_len=128), passes=4),
        pretrain=PretrainConfig(
            model=replace(small(16000), max_seq_len=512),
            train=TrainConfig(
                steps=20_000,
                batch_size=64,
                learning_rate=5e-4,
                warmup_steps=1000,
                precision=hardware.precision(),
                checkpoint_every_steps=250,
            ),
        ),
    )
