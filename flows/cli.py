"""`cloze ...`: one command per thing a person wants. This file only parses; heavy imports happen inside the command.

`cloze --help` answers in about a tenth of a second because nothing but the standard library is imported until then.
"""

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from flows.corpus_commands import add_corpus_commands

INTRO = """From raw text to a served language model, as restartable steps.

  cloze run quickstart             the whole pipeline on the documentation this machine already has
  cloze run quickstart --dry-run   what would run, and why
  cloze up                         the Prefect UI, schedules and retries at http://127.0.0.1:4200

A command that was interrupted, killed or unplugged is simply given again: finished work is kept.
"""

RUN_EPILOG = """examples:
  cloze run quickstart
  cloze run quickstart --set pretrain.train.steps=2000 --set pretrain.train.learning_rate=3e-4
  cloze run my-recipe.yaml --store s3://bucket/prefix

A YAML file names a recipe and the fields it changes:
  recipe: quickstart
  pretrain: {train: {steps: 2000}}
"""

PREVIEW_EPILOG = """examples:
  cloze preview bert "The cat sat on the mat. It purred." --set masked_share=0.4
  cloze preview quickstart notes.txt --samples 2 --vocabulary train_wordpiece/3f2a
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line. Each sub-command names the function `module:function` that carries it out."""
    top = argparse.ArgumentParser(
        prog="cloze", description=INTRO, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, target: str, help: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(target=target)
        sub.add_argument(
            "--store",
            default="",
            metavar="URL",
            help="a folder or s3://bucket/prefix (default $CLOZE_STORE or .cloze/store)",
        )
        return sub

    def add_chain(name: str, help: str) -> None:
        sub = add(name, f"commands:{name}", help, RUN_EPILOG if name == "run" else "")
        sub.add_argument(
            "recipe", metavar="RECIPE|FILE.yaml", help="a name from `cloze recipes`, or a YAML file"
        )
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="a.b=c",
            help="change one field of the recipe (repeatable)",
        )
        sub.add_argument("--dry-run", action="store_true", help="say what would run and why, and stop")
        sub.add_argument(
            "--adopt",
            action="append",
            default=[],
            metavar="STEP/DIGEST",
            help="take an existing result of STEP as the one this run needs",
        )
        sub.add_argument(
            "--workers", type=int, metavar="N", help="training processes; more than 1 trains on Ray workers"
        )
        sub.add_argument("--ray", metavar="ADDRESS", help="use this Ray cluster instead of a local one")

    add("recipes", "show:recipes", "list the named runs; with a name, print its whole config").add_argument(
        "name", nargs="?"
    )
    add_chain("run", "run a whole recipe: corpus, pretraining, fine-tuning, evaluation, promotion, serving")
    add_chain("refresh", "run a recipe up to its token shards")
    add_chain("pretrain", "run a recipe up to the pretrained model")
    add_chain("finetune", "run a recipe up to its fine-tuned models")
    add_chain("evaluate", "run a recipe up to its scores and the comparison")
    sub = add(
        "explain",
        "show:explain",
        "say which steps of a recipe would run, and which field differs from the nearest result",
    )
    sub.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    sub.add_argument("--set", action="append", default=[], metavar="a.b=c")

    sub = add("promote", "promote:promote_command", "move NAME@production to a version, if its gate passes")
    sub.add_argument("name", metavar="NAME[@vN]", help="a registered model; without a version, its newest")
    sub.add_argument("--why", default="", help="the reason, kept in the history")
    sub.add_argument(
        "--metric", default="accuracy", help="the score that the gate compares (default accuracy)"
    )
    sub.add_argument(
        "--floor", type=float, help="the least score that passes; without it, at least the current one's"
    )
    sub = add("rollback", "promote:rollback_command", "move NAME@production back to the version before")
    sub.add_argument("name")
    sub.add_argument("--why", default="", help="the reason, kept in the history")
    add(
        "models",
        "promote:models_command",
        "list registered models: versions, scores, what is in production and why",
    )

    sub = add(
        "serve",
        "server:serve_command",
        "serve promoted models over HTTP with Ray Serve; follows promotions without a gap",
    )
    sub.add_argument(
        "names", nargs="*", metavar="NAME[@ALIAS]", help="models to serve (default: everything in production)"
    )
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    sub.add_argument("--port", type=int, default=8000)
    what = sub.add_mutually_exclusive_group()
    what.add_argument(
        "--detach", action="store_true", help="go on in the background and return when it answers"
    )
    what.add_argument("--stop", action="store_true", help="stop the server in the background")
    what.add_argument(
        "--status", action="store_true", help="say whether one runs in the background, and where"
    )

    sub = add(
        "preview",
        "preview:preview",
        "show what an objective makes of a text: what the model reads, what it must predict",
        PREVIEW_EPILOG,
    )
    sub.add_argument(
        "objective", metavar="OBJECTIVE|RECIPE", help="an objective (bert, bart, ...), or that of a recipe"
    )
    sub.add_argument("text", metavar="TEXT|FILE|-", help="an empty line separates documents")
    sub.add_argument(
        "--set", action="append", default=[], metavar="a=b", help="change one field of the objective"
    )
    sub.add_argument(
        "--vocabulary",
        default="",
        metavar="STEP/DIGEST|NAME",
        help="tokens of this one (default: whole words)",
    )
    sub.add_argument("--samples", type=int, default=4, metavar="N", help="so many instances (default 4)")
    sub.add_argument("--seed", type=int, default=0)
    sub = add("show", "show:show", "an artifact: manifest, lineage as a tree, files")
    sub.add_argument(
        "artifact", metavar="STEP/DIGEST|NAME", help="as printed by `cloze runs`; a few digits are enough"
    )
    sub = add(
        "replay", "replay:replay", "show a past training batch again: documents, noise, loss of every target"
    )
    sub.add_argument("run", metavar="RUN", help="pretrain/DIGEST, as printed by `cloze runs`")
    sub.add_argument("step", type=int, metavar="STEP", help="from 0")
    sub.add_argument("--samples", type=int, metavar="N", help="only the first N (default: all)")
    sub.add_argument("--without-losses", action="store_true", help="do not run the network")
    sub = add("ledger", "replay:ledger", "what a pretraining read of every language, stretch by stretch")
    sub.add_argument("run", metavar="RUN", help="pretrain/DIGEST, as printed by `cloze runs`")
    sub = add("generate", "generate:generate", "let a pretrained GPT or BART go on from a text")
    sub.add_argument("run", metavar="RUN", help="pretrain/DIGEST, as printed by `cloze runs`")
    sub.add_argument("prompt", metavar="TEXT|-", help="what it reads first; - reads standard input")
    sub.add_argument("--new-tokens", type=int, default=50, metavar="N", help="at most so many (default 50)")
    sub.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end after this text (repeatable)"
    )
    sub.add_argument("--beams", type=int, metavar="N", help="beam search instead of the likeliest token")
    sub.add_argument("--temperature", type=float, help="draw; below 1 likelier tokens, above 1 others")
    sub.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest")
    sub.add_argument(
        "--top-p", type=float, metavar="P", help="draw from the likeliest with P of the probability"
    )
    sub.add_argument("--samples", type=int, default=1, metavar="N", help="so many texts (default 1)")
    sub.add_argument("--seed", type=int, default=0)
    sub = add("compare", "curves:compare", "lay the training curves of several runs over each other")
    sub.add_argument(
        "runs", nargs="+", metavar="RUN", help="results of `pretrain`, as printed by `cloze runs`"
    )
    sub.add_argument("--by", default="tokens", choices=["steps", "samples", "tokens", "seconds"])
    sub.add_argument("--figure", default="loss", help="a column of losses.arrow (default loss)")
    sub.add_argument("--out", default="compare.png", metavar="FILE", help="the picture (default compare.png)")
    add("runs", "show:runs_command", "list runs: when, what, how they ended, their steps").add_argument(
        "--limit", type=int, default=20
    )
    sub = add("verify", "show:verify", "read artifacts against their checksums")
    sub.add_argument("artifact", nargs="?", help="one artifact (default: all of the store)")
    sub.add_argument(
        "--repair", action="store_true", help="drop what is damaged, so that the next run rebuilds it"
    )
    sub = add("gc", "show:gc", "delete artifacts that no name, model or recent run needs")
    sub.add_argument("--dry-run", action="store_true", help="only list them")
    sub.add_argument(
        "--keep-runs", type=int, default=20, metavar="N", help="keep what the last N runs made (default 20)"
    )

    sub = add("up", "up:up", "start the Prefect server and UI, register the flows, run schedules and retries")
    sub.add_argument("--port", type=int, default=4200)
    sub.add_argument(
        "--recipe", default="quickstart", metavar="NAME", help="the recipe that fills in the forms"
    )
    sub.add_argument("--refresh-cron", metavar="'M H D M W'", help="refresh the corpus on this schedule")
    sub.add_argument("--pretrain-cron", metavar="'M H D M W'", help="run the pretraining on this schedule")
    sub.add_argument(
        "--pretrain-on-refresh",
        action="store_true",
        help="run the pretraining whenever a refresh brought new text",
    )
    add_corpus_commands(commands)
    add("doctor", "doctor:doctor", "what this machine has, what is missing, what to do about it")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 when all went well, 1 when the work failed, 2 for a bad request, 130 when interrupted."""
    top = parser()
    args = top.parse_args(arguments)
    if args.version:
        from importlib.metadata import version

        print(f"cloze {version('cloze')}")
        return 0
    if args.command is None:
        top.print_help()
        return 0
    module, function = args.target.split(":")
    try:
        return int(getattr(importlib.import_module(f"flows.{module}"), function)(args) or 0)
    except KeyboardInterrupt:
        print("\ncloze: interrupted; give the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `cloze show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> int:
    """One sentence for what a person can mend; for our own bugs one sentence and a file with the traceback."""
    from infra.artifacts import CorruptFile
    from infra.lease import LeaseLost
    from infra.output import PartitionFailed

    known = (ValueError, OSError, CorruptFile, LeaseLost, PartitionFailed, TypeError, RuntimeError)
    home = Path(os.environ.get("CLOZE_HOME", ".cloze"))
    text = " ".join(str(error).split()) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    try:
        (home / "errors").mkdir(parents=True, exist_ok=True)
        where = home / "errors" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        where.write_text(trace)
        kept = f" (details: {where})"
    except OSError:
        kept = ""
    if isinstance(error, known):
        print(f"cloze: {text}{kept if isinstance(error, RuntimeError | TypeError) else ''}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) and not isinstance(error, CorruptFile) else 1
    print(f"cloze: unexpected {type(error).__name__}: {text}; this is a bug in cloze{kept}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
