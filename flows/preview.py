"""`cloze preview OBJECTIVE TEXT`: what a model would read of a text, and what it would have to predict.

The objective is prepared by the very code that prepares a corpus, on a shard made of the text. With a vocabulary from the
store its tokens are the real ones; without one every word of the text is a token, which is enough to see the noise.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from corpus.corruption.objective import AnyObjective
    from corpus.shards import TokenShard
    from corpus.vocabulary.columns import Encoder


FAMILIES = {
    "gpt": "causal",
    "gpt2": "causal",
    "elmo": "bidirectionallm",
    "xlnet": "permutation",
}  # by whose they are


def objectives() -> dict[str, type[Any]]:
    """The objectives by what people type: BertObjective is `bert`."""
    from corpus.corrupt import Objective

    classes = get_args(Objective) or (Objective,)
    return {cls.__name__.removesuffix("Objective").lower(): cls for cls in classes}


def preview(args: Namespace) -> int:
    """Print `--samples` instances, with the draws of seed `--seed`, pass by pass."""
    from corpus.corruption.masking import Marks
    from flows.overrides import change, nested, parse_settings
    from flows.preview_terminal import print_instance, terminal

    objective = change(chosen(args.objective), nested(parse_settings(args.set)))
    documents = read_documents(args.text)
    encoder = encoder_for(args, documents)
    marks = Marks.of(encoder, mask=objective.uses_mask)
    console = terminal()
    console.print(f"{objective}", style="dim")
    with tempfile.TemporaryDirectory(prefix="cloze-preview-") as folder:
        shard = shard_of(encoder, documents, Path(folder))
        shown = 0
        for number in range(args.samples):
            instances = objective.corrupt(shard, marks, seed=args.seed, pass_number=number)
            for row in range(min(len(instances), args.samples - shown)):
                print_instance(
                    console, instances, row, encoder.vocabulary, title=f"pass {number}, instance {row}"
                )
                shown += 1
            if shown >= args.samples:
                break
        if not shown:
            raise ValueError(
                f"{type(objective).__name__} makes no instance of this text ({len(shard.tokens_T)} tokens); give more text"
            )
    return 0


def chosen(name: str) -> AnyObjective:
    """The objective of a recipe, or one with its defaults. Raises ValueError with the nearest name."""
    from corpus.corruption.permutation import Documents, PermutationObjective

    made: AnyObjective
    known = objectives()
    name = FAMILIES.get(name, name)
    if (
        name == "permutation"
    ):  # its published rows, which go on in each other, are longer than what one looks at
        return PermutationObjective(max_seq_len=64, num_predict=10, perm_size=64, layout=Documents())
    if name in known:
        made = known[name]()
        return made
    import difflib

    from flows.recipes import recipe, recipes

    if name in recipes() or name.endswith((".yaml", ".yml")):
        from flows.commands import load

        made = (load(name, []) if "." in name else recipe(name)).corrupt.objective
        return made
    near = difflib.get_close_matches(name, [*known, *recipes()], n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "or the name of a recipe"
    raise ValueError(f"no objective {name!r}; there are {', '.join(known)}; {hint}")


def read_documents(text: str) -> list[str]:
    """TEXT, the file of that name, or standard input for "-"; an empty line separates documents."""
    if text == "-":
        text = sys.stdin.read()
    elif len(text) < 4096 and Path(text).is_file():
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    documents = [part.strip() for part in text.split("\n\n") if part.strip()]
    if not documents:
        raise ValueError("the text is empty; give a sentence, a file, or - for standard input")
    return documents


def encoder_for(args: Namespace, documents: list[str]) -> Encoder:
    """The encoder of `--vocabulary`, or one that has every word of the documents."""
    if args.vocabulary:
        from corpus.vocabulary.open import encoder_of
        from flows import run as runs
        from flows.settings import Settings
        from flows.show import locate

        return encoder_of(locate(runs.open_store(Settings(store=args.store)), args.vocabulary))
    import pyarrow as pa

    from corpus.wordpiece.count import count_words
    from corpus.wordpiece.encode import Encoder as WordPiece
    from corpus.wordpiece.files import SPECIAL_TOKENS

    words = count_words(pa.array(documents, pa.large_string()), lowercase=False)["word"].to_pylist()
    return WordPiece([*SPECIAL_TOKENS, *words], lowercase=False)


def shard_of(encoder: Encoder, documents: list[str], folder: Path) -> TokenShard:
    """The documents as a shard in `folder`, made as a corpus' shards are made."""
    import pyarrow as pa

    from corpus.shards import TokenShard, encode_documents, write_shard

    ids = [blake2b(text.encode(), digest_size=16).digest() for text in documents]
    batch = encode_documents(encoder, pa.array(ids, pa.binary(16)), pa.array(documents, pa.large_string()))
    write_shard(folder / "shard.arrow", batch)
    return TokenShard.open(folder / "shard.arrow")
