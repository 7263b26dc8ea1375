"""What MLflow is told of a job, model by model."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from training.data.preparation import Prepared
from training.experiments.experiment import Measurement
from training.experiments.studies import Study
from training.models.recipe import Recipe
from training.models.recipe_record import recipe_record
from training.release.registry import BUNDLE_TAG
from training.release.run_record import RunRecord


def two_stage_record(
    measurement: Measurement, prepared: Prepared, bundle: Path | None, *, sample: bool
) -> RunRecord:
    """The two-stage run, with a nested one for each other model."""
    recipe = measurement.recipe
    tags = {
        "dataset_tag": prepared.dataset_tag,
        "sample": str(sample).lower(),
        "published": str(bundle is not None).lower(),
    }
    if bundle is not None:
        tags[BUNDLE_TAG] = bundle.name
    nested = tuple(
        RunRecord(
            experiment="two_stage_ranker",
            name=model,
            parameters={"seed": recipe.seed, **(asdict(recipe.als) if model == "als" else {})},
            metrics=_metrics(measurement, model),
            tags=tags | {"model": model},
        )
        for model in measurement.qualities
        if model != "two_stage"
    )
    return RunRecord(
        experiment="two_stage_ranker",
        name=f"two_stage on {prepared.dataset_tag}",
        parameters={**recipe_record(recipe, measurement.choice), "dataset_tag": prepared.dataset_tag},
        metrics=_metrics(measurement, "two_stage"),
        tags=tags | {"model": "two_stage", "groups": str(measurement.groups)},
        artifacts=() if bundle is None else _pages_and_tables(bundle),
        bundle=None if sample else bundle,
        nested=nested,
    )


def _pages_and_tables(bundle: Path) -> tuple[Path, ...]:
    """What a bundle holds for people: nothing relies on it, and somebody may have removed it."""
    return tuple(sorted(path for name in ("exports/*", "reports/report.html") for path in bundle.glob(name)))


def tuning_record(studies: Mapping[str, Study], prepared: Prepared, recipe: Recipe, path: Path) -> RunRecord:
    """The run of a search, with a nested one for each trial; `path` is the file that it wrote."""
    nested = tuple(
        RunRecord(
            experiment="tuning",
            name=f"{stage} {trial.number}",
            parameters=dict(trial.parameters),
            metrics={"val_ndcg_at_10": trial.ndcg},
            tags={"model": stage, "dataset_tag": prepared.dataset_tag},
        )
        for stage, study in studies.items()
        for trial in study.trials
    )
    best = {
        f"{stage}_{name}": value
        for stage, study in studies.items()
        for name, value in study.best.parameters.items()
    }
    return RunRecord(
        experiment="tuning",
        name=f"tuning on {prepared.dataset_tag}",
        parameters={
            "dataset_tag": prepared.dataset_tag,
            "protocol": recipe.protocol,
            "seed": recipe.seed,
            **best,
        },
        metrics={f"val_{stage}_ndcg_at_10": study.best.ndcg for stage, study in studies.items()},
        tags={"dataset_tag": prepared.dataset_tag},
        artifacts=(path,),
        nested=nested,
    )


def _metrics(measurement: Measurement, model: str) -> dict[str, float]:
    """A model's means by name, as `val_ndcg_at_10` and `test_ndcg_at_10`."""
    return {
        f"{part}_{name}": mean
        for part, qualities in (("val", measurement.validation), ("test", measurement.qualities))
        if model in qualities
        for name, mean in qualities[model].means().items()
    }
