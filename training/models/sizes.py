"""What every config of a network is held to, one sentence for each mistake."""

from dataclasses import fields
from typing import Any


def check_sizes(config: Any) -> None:
    """Counts of 1 or more, token ids of 0 or more, dropouts from 0 to below 1, all other numbers positive.

    Raises ValueError naming the first field of the dataclass that is not.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type in (bool, "bool"):
            continue
        if field.name.endswith("_id"):
            if value < 0:
                raise ValueError(f"{field.name} {value}: it is a token id; give 0 or more")
        elif field.type in (int, "int"):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field.name} {value}: it is a count; give 1 or more")
        elif field.name.endswith("dropout"):
            if not 0 <= value < 1:
                raise ValueError(f"{field.name} {value}: it is a probability; give a value from 0 to below 1")
        elif value <= 0:
            raise ValueError(f"{field.name} {value}: it must be positive; published is {field.default}")


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Raises ValueError unless the heads can share the hidden size."""
    if hidden_size % num_heads:
        raise ValueError(
            f"hidden_size {hidden_size} with num_heads {num_heads}: heads share it equally; "
            f"choose a hidden_size that is a multiple of {num_heads}"
        )
