"""What every objective is: a frozen config that turns a token shard into instances.

To add one: a file here with such a dataclass, and its name in the union of corpus/corrupt.py. The result must be a pure
function of (seed, pass, document, shard): the same bits for all documents together or some of them, ahead or on the fly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corpus.corruption.masking import Marks
from corpus.instances import InstanceShard
from corpus.ragged import Ints

if TYPE_CHECKING:
    from corpus.shards import TokenShard


class AnyObjective(Protocol):
    """An objective."""

    @property
    def makes(self) -> type[InstanceShard]:
        """The kind of instances (a class variable); a model that `reads` another kind cannot be trained on them."""
        ...

    @property
    def uses_mask(self) -> bool:
        """Whether the vocabulary must have a mask token (a class variable)."""
        ...

    @property
    def max_seq_len(self) -> int:
        """Tokens of the longest sequence it makes, special tokens included."""
        ...

    def corrupt(
        self, shard: TokenShard, marks: Marks, *, seed: int, pass_number: int, documents: Ints | None = None
    ) -> InstanceShard:
        """The instances of a shard's documents, or of only some `documents` (indices): the same bits either way."""
        ...
