"""`cloze replay RUN STEP` and `cloze ledger RUN`: what a pretraining read, again.

Nothing about batches is stored: which samples a step read, and their noise, is arithmetic in what the manifest holds.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.artifacts import Artifact


def replay(args: Namespace) -> int:
    """Print a step's samples: where each is from, its noise, and the trained network's loss at every target."""
    from corpus.vocabulary.open import encoder_of
    from flows.preview_terminal import print_instance, terminal
    from training.replay import losses_of
    from training.replay import replay as read_again

    artifact = _pretraining(args)
    found = read_again(artifact, args.step)
    vocabulary = encoder_of(artifact.inputs["vocabulary"]).vocabulary
    losses = None if args.without_losses else iter(losses_of(artifact, found.instances))
    console = terminal()
    total = len(found.instances)
    shown = total if args.samples is None else min(args.samples, total)
    for row in range(shown):
        title = (
            f"sample {found.first_sample + row}  document {found.document_ids[row]}  {found.languages[row]}"
        )
        print_instance(console, found.instances, row, vocabulary, title=title, losses=losses)
    if shown < total:
        console.print(f"{total - shown} more samples in step {args.step}; --samples {total} shows all")
    console.print("a document's file and line: cloze corpus where DOCUMENT", style="dim")
    return 0


def ledger(args: Namespace) -> int:
    """Print what a run read of every language, stretch by stretch."""
    from flows.corpus_terminal import table, terminal
    from training.pretrain import LEDGER

    rows: list[dict[str, Any]] = _pretraining(args).read_json(LEDGER)
    names = sorted({name for row in rows for name in row["read_before"]})
    lines = []
    for row in rows:
        block = sum(row["per_block"].values())
        lines.append(
            [f"{row['begin']:,} to {row['end']:,}", block]
            + [value for n in names for value in (row["per_block"].get(n, 0), row["read_before"][n])]
        )
    columns = ["block", *(text for n in names for text in (f"{n} a block", f"{n} before"))]
    terminal().print(table("samples", columns, lines))
    return 0


def _pretraining(args: Namespace) -> Artifact:
    from flows import run as runs
    from flows.settings import Settings
    from flows.show import locate

    return locate(runs.open_store(Settings(store=args.store)), args.run)
