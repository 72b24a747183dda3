"""ELMo (Peters et al. 2018, arXiv:1802.05365, section 3): a language model in both directions over words made
of characters.

    words      characters -> convolutions, highway layers, projection           shared by both directions
    forward    <S> the cat sat     ->  the cat sat </S>     two LSTM layers     of its own
    backward   </S> sat cat the    ->  sat cat the <S>      two LSTM layers     of its own
    softmax    over a vocabulary of words, a sample of it in training           shared by both directions

Follows allenai/bilm-tf: ReLU after the maximum, cell and projection clipped at 3, the second layer's input
added to its output, dropout on what each layer reads and on what the softmax reads; first weights as there.
What differs:
- The loss is the sum of the two directions' means (the paper's objective); the code takes half of it times
  the unrolled steps, a factor that Adagrad nearly cancels.
- Backpropagation runs over whole rows, not over 20 words; rows are what the objective makes (a sentence each,
  corpus/corruption/bilm.py).
- A distinct word of a batch goes through its characters once. Nothing is dropped before the LSTMs, so nothing
  changes.

The state of both directions is carried to the same rows of the next batch (`Losses.carried`), so batches must
come in order. A row of n tokens has n - 1 predictions in each direction; neither direction reads the token
that it predicts last, so a cut text continues with that token, the next row's first.

The characters of the vocabulary's words are no weights: whoever builds a network gives it the words
(`read_words`).

Letters: `B` sequences, `T` tokens of all of them, `M` predictions of one direction, `K` = 2 directions, `L`
characters of a word, `U` distinct words, `D` size of one direction's output, `V` vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from corpus.instance_kinds import CausalInstances
from corpus.vocabulary.characters import (
    ELMO_BEGIN_SENTENCE,
    ELMO_END_SENTENCE,
    ELMO_VOCAB_SIZE,
    ELMO_WORD_LENGTH,
    elmo_characters,
    elmo_sentence_mark,
)
from training.batches import TokenBatch
from training.losses import Losses
from training.models.initialize import generator_for
from training.models.layers.character_cnn import CharacterCNN, Filters
from training.models.layers.dropout import drop
from training.models.layers.highway import Highway
from training.models.layers.projected_lstm import Packed, ProjectedLSTM, State, pack
from training.models.layers.sampled_softmax import SampledSoftmax
from training.pretraining_batches import CausalBatch

FILTERS: Filters = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
MARKS = {
    "[CLS]": ELMO_BEGIN_SENTENCE,
    "<S>": ELMO_BEGIN_SENTENCE,
    "[SEP]": ELMO_END_SENTENCE,
    "</S>": ELMO_END_SENTENCE,
}
PARTS = ("forward_lm", "backward_lm")


@dataclass(frozen=True, kw_only=True)
class ElmoConfig:
    """The shape of an ELMo; sizes are counts. `max_seq_len` bounds a row's tokens: its steps all stay in
    memory.
    """

    reads: ClassVar = CausalInstances

    vocab_size: int
    cell_size: int
    projection_size: int
    num_layers: int = 2
    num_highway_layers: int = 2
    character_embedding_size: int = 16
    filters: Filters = FILTERS
    num_candidates: int | None = 8192  # of the sampled softmax; None: training sees the whole vocabulary
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0
    dropout: float = 0.1
    max_seq_len: int = 512

    def __post_init__(self) -> None:
        # from JSON they come as lists
        object.__setattr__(self, "filters", tuple((width, count) for width, count in self.filters))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise ValueError(f"{field.name} {value}: it is a count; give 1 or more")
            if field.name.endswith("clip") and value is not None and value <= 0:
                raise ValueError(f"{field.name} {value}: it must be positive; use None not to clip")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: it is a probability; give a value from 0 to below 1")
        if not self.filters or not all(1 <= w <= ELMO_WORD_LENGTH and n >= 1 for w, n in self.filters):
            raise ValueError(
                f"filters {self.filters}: give (width, count) pairs of 1 or more, e.g. (3, 64); "
                f"a word has {ELMO_WORD_LENGTH} characters"
            )
        if self.num_candidates is not None and not 2 <= self.num_candidates < self.vocab_size:
            raise ValueError(
                f"num_candidates {self.num_candidates}: a sample of {self.vocab_size} words has from 2 to "
                f"{self.vocab_size - 1}; use None for the whole vocabulary"
            )

    @property
    def hidden_size(self) -> int:
        """What a task reads of a word: both directions."""
        return 2 * self.projection_size

    def network(self, *, seed: int | None = 0) -> "ElmoForPretraining":
        """What is pretrained, without the words (`read_words`); with seed None its weights are left on the
        meta device.
        """
        return ElmoForPretraining(self, seed=seed)


def small(vocab_size: int = 793_471, num_candidates: int | None = 8192) -> ElmoConfig:
    """13.6 million weights without the softmax; the vocabulary is that of the One Billion Word Benchmark."""
    return _published(vocab_size, num_candidates, 1024, 128, 1)


def medium(vocab_size: int = 793_471, num_candidates: int | None = 8192) -> ElmoConfig:
    """28.0 million weights without the softmax."""
    return _published(vocab_size, num_candidates, 2048, 256, 1)


def original(vocab_size: int = 793_471, num_candidates: int | None = 8192) -> ElmoConfig:
    """93.6 million weights without the softmax."""
    return _published(vocab_size, num_candidates, 4096, 512, 2)


def _published(
    vocab_size: int, num_candidates: int | None, cells: int, size: int, highway_layers: int
) -> ElmoConfig:
    return ElmoConfig(
        vocab_size=vocab_size,
        num_candidates=num_candidates,
        cell_size=cells,
        projection_size=size,
        num_highway_layers=highway_layers,
    )


class Elmo(nn.Module):
    """The network without softmax."""

    characters_VL: Tensor | None  # int16

    def __init__(self, config: ElmoConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("characters_VL", None, persistent=False)
        with torch.device("meta"):
            self.words = CharacterCNN(
                num_characters=ELMO_VOCAB_SIZE,
                embedding_size=config.character_embedding_size,
                filters=config.filters,
                num_highway_layers=config.num_highway_layers,
                projection_size=config.projection_size,
            )
            self.layers = nn.ModuleList(
                ProjectedLSTM(
                    input_size=config.projection_size,
                    cell_size=config.cell_size,
                    projection_size=config.projection_size,
                    cell_clip=config.cell_clip,
                    projection_clip=config.projection_clip,
                )
                for _ in range(config.num_layers)
            )
        if seed is not None:
            first_weights(self, seed=seed)

    def read_words(self, words: Sequence[str]) -> None:
        """Learn how the vocabulary's words are spelt. Raises ValueError if they are not `vocab_size` many."""
        if len(words) != self.config.vocab_size:
            raise ValueError(
                f"{len(words)} words for a model with vocab_size {self.config.vocab_size}; "
                "give the words of its vocabulary"
            )
        rows_VL = elmo_characters(words)
        for number, word in enumerate(words):
            if word in MARKS:
                rows_VL[number] = elmo_sentence_mark(MARKS[word])
        device = next(self.parameters()).device
        self.characters_VL = torch.from_numpy(rows_VL).to(device)

    def spell(self, tokens_T: Tensor) -> tuple[Tensor, Tensor]:
        """`x_UD` of the distinct words, and (T,) which of them each token is."""
        if self.characters_VL is None:
            raise ValueError("this ELMo has not seen the words of its vocabulary; call read_words first")
        words_U, which_T = torch.unique(tokens_T, return_inverse=True)
        return self.words(self.characters_VL[words_U].long()), which_T

    def read(
        self, x_KTD: Tensor, packed: Packed, carried: Sequence[Tensor] = ()
    ) -> Iterator[tuple[Tensor, State]]:
        """For each layer its output, packed, and the state after each row; `carried` are those of the rows
        before.
        """
        if carried and len(carried[0]) != len(packed.row_B):
            raise ValueError(
                f"states of {len(carried[0])} rows for a batch of {len(packed.row_B)}; "
                "ELMo reads on in the same rows, so every batch has as many"
            )
        dropout = self.config.dropout if self.training else 0.0
        for number, layer in enumerate(self.layers):
            read_KTD = drop(x_KTD, dropout)
            state = (carried[2 * number], carried[2 * number + 1]) if carried else None
            x_KTD, after = layer(read_KTD, packed, state)
            if number:
                x_KTD = x_KTD + read_KTD
            yield x_KTD, after

    def states(self, batch: TokenBatch) -> Iterator[Tensor]:
        """The words, then the output of each layer: `num_layers + 1` tensors `T,2D`, left to right beside
        right to left.

        Every row begins with state zero. These are what `ScalarMix` weighs.
        """
        words_UD, which_T = self.spell(batch.tokens_T)
        x_TD = words_UD[which_T]
        yield torch.cat([x_TD, x_TD], -1)
        packed = pack(batch.cu_seqlens)
        left, right = packed.index_KT
        for x_KTD, _ in self.read(x_TD[packed.index_KT], packed):
            out_KTD = torch.empty_like(x_KTD)
            yield torch.cat(
                [out_KTD[0].index_copy(0, left, x_KTD[0]), out_KTD[1].index_copy(0, right, x_KTD[1])], -1
            )

    def forward(self, batch: TokenBatch) -> Tensor:
        """The last layer's output, `T,2D`."""
        for state in self.states(batch):
            x_TD = state
        return x_TD


