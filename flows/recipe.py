"""What a whole run is made of: one frozen config per station. Checked together here, each by itself where it is used."""

from dataclasses import dataclass, field

from corpus.annotate import AnnotateConfig
from corpus.corrupt import CorruptConfig
from corpus.decontaminate import EvaluationSets
from corpus.deduplicate import DeduplicateConfig
from corpus.examples import ExamplesConfig
from corpus.ingest import IngestConfig
from corpus.select import SelectConfig
from corpus.shards import ShardConfig
from corpus.split import SplitConfig
from corpus.vocabulary.byte_train import ByteBPEConfig
from corpus.vocabulary.characters import CharactersConfig
from corpus.vocabulary.drift import DriftConfig
from corpus.vocabulary.imported import ImportedVocabulary
from corpus.vocabulary.sequences import KmersConfig, LettersConfig
from corpus.vocabulary.unigram_train import UnigramConfig
from corpus.wordpiece.train import WordPieceConfig
from training.finetune import FinetuneConfig
from training.pretrain import PretrainConfig

Vocabulary = (
    WordPieceConfig
    | ByteBPEConfig
    | UnigramConfig
    | CharactersConfig
    | KmersConfig
    | LettersConfig
    | ImportedVocabulary
)


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """Sources to token shards. `hold_out` says what is kept away from pretraining, for honest measurement.

    `evaluations` names test sets whose text must not occur in the corpus. `retire_vanished`: documents whose files are
    gone are not trained on any more; without it they stay, and a refresh reports them.
    """

    ingest: IngestConfig
    annotate: AnnotateConfig = field(default_factory=AnnotateConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    evaluations: EvaluationSets | None = None
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    retire_vanished: bool = False
    hold_out: SplitConfig = field(default_factory=SplitConfig)
    vocabulary: Vocabulary = field(default_factory=WordPieceConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)


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
        objective, model = self.corrupt.objective, self.pretrain.model
        if objective.makes is not model.reads:
            raise ValueError(
                f"corrupt.objective is a {type(objective).__name__}, which makes {objective.makes.__name__}, but pretrain.model "
                f"is a {type(model).__name__}, which reads {model.reads.__name__}; choose two that fit"
            )
        if self.task is not None and type(self.task.finetune.model) is not type(model):
            raise ValueError(
                f"task.finetune.model is a {type(self.task.finetune.model).__name__} but pretrain.model is a "
                f"{type(model).__name__}; fine-tune the network that is pretrained, or set task=null"
            )
        size, vocabulary = self.pretrain.model.vocab_size, self.corpus.vocabulary
        if isinstance(vocabulary, WordPieceConfig) and size != vocabulary.vocab_size:
            raise ValueError(
                f"pretrain.model.vocab_size is {size} but corpus.vocabulary.vocab_size is {vocabulary.vocab_size}; "
                "make them equal"
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
