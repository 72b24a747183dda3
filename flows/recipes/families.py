"""Recipe `text` with other networks: one function per family, each with its paper's objective and vocabulary, at a size for
one machine. What it takes to choose among them is one name, or `corrupt.objective` and `pretrain.model` in a YAML file.

    family     reads                              original
    roberta    whole sentences, no pairs          Liu et al. 2019, byte-level BPE
    albert     n-grams and sentence order         Lan et al. 2020, Unigram, LAMB, no dropout
    spanbert   spans and their borders            Joshi et al. 2020, cased WordPiece
    gpt2       the next token                     Radford et al. 2019, byte-level BPE
    bart       infilling, permuted sentences      Lewis et al. 2020, byte-level BPE
    mass       a fragment of each sentence        Song et al. 2019, WordPiece
    xlnet      a sixth of the tokens, any order   Yang et al. 2019, Unigram, memory
    elmo       both neighbours                    Peters et al. 2018; its words are WordPieces here, spelt by their letters
"""

from dataclasses import replace
from typing import Any

from corpus.corrupt import CorruptConfig, Objective
from corpus.corruption.albert import AlbertObjective
from corpus.corruption.bart import BartObjective
from corpus.corruption.bilm import BidirectionalLMObjective
from corpus.corruption.causal import CausalObjective
from corpus.corruption.mass import MassObjective
from corpus.corruption.permutation import PermutationObjective, Streams
from corpus.corruption.roberta import RobertaObjective
from corpus.corruption.spanbert import SpanBertObjective
from corpus.vocabulary.byte_files import GptTokens
from corpus.vocabulary.byte_train import ByteBPEConfig
from corpus.vocabulary.unigram_train import UnigramConfig
from corpus.wordpiece.train import WordPieceConfig
from flows.recipe import Recipe, Vocabulary
from flows.recipes.text import text
from training.models.albert import AlbertConfig
from training.models.bart import BartConfig
from training.models.elmo import ElmoConfig
from training.models.family import Family
from training.models.gpt2 import Gpt2Config
from training.models.mass import MassConfig
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.models.xlnet import XLNetConfig
from training.optim import Lamb

TOKENS = 16000
SMALL: dict[str, Any] = {
    "vocab_size": TOKENS,
    "hidden_size": 512,
    "num_layers": 4,
    "num_heads": 8,
    "feed_forward_size": 2048,
    "max_seq_len": 512,
}


def text_roberta() -> Recipe:
    """RoBERTa (4 x 512): no pairs, other tokens hidden in every pass."""
    return _family(
        "roberta",
        RobertaConfig(**SMALL, pad_id=1),
        RobertaObjective(max_seq_len=128),
        ByteBPEConfig(vocab_size=TOKENS),
    )


def text_albert() -> Recipe:
    """ALBERT (one layer of 512, read four times): a tenth of the weights; n-grams and sentence order."""
    recipe = _family(
        "albert",
        AlbertConfig(**SMALL),
        AlbertObjective(max_seq_len=128, max_predictions=20),
        UnigramConfig(vocab_size=TOKENS),
    )
    train = replace(recipe.pretrain.train, optimizer=Lamb(), learning_rate=1.76e-3)
    return replace(recipe, pretrain=replace(recipe.pretrain, train=train))


def text_spanbert() -> Recipe:
    """SpanBERT (4 x 512): hidden spans, each token of which the span's borders must predict too."""
    return _family(
        "spanbert",
        SpanBertConfig(**SMALL),
        SpanBertObjective(max_seq_len=128),
        WordPieceConfig(vocab_size=TOKENS, lowercase=False),
    )


def text_gpt2() -> Recipe:
    """GPT-2 (4 x 512): the next token, left to right."""
    return _family(
        "gpt2",
        Gpt2Config(**SMALL),
        CausalObjective(max_seq_len=256),
        ByteBPEConfig(vocab_size=TOKENS, special_tokens=GptTokens()),
    )


def text_bart() -> Recipe:
    """BART (4 + 4 x 512): infilled spans and permuted sentences, the whole text is to be said."""
    return _family(
        "bart",
        BartConfig(**SMALL, num_decoder_layers=4, start_id=2),
        BartObjective(max_seq_len=128),
        ByteBPEConfig(vocab_size=TOKENS),
    )


def text_mass() -> Recipe:
    """MASS (4 + 4 x 512): half of every sentence is hidden, and only that is to be said."""
    return _family(
        "mass",
        MassConfig(**SMALL, num_decoder_layers=4),
        MassObjective(max_seq_len=128),
        WordPieceConfig(vocab_size=TOKENS),
    )


def text_xlnet() -> Recipe:
    """XLNet (4 x 512): a sixth of the tokens in any order, with a memory of the text before."""
    return _family(
        "xlnet",
        XLNetConfig(**SMALL, memory_len=96),
        PermutationObjective(max_seq_len=128, num_predict=21, perm_size=64, layout=Streams(reuse_len=64)),
        UnigramConfig(vocab_size=TOKENS),
    )


def text_elmo() -> Recipe:
    """ELMo (2 x 1,024 cells, projected to 128): both neighbours of every word, spelt letter by letter."""
    return _family(
        "elmo",
        ElmoConfig(vocab_size=TOKENS, cell_size=1024, projection_size=128, num_highway_layers=1),
        BidirectionalLMObjective(max_seq_len=128),
        WordPieceConfig(vocab_size=TOKENS),
    )


def _family(name: str, model: Family, objective: Objective, vocabulary: Vocabulary) -> Recipe:
    base = text()
    return replace(
        base,
        name=f"text-{name}",
        corpus=replace(base.corpus, vocabulary=vocabulary),
        corrupt=CorruptConfig(objective=objective, passes=4),
        pretrain=replace(base.pretrain, model=model),
    )
