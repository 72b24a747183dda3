"""The tokenizer of a Hugging Face folder for one text at a time, which is what a server reads.

The encoders of this package give the same ids but are made for millions of texts at once: one sentence takes 0.05 ms here
and 39 ms there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from corpus.wordpiece.files import CONFIG_FILE, TOKENIZER_FILE

NAMES: Final = ("pad", "unk", "cls", "sep", "mask")


@dataclass(frozen=True, kw_only=True)
class Special:
    """A token that no text is spelled with. Where it is written in a text it may take the blanks beside it along."""

    text: str
    id: int
    takes_left: bool = False
    takes_right: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class OneText:
    """`tokenizers`' own object, to which literal special tokens are text, and what those tokens are.

    `named` are those of NAMES that the folder has; `special` the ids of all.
    """

    library: Tokenizer
    named: dict[str, Special]
    special: frozenset[int]


def one_text_of(folder: Path) -> OneText:
    """Raises ValueError if a file is missing or no tokenizer's."""
    described, named = _read(folder / TOKENIZER_FILE), _read(folder / CONFIG_FILE)
    try:
        library = Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / TOKENIZER_FILE} is no tokenizer ({reason}); export it again") from None
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    added = {token["content"]: token for token in described.get("added_tokens", ())}
    found = {}
    for name in NAMES:
        given = named.get(f"{name}_token")
        text = given["content"] if isinstance(given, dict) else given
        if text is None or (token_id := library.token_to_id(text)) is None:
            continue
        about = added.get(text, {})
        found[name] = Special(
            text=text,
            id=token_id,
            takes_left=bool(about.get("lstrip")),
            takes_right=bool(about.get("rstrip")),
        )
    special = {token["id"] for token in added.values() if token["special"]}
    return OneText(
        library=library, named=found, special=frozenset(special | {one.id for one in found.values()})
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}; export the model again") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); export the model again") from None
    return content
