"""The sum of what is at a place, which place it is, and which text it belongs to (BERT, figure 2)."""

from torch import Tensor, nn

from training.batches import TokenBatch
from training.models.layers.dropout import drop


class Embeddings(nn.Module):
    """Token + position + segment, then LayerNorm and dropout: `TokenBatch -> x_TD`.

    A sequence begins at `first_position` of the table. With one segment, every token is of it.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        max_seq_len: int,
        num_segments: int,
        layer_norm_eps: float,
        dropout: float,
        first_position: int = 0,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.position = nn.Embedding(first_position + max_seq_len, hidden_size)
        self.segment = nn.Embedding(num_segments, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = dropout
        self.first_position = first_position

    def forward(self, batch: TokenBatch) -> Tensor:
        room = self.position.num_embeddings - self.first_position
        if batch.max_seq_len > room:
            raise ValueError(
                f"a sequence of {batch.max_seq_len} tokens: this model holds at most {room}; "
                "cut the text or use a model with a larger max_seq_len"
            )
        several = self.segment.num_embeddings > 1
        segment_TD: Tensor = self.segment(batch.segments_T) if several else self.segment.weight
        x_TD: Tensor = (
            self.token(batch.tokens_T) + segment_TD + self.position(batch.positions_T + self.first_position)
        )
        return drop(self.norm(x_TD), self.dropout if self.training else 0.0)
