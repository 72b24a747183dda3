"""The flows as Prefect deployments: forms for their parameters, cron schedules, and what starts what.

    refresh-corpus --(event cloze.corpus.refreshed)--> pretrain    with `cloze up --pretrain-on-refresh`
    promote --(the name NAME@production moves)--> served model     the server follows the name by itself

Prefect loads a flow in a fresh process by `module:name`, hence the module-level flows at the end of this file.
"""

from typing import Any

from flows.evaluate import evaluate as evaluate_chain
from flows.finetune import finetune as finetune_chain
from flows.overrides import strict
from flows.page import REFRESHED
from flows.pipeline import pipeline as pipeline_chain
from flows.pretrain import pretrain as pretrain_chain
from flows.recipe import Recipe
from flows.recipes import recipe as recipe_by_name
from flows.refresh_corpus import refresh_corpus as refresh_chain

strict(Recipe)  # before the flows are made: an unknown field in a form is refused

pipeline = pipeline_chain.flow
refresh_corpus = refresh_chain.flow
pretrain = pretrain_chain.flow
finetune = finetune_chain.flow
evaluate = evaluate_chain.flow


def deployments(
    recipe: str,
    store: str,
    *,
    refresh_cron: str | None = None,
    pretrain_cron: str | None = None,
    pretrain_on_refresh: bool = False,
) -> list[Any]:
    """One deployment per flow, its form filled with the recipe's values; cron schedules where they are given."""
    from prefect.events import DeploymentEventTrigger
    from prefect.schedules import Cron
    from pydantic import TypeAdapter

    whole = recipe_by_name(recipe)
    plain: dict[str, Any] = TypeAdapter(Recipe).dump_python(whole, mode="json")
    rows = [
        ("pipeline", pipeline, plain, None),
        ("refresh_corpus", refresh_corpus, plain["corpus"], refresh_cron),
        ("pretrain", pretrain, plain, pretrain_cron),
        ("finetune", finetune, plain, None),
        ("evaluate", evaluate, plain, None),
    ]
    out = []
    for name, flow, parameters, cron in rows:
        deployment = flow.to_deployment(
            name=whole.name,
            parameters={"recipe": parameters, "store": store},
            schedule=_cron(Cron, cron),
            description=flow.description,
            concurrency_limit=1,
            triggers=[DeploymentEventTrigger(expect={REFRESHED})]
            if pretrain_on_refresh and name == "pretrain"
            else [],
        )
        deployment.entrypoint = f"flows.schedules.{name}"
        out.append(deployment)
    return out


def _cron(kind: Any, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a cron line; write five fields such as '0 3 * * *' (every day at 03:00)"
        ) from None