class ElmoForPretraining(nn.Module):
    """Both language models: `CausalBatch -> Losses`."""

    reads_in_order = True

    def __init__(self, config: ElmoConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.elmo = Elmo(config, seed=None)
        with torch.device("meta"):
            self.softmax = SampledSoftmax(
                hidden_size=config.projection_size,
                vocab_size=config.vocab_size,
                num_candidates=config.num_candidates,
            )
        if seed is not None:
            first_weights(self, seed=seed)

    def read_words(self, words: Sequence[str]) -> None:
        """See `Elmo.read_words`."""
        self.elmo.read_words(words)

    def predictions(self, batch: CausalBatch) -> dict[str, int]:
        """How many predictions each part of the loss is a mean over."""
        return dict.fromkeys(PARTS, batch.num_tokens - len(batch))

    def forward(self, batch: CausalBatch) -> Losses:
        tokens_T = batch.tokens.tokens_T
        packed = pack(batch.tokens.cu_seqlens, unread=1)
        words_UD, which_T = self.elmo.spell(tokens_T)
        layers = list(self.elmo.read(words_UD[which_T[packed.index_KT]], packed, batch.carried))
        x_KMD = drop(layers[-1][0], self.config.dropout if self.training else 0.0)
        onward_K1 = torch.tensor([[1], [-1]], device=tokens_T.device)
        found = self.softmax.losses(x_KMD, tokens_T[packed.index_KT + onward_K1])
        parts = {part: loss for part, (loss, _) in zip(PARTS, found, strict=True)}
        count = tokens_T.new_tensor(batch.num_tokens - len(batch))
        counts = {f"{part}_correct": correct for part, (_, correct) in zip(PARTS, found, strict=True)}
        counts |= {f"{part}_count": count for part in PARTS}
        carried = tuple(part for _, after in layers for part in after)
        return Losses(
            total=torch.stack(list(parts.values())).sum(), parts=parts, counts=counts, carried=carried
        )


def first_weights(model: nn.Module, *, seed: int) -> None:
    """As bilm-tf draws them, each a function of the seed and its name (training/models/initialize.py)."""
    model.to_empty(device="cpu")
    for path, module in model.named_modules():
        if isinstance(module, CharacterCNN | Highway | ProjectedLSTM | SampledSoftmax):
            module.first_weights(partial(_generator, seed, path))


def _generator(seed: int, path: str, name: str) -> torch.Generator:
    return generator_for(seed, f"{path}.{name}")
