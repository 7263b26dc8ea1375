"""A recipe, and what was chosen by it, as one flat mapping: for the manifest, for MLflow, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from serving.features.sets import groups_of_names, names_of_groups
from serving.fold_in import AlsParameters, Confidence
from serving.sources import SourceWeights
from training.evaluation.splits import SplitProtocol
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss, RankerParameters, Recipe


def recipe_record(
    recipe: Recipe, choice: RankerChoice | None = None
) -> dict[str, str | int | float | bool | None]:
    """Writes a recipe down, and loss and trees of the ranker if they are known."""
    fields = asdict(recipe)
    als, ranker, sources = fields.pop("als"), fields.pop("ranker"), fields.pop("sources")
    fields["feature_groups"] = " ".join(names_of_groups(recipe.feature_groups))
    chosen = {} if choice is None else {"ranker_loss": choice.loss, "ranker_trees": choice.iterations}
    return (
        fields
        | {f"als_{name}": value for name, value in als.items()}
        | {f"ranker_{name}": value for name, value in ranker.items()}
        | {f"sources_{name}": value for name, value in sources.items()}
        | chosen
    )


def recipe_of(record: Mapping[str, str | int | float | bool | None]) -> tuple[Recipe, RankerChoice]:
    """Reads what was written with a choice.

    Raises:
        KeyError, TypeError, ValueError: it is the record of another version.
    """
    rest: dict[str, Any] = dict(record)
    choice = RankerChoice(
        loss=Loss(rest.pop("ranker_loss")), iterations=rest.pop("ranker_trees"), validation_ndcg={}
    )
    als, ranker, sources = (
        {name.removeprefix(prefix): rest.pop(name) for name in list(rest) if name.startswith(prefix)}
        for prefix in ("als_", "ranker_", "sources_")
    )
    als["confidence"] = Confidence(als["confidence"])
    ranker["only_loss"] = None if ranker["only_loss"] is None else Loss(ranker["only_loss"])
    rest["feature_groups"] = groups_of_names(rest["feature_groups"].split())
    rest["protocol"] = SplitProtocol(rest["protocol"])
    recipe = Recipe(
        als=AlsParameters(**als),
        ranker=RankerParameters(**ranker),
        sources=SourceWeights(**sources),
        **rest,
    )
    return recipe, choice
