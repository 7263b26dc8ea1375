"""The page that says what was trained, how good it is, and how far to believe that."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from catboost import Pool
from jinja2 import Environment, StrictUndefined

from training.data.preparation import Prepared
from training.evaluation.judging import CUTOFFS, Lift, Quality, interval, shown_metrics
from training.experiments.experiment import Measurement
from training.experiments.studies import Tuning
from training.models.ranker_groups import candidate_scores
from training.models.recipe_record import recipe_record
from training.models.two_stage import TwoStage
from training.publish.gate import Verdict
from training.report import figures
from training.report.findings import (
    MODELS,
    lifts,
    merged,
    number_text,
    short_histories_sentence,
    sources_sentence,
    warnings_of,
)

_LIBRARIES: Final = ("movierec", "numpy", "scipy", "implicit", "catboost", "shap", "matplotlib")


def render_report(
    prepared: Prepared,
    measurement: Measurement,
    served: TwoStage,
    tuning: Tuning | None = None,
    verdict: Verdict | None = None,
) -> str:
    """The page as one HTML text, with its styles and figures inside.

    What is `served` is the measured recipe, trained on all ratings. `tuning` is the search that found its
    parameters, if one did, and the verdict is that of the gate, if it was asked.
    """
    qualities = merged([measurement])
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["number"] = number_text
    page.filters["reading"] = _reading
    page.filters["signed"] = lambda value: f"{value:+.3f}"
    template = page.from_string(
        files("training.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    sample = served.stage.sample_features()
    refit_scores = candidate_scores(served.stage, np.arange(len(served.stage.ratings.users), dtype=np.int32))
    return template.render(
        prepared=prepared,
        cleaning=prepared.clean.counts,
        measurement=measurement,
        ratings=served.stage.ratings,
        rated_movies=np.unique(served.stage.ratings.movie_rows).size,
        groups=served.stage.tables.groups,
        feature_names=served.stage.tables.names,
        models=MODELS,
        columns=shown_metrics(measurement.recipe.n_candidates),
        cutoffs=CUTOFFS,
        rows=_rows(qualities, measurement.validation),
        lifts=lifts(qualities),
        verdict=verdict,
        warnings=warnings_of([measurement]),
        recipe=recipe_record(measurement.recipe),
        regularizations={
            model: tried
            for model, tried in (("ALS", measurement.als_ndcg), ("EASE", measurement.ease_ndcg))
            if tried
        },
        sources_sentence=measurement.sources
        and sources_sentence(measurement.sources, measurement.recipe.n_candidates),
        short_histories_sentence=measurement.short_histories
        and short_histories_sentence(measurement.short_histories),
        tuning=tuning,
        figures=({} if tuning is None else {"trials": figures.trials(tuning.studies)})
        | _figures_of_quality(qualities, measurement)
        | _figures_of_ranker(served, sample, refit_scores),
        shap_rows=len(sample),
        medians=(float(np.median(served.inner_scores)), float(np.median(refit_scores))),
        libraries={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    )


def _rows(qualities: Mapping[str, Quality], validation: Mapping[str, Quality]) -> list[dict[str, Any]]:
    return [
        {
            "model": model,
            "means": quality.means(),
            "interval": interval(quality.per_user["ndcg_at_10"]),
            "validation": validation[model].means().get("ndcg_at_10") if model in validation else None,
        }
        for model, quality in qualities.items()
    ]


def _figures_of_quality(qualities: Mapping[str, Quality], measurement: Measurement) -> dict[str, str]:
    drawn = {}
    if measurement.judged_users:
        drawn = {
            "quality": figures.quality_by_model(qualities),
            "segments": figures.quality_by_segment(qualities, measurement.judged),
            "recall": figures.recall_by_candidates(measurement),
            "coverage": figures.coverage_by_decile(measurement),
        }
    if measurement.choice.curves:
        drawn["learning"] = figures.learning_curve(measurement.choice)
    return drawn


def _figures_of_ranker(
    served: TwoStage, sample: npt.NDArray[np.float32], refit_scores: npt.NDArray[np.float32]
) -> dict[str, str]:
    tables = served.stage.tables
    shap_values = served.ranker.get_feature_importance(Pool(sample), type="ShapValues")[:, :-1]
    importance = served.ranker.get_feature_importance(type="PredictionValuesChange")
    return {
        "importance": figures.feature_importance(tables.features, importance),
        "beeswarm": figures.beeswarm(shap_values, sample, tables.names),
        "scores": figures.score_distributions(served.inner_scores, refit_scores),
    }


def _reading(one: Lift) -> str:
    if one.low > 0:
        return "better"
    return "worse" if one.high < 0 else "may be chance"
