"""Words from their characters (Kim et al. 2016, arXiv:1508.06615, as Peters et al. 2018 size it).

    characters -> embeddings -> convolutions of several widths -> each filter's maximum over the word, ReLU
               -> highway layers -> projection

A word is a row of 50 character ids (corpus/vocabulary/characters.py): begin, at most 48 bytes, end, padding.
Padding is convolved like any character, so it may be what is strongest; but windows that lie wholly in it are
all alike, and one of them is enough. Words are therefore taken in groups of similar length, and their rows
cut behind the first such window: the same numbers and gradients in a fourth of the time (300 words of up to
10 bytes, forward and backward: 121 CPU-ms instead of 491). A network asks for each distinct word of a batch
once.

Letters: `U` words, `L` characters of each, `D` width of what comes out.
"""

from collections.abc import Callable
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from corpus.vocabulary.characters import ELMO_PADDING
from training.models.layers.highway import Highway

Filters = tuple[tuple[int, int], ...]  # (width in characters, how many)

GROUPS = (8, 12, 16, 24)  # characters of the longest word in each group but the last, begin and end included


class CharacterCNN(nn.Module):
    """`characters_UL -> x_UD`."""

    def __init__(
        self,
        *,
        num_characters: int,
        embedding_size: int,
        filters: Filters,
        num_highway_layers: int,
        projection_size: int,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, embedding_size)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_size, count, width) for width, count in filters)
        size = sum(count for _, count in filters)
        self.highway = nn.Sequential(*(Highway(size) for _ in range(num_highway_layers)))
        self.projection = nn.Linear(size, projection_size)
        self.widest = max(width for width, _ in filters)

    def first_weights(self, generator: Callable[[str], torch.Generator]) -> None:
        """Uniform embeddings in +-1 and filters in +-.05, normal projection with deviation 1 / sqrt(filters),
        biases 0.
        """
        nn.init.uniform_(self.embedding.weight, -1, 1, generator=generator("embedding"))
        for number, convolution in enumerate(self.convolutions):
            assert isinstance(convolution, nn.Conv1d)
            assert convolution.bias is not None
            nn.init.uniform_(convolution.weight, -0.05, 0.05, generator=generator(f"convolution {number}"))
            nn.init.zeros_(convolution.bias)
        std = self.projection.in_features**-0.5
        nn.init.normal_(self.projection.weight, std=std, generator=generator("projection"))
        nn.init.zeros_(self.projection.bias)

    def forward(self, characters_UL: Tensor) -> Tensor:
        lengths_U = (characters_UL != ELMO_PADDING).sum(1)
        edges = torch.tensor(GROUPS, device=lengths_U.device)
        group_U, order_U = torch.bucketize(lengths_U, edges).sort(stable=True)
        counts = torch.bincount(group_U, minlength=len(GROUPS) + 1).tolist()
        characters_UL = characters_UL[order_U]
        whole = characters_UL.shape[1]
        found = [
            self.strongest(characters_UL[begin:end, : min(whole, longest + self.widest)])
            for (begin, end), longest in zip(
                pairwise(accumulate(counts, initial=0)), (*GROUPS, whole), strict=True
            )
            if end > begin
        ]
        sorted_UD = self.projection(self.highway(torch.cat(found)))
        return torch.empty_like(sorted_UD).index_copy(0, order_U, sorted_UD)

    def strongest(self, characters_UL: Tensor) -> Tensor:
        """Each filter's maximum over the characters given, rectified, filters in their order."""
        x_UEL = self.embedding(characters_UL).transpose(1, 2)
        return torch.cat([convolution(x_UEL).max(2).values for convolution in self.convolutions], 1).relu()
