"""A writer function becomes a task, a chain of tasks becomes a flow; both can also be planned without running.

    shard = step(corpus.shards.shard)

    @chain
    def refresh_corpus(recipe: CorpusRecipe) -> Artifact:
        documents = ingest(recipe.ingest, listing=...)
        return shard(recipe.shards, documents=documents, vocabulary=...)

Prefect shows the tasks; whether one runs is decided by its manifest (infra.materialize), never by Prefect's cache, whose
default key forgets everything in a new run and whose hits do not look at the files.
"""

import inspect
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Generic, TypeVar

from flows import page, report
from flows import run as runs
from flows.settings import Settings
from infra.artifacts import Artifact, Counts
from infra.materialize import Input, Outcome, Step, materialize, plan
from infra.storage import StoreUnreachable

R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C")


class step:
    """Wrap `function(config, *, inputs..., out) -> Counts`; calling it with (config, inputs...) returns its Artifact."""

    def __init__(self, function: Callable[..., Counts], *, version: int = 1) -> None:
        self.step = Step(function=function, version=version)
        self.__doc__ = function.__doc__

    def __call__(self, config: Any, **inputs: Input) -> Artifact:
        run = runs.current()
        if run is None:
            raise RuntimeError(
                f"step {self.step.name} was called outside a run; use `cloze run` or flows.run.using"
            )
        planned = plan(run.store, self.step, config, inputs)
        run.plans.append(planned)
        if run.dry:
            return planned.artifact
        title = f"{planned.step.name} {planned.artifact.digest[:12]}"
        outcome = _as_task(planned.step.name, title, lambda: _materialize(run, planned))
        run.outcomes.append(outcome)
        run.record("RUNNING")
        return outcome.artifact


def _materialize(run: runs.Run, planned: Any) -> Outcome:
    with report.watching(planned.step.name) as watcher:
        outcome = materialize(
            planned, report=watcher, mapper=run.mapper, adopt_from=run.adopt.get(planned.step.name)
        )
        watcher.finished(outcome)
    return outcome


def _as_task(name: str, title: str, work: Callable[[], R]) -> R:
    """Run `work` as a Prefect task; a reused result shows as a state of that name."""
    import prefect
    from prefect.cache_policies import NO_CACHE
    from prefect.states import Completed

    results: list[R] = []

    def body() -> Any:
        result = work()
        results.append(result)
        if isinstance(result, Outcome) and result.action != "ran":
            return Completed(name="Reused", message=result.why)
        return None

    as_task: Any = prefect.task
    as_task(body, name=name, task_run_name=title, cache_policy=NO_CACHE, persist_result=False)()
    return results[0]


def side_by_side(first: Callable[[], R], second: Callable[[], S]) -> tuple[R, S]:
    """Both results, made at the same time: `second` in a thread that shares this run. If one fails the other still
    ends first, so what it has made is kept; Ctrl-C waits for nothing.
    """
    done: list[S] = []
    failures: list[Exception] = []

    def body() -> None:
        try:
            done.append(second())
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=copy_context().run, args=(body,), daemon=True)
    thread.start()
    try:
        made = first()
    except Exception as error:
        failures.append(error)
    thread.join()
    if failures:
        raise failures[0]
    return made, done[0]


def one_by_one(first: Callable[[], R], second: Callable[[], S]) -> tuple[R, S]:
    """Both results, one after the other."""
    return first(), second()


class chain(Generic[C, R]):
    """Make a flow of a function that takes one recipe. In a dry run it is only called; inside a run it is one task.

    `flow` is the Prefect flow with parameters (recipe, store), which deployments register and the UI shows as a form.
    """

    def __init__(self, function: Callable[[C], R]) -> None:
        self.function = function
        self.name = function.__name__.replace("_", "-")
        self.__name__, self.__doc__, self.__wrapped__ = function.__name__, function.__doc__, function
        self._flow: Any = None

    def __call__(self, recipe: C) -> R:
        run = runs.current()
        if run is None:
            raise RuntimeError(
                f"{self.name} was called outside a run; use `cloze run`, or flows.run.using in a script"
            )
        if run.dry:
            return self.function(recipe)
        # a task with the steps' tasks inside, not a sub-flow: logs, progress and pictures then share one page
        return _as_task(self.name, self.name, lambda: self.function(recipe))

    @property
    def flow(self) -> Any:
        if self._flow is None:
            import prefect

            as_flow: Any = prefect.flow
            self._flow = as_flow(_body(self), name=self.name, flow_run_name=_title, persist_result=False)
        return self._flow


def _title() -> str:
    """What a run is called in the UI: its own id, which also names its record."""
    run = runs.current()
    return run.id if run is not None else f"from the UI {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def _body(self: chain[C, R]) -> Callable[..., R]:
    """The function Prefect sees: annotated with the recipe's type, so that the form and the checks come from it."""
    parameter = next(iter(inspect.signature(self.function).parameters.values()))

    @wraps(self.function)
    def body(recipe: C, store: str = "") -> R:
        run = runs.current() or runs.new_run(Settings(store=store), getattr(recipe, "name", self.name))
        with runs.using(run):
            return supervised(run, lambda: self.function(recipe))

    annotations = {"recipe": parameter.annotation, "store": str}
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                "recipe", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=parameter.annotation
            ),
            inspect.Parameter("store", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str),
        ]
    )
    body.__annotations__ = annotations
    del body.__wrapped__
    return body


def supervised(run: runs.Run, work: Callable[[], R]) -> R:
    """Run the outermost chain inside its Prefect flow run: keep the record, end with the table of steps."""
    from prefect.runtime import flow_run

    from training.launch import Place, at

    run.flow_run_id = flow_run.id
    run.record("RUNNING")
    try:
        with at(Place(workers=run.settings.workers, ray_address=run.settings.ray_address)):
            result = work()
    except BaseException as error:
        page.steps_table(run)
        if not isinstance(error, StoreUnreachable):  # then the record cannot be written either
            run.record("FAILED", error=f"{type(error).__name__}: {error}")
        raise
    page.steps_table(run)
    run.record("COMPLETED", result=result if isinstance(result, Artifact) else None)
    return result
