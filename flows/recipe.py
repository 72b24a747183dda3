"""What a whole run is made of: one frozen config per station. Checked together here, each by itself where it is used."""

from dataclasses import dataclass, field

from corpus.corrupt import CorruptConfig
from corpus.deduplicate import DeduplicateConfig
from corpus.examples import ExamplesConfig, SplitConfig
from corpus.ingest import IngestConfig
from corpus.shards import ShardConfig
from corpus.wordpiece.train import WordPieceConfig
from training.finetune import FinetuneConfig
from training.pretrain import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """Sources to token shards. `hold_out` says which files are kept away from pretraining, for honest measurement."""

    ingest: IngestConfig
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    hold_out: SplitConfig = field(default_factory=SplitConfig)
    vocabulary: WordPieceConfig = field(default_factory=WordPieceConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)


@dataclass(frozen=True, kw_only=True)
class TaskRecipe:
    """A fine-tuning task made from the corpus itself, and the budget of its runs."""

    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    finetune: FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete run. Its models are registered as NAME-language-model and NAME-classifier.

    `task` None stops after the language model. `floor` is the least score that may go to production; without it a model
    must be at least as good as the one there.
    """

    name: str
    corpus: CorpusRecipe
    corrupt: CorruptConfig
    pretrain: PretrainConfig
    task: TaskRecipe | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        size, wanted = self.pretrain.model.vocab_size, self.corpus.vocabulary.vocab_size
        if size != wanted:
            raise ValueError(
                f"pretrain.model.vocab_size is {size} but corpus.vocabulary.vocab_size is {wanted}; make them equal"
            )
        longest, held = self.corrupt.objective.max_seq_len, self.pretrain.model.max_seq_len
        if longest > held:
            raise ValueError(
                f"corrupt.objective.max_seq_len is {longest} but the model holds {held} positions; "
                "lower it or raise pretrain.model.max_seq_len"
            )
        if self.task is not None and self.task.finetune.task.max_seq_len > held:
            raise ValueError(
                f"task.finetune.task.max_seq_len is {self.task.finetune.task.max_seq_len} but the model holds {held} "
                "positions; lower it or raise pretrain.model.max_seq_len"
            )

    @property
    def language_model(self) -> str:
        return f"{self.name}-language-model"

    @property
    def classifier(self) -> str:
        return f"{self.name}-classifier"
