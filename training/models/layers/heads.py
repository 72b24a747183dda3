"""What is put on top of an encoder: the vocabulary head and the sentence head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layers.cross_entropy import vocabulary_cross_entropy
from training.models.layers.encoder import Activation
from training.models.layers.shapes import with_filler


class MaskedLMHead(nn.Module):
    """BERT's `cls/predictions`: dense, GELU, LayerNorm, then the token embedding transposed plus a bias of
    its own. Where the embeddings are factorised, the dense layer leads to their size (ALBERT).

    The embedding matrix is an argument, not a member: it has one name in a checkpoint and one gradient.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        vocab_size: int,
        layer_norm_eps: float,
        embedding_size: int | None = None,  # of the matrix given to `forward`; None: the hidden size
        activation: Activation = F.gelu,
    ) -> None:
        super().__init__()
        self.transform = nn.Linear(hidden_size, embedding_size or hidden_size)
        self.norm = nn.LayerNorm(embedding_size or hidden_size, eps=layer_norm_eps)
        self.activation = activation
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x_MD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Scores of the whole vocabulary, `M,V`."""
        return F.linear(self._transformed(x_MD), embedding_VD, self.bias)

    def loss(self, x_MD: Tensor, embedding_VD: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (float32) and the number of targets that score highest, without keeping the
        scores.
        """
        x_MD = self._transformed(with_filler(x_MD))
        return vocabulary_cross_entropy(x_MD, embedding_VD, self.bias, target_M)

    def _transformed(self, x_MD: Tensor) -> Tensor:
        return self.norm(self.activation(self.transform(x_MD)))


class Pooler(nn.Module):
    """The first token of each sequence through a dense layer and tanh: `x_TD, cu_seqlens -> B,D`."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_TD: Tensor, cu_seqlens: Tensor) -> Tensor:
        return torch.tanh(self.dense(x_TD[cu_seqlens[:-1].long()]))
