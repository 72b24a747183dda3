"""What a run's page in the Prefect UI shows: tables, pictures, texts and events. Outside Prefect they do nothing."""

from collections.abc import Iterable

from corpus.generations import Difference
from flows import run as runs
from flows.report import console, describe, in_prefect, table
from infra.artifacts import Artifact

REFRESHED = "cloze.corpus.refreshed"  # the event of a refresh that brought something new


def steps_table(run: runs.Run) -> None:
    """The run's steps: ran or reused, and why."""
    rows = [
        {
            "step": o.artifact.step,
            "artifact": o.artifact.digest[:12],
            "action": o.action,
            "why": o.why,
            "seconds": round(o.seconds, 1),
            "counts": describe(o.artifact.counts),
        }
        for o in run.outcomes
    ]
    table("steps", rows, "Every step of this run: what ran, what was reused, and why")


def changes(found: Difference, newest: Artifact | None) -> None:
    """What a refresh has to do, before it does it."""
    if newest is None:
        console(f"corpus  new: {len(found.new):,} files to read")
        return
    parts = [f"{len(found.new):,} new or changed files to read", f"{len(found.vanished):,} vanished"]
    if found.renamed:
        parts.append(f"{found.renamed:,} renamed or copied (nothing to do)")
    number = newest.counts["generation"]
    console(f"corpus  {', '.join(parts)}; generation {number} has {newest.counts['documents']:,} documents")
    for file in found.vanished[:5]:
        console(f"  vanished: {file.source}: {file.name}")


def refreshed(name: str, generation: Artifact) -> None:
    """Tell the Prefect server that a corpus has grown; deployments may wait for it."""
    if in_prefect():
        from prefect.events import emit_event

        resource = {"prefect.resource.id": f"cloze.{name}", "prefect.resource.name": name}
        emit_event(event=REFRESHED, resource=resource, payload=dict(generation.counts))


def corpus_statistics(corpus: Iterable[Artifact | tuple[Artifact, ...]]) -> None:
    """What a refresh has found and kept: every count of every step behind these artifacts."""
    seen: dict[str, Artifact] = {}
    todo = [a for part in corpus for a in (part if isinstance(part, tuple) else (part,))]
    while todo:
        artifact = todo.pop(0)
        if artifact.finished and artifact.address not in seen:
            seen[artifact.address] = artifact
            todo += artifact.inputs.values()
    rows = [
        {"step": a.step, "artifact": a.digest[:12], **{k.replace("_", " "): v for k, v in a.counts.items()}}
        for a in reversed(seen.values())
    ]
    table("corpus", rows, "The corpus: what each step read, kept and dropped, by reason")


def comparison(artifact: Artifact) -> None:
    """Pretrained beside not pretrained, seed by seed, as a table and a picture."""
    if not artifact.finished:
        return
    body = artifact.read_json("comparison.json")
    sides = {k.replace("_", " "): body[k] for k in ("with_pretraining", "from_scratch")}
    rows = [
        {
            "": name,
            "mean": round(s["mean"], 4),
            "spread": round(s["spread"], 4),
            "seeds": str([round(v, 4) for v in s["values"]]),
        }
        for name, s in sides.items()
    ]
    clear = "clear" if body["clear"] else "not clear"
    text = f"{body['metric']}: gain {body['gain']:.4f}, standard error {body['standard_error']:.4f} ({clear})"
    table("comparison", rows, text)


def drift(artifact: Artifact) -> None:
    """How well the vocabulary, learned from the first generation, fits the newest text."""
    if not artifact.finished:
        return
    found = artifact.read_json("drift.json")
    rows = [{"language": name, **figures} for name, figures in found["languages"].items()]
    table("vocabulary-drift", rows, "The vocabulary on this generation's text; it is never swapped by itself")
