"""Let text arrive in random order, refresh after every arrival, kill the refreshes, and compare.

    python tests/flows/kill_refreshes.py TEXT... [--arrivals 10] [--kills 2] [--seed 0] [--share 1.0]

TEXT are files with text (.txt) or tables with a text column (.parquet). Their documents are dealt into JSONL files that
arrive in random order. Three stores: one killed `--kills` times in every refresh (SIGKILL to any process of its tree at a
random moment), one undisturbed, one that reads everything in a single refresh. At the end

    the first two must hold the same artifacts, byte for byte;
    shards of older generations must not have changed since they were written;
    all three must have collected the same documents, and kept as many (which of two near duplicates stays depends on
    which came first, so their number is compared, not their names; the difference is printed).

Prints JSON lines; exits 1 where something differs.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from kill_runs import contents, disturb, start

VOCABULARY = 4000


def documents_of(files: list[Path]) -> list[str]:
    texts: list[str] = []
    for file in files:
        if file.suffix == ".parquet":
            texts += pq.read_table(file, columns=["text"])["text"].to_pylist()
        else:
            texts += [
                part for part in file.read_text("utf-8", errors="replace").split("\n\n") if part.strip()
            ]
    return texts


def recipe_for(home: Path, text: Path) -> Path:
    """The same recipe for every store: only the folder differs, and a folder is no part of a document's identity."""
    home.mkdir(parents=True)
    body = {
        "recipe": "text",
        "corpus": {
            "ingest": {"sources": [{"type": "JsonLines", "folder": str(text), "name": "arriving"}]},
            "select": {"rules": [{"type": "Gopher"}]},
            "vocabulary": {"vocab_size": VOCABULARY},
        },
        "pretrain": {"model": {"vocab_size": VOCABULARY}},
    }
    path = home / "recipe.yaml"
    path.write_text(json.dumps(body))
    return path


def refresh(recipe: Path, home: Path) -> None:
    process = start(str(recipe), home, "refresh")
    if process.wait():
        print((home / "log").read_text()[-3000:])
        raise SystemExit(f"a refresh in {home} ended with exit status {process.returncode}")


def collected(store: Path) -> tuple[set[bytes], int]:
    """(ids of all collected documents, how many are kept)."""
    ids: set[bytes] = set()
    for part in store.glob("collect/*/p*.parquet"):
        if "repeated" not in part.name:
            ids |= set(pq.read_table(part, columns=["id"])["id"].to_pylist())
    kept = sum(json.loads(m.read_text())["counts"]["kept"] for m in store.glob("deduplicate/*/manifest.json"))
    return ids, kept


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--arrivals", type=int, default=10)
    parser.add_argument("--kills", type=int, default=2, help="in each refresh")
    parser.add_argument(
        "--longest", type=float, default=8.0, help="longest random wait before a kill, seconds"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the documents")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    base = Path(tempfile.mkdtemp(prefix="cloze-arrivals-"))
    homes = {name: base / name for name in ("killed", "undisturbed", "at-once")}
    folders = {name: base / f"text-{name}" for name in ("arriving", "whole")}
    try:
        texts = documents_of(args.text)
        rng.shuffle(texts)
        texts = texts[: round(len(texts) * args.share)]
        for folder in folders.values():
            folder.mkdir()
        recipes = {name: recipe_for(home, folders["arriving"]) for name, home in homes.items()}
        recipes["at-once"].write_text(
            recipes["at-once"].read_text().replace(str(folders["arriving"]), str(folders["whole"]))
        )
        shards: dict[str, str] = {}
        kills = starts = 0
        for number in rng.sample(range(args.arrivals), args.arrivals):
            body = "".join(json.dumps({"text": t}) + "\n" for t in texts[number :: args.arrivals])
            for folder in folders.values():
                (folder / f"{number}.jsonl").write_text(body)
            refresh(recipes["undisturbed"], homes["undisturbed"])
            found = contents(homes["undisturbed"] / "store")
            changed = [a for a, content in shards.items() if found.get(a) != content]
            before = contents(homes["killed"] / "store")
            starts += disturb(
                str(recipes["killed"]),
                homes["killed"],
                args.kills,
                rng,
                args.longest,
                command="refresh",
                artifacts=len(found) - len(before),
            )
            kills += args.kills
            shards |= {a: content for a, content in found.items() if a.startswith("shard/")}
            print(
                json.dumps({"arrival": number, "artifacts": len(found), "changed_shards": changed}),
                flush=True,
            )
            if changed:
                return 1
        expected, found = (contents(homes[name] / "store") for name in ("undisturbed", "killed"))
        differ = sorted(a for a in expected.keys() | found.keys() if expected.get(a) != found.get(a))
        refresh(recipes["at-once"], homes["at-once"])
        (ids, kept), (whole, kept_at_once) = (collected(homes[n] / "store") for n in ("killed", "at-once"))
        end = {
            "documents": len(texts),
            "collected": len(ids),
            "collected_differ": len(ids ^ whole),
            "kept": kept,
            "kept_at_once": kept_at_once,
            "kills": kills,
            "starts": starts,
            "artifacts": len(expected),
            "different": differ,
        }
        print(json.dumps(end))
        return 1 if differ or ids != whole else 0
    finally:
        for home in homes.values():
            stop = [sys.executable, "-m", "flows", "serve", "--stop"]
            env = {**os.environ, "CLOZE_HOME": str(home)}
            subprocess.run(stop, cwd=Path(__file__).parents[2], env=env, capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
