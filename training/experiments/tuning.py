"""Looking for better parameters of ALS and of the ranker, on the validation part alone.

Two studies, one per stage: first ALS, by the nDCG@10 of its own lists; then the ranker, by that of what it
makes of the best ALS's candidates. The defaults are the first trial of each, so that what is found is never
below them on the validation part.

Candidates come from ALS alone and the ranker sees all groups of features: `train` chooses sources, groups and
the number of trees afterwards, with the parameters that were found.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import optuna
from sqlalchemy.exc import DBAPIError

from serving.fold_in import AlsParameters, Confidence
from serving.ratings import Ratings
from serving.retrieval import best_first
from training.errors import TrainingError
from training.evaluation.judging import mean_ndcg
from training.evaluation.splits import Split, split
from training.experiments.studies import Parameters, Study, Trial
from training.models.als import Als
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker
from training.models.ranker_groups import TooFewUsersError, labelled_groups, labelling_cuts, require_groups
from training.models.recipe import Loss

_MOST_USERS: Final = 2_000
"""Judged users, at random where there are more."""
_RANKER_FIELDS: Final = ("learning_rate", "depth", "negatives")
_MOST_TREES: Final = 300
"""Of a trial's ranker: `train` goes beyond them only where its curve still rises there."""


class StudiesError(TrainingError):
    """The database of the studies cannot be used. The message says why, and what is to be done."""


@dataclass(frozen=True)
class Bounds:
    """When to stop, and where to go on."""

    storage: Path
    """SQLite database of the studies."""
    name: str
    """Of the studies: another data set or recipe has another."""
    trials: int
    """Per stage, earlier ones of the same study included; at least 1."""
    seconds: float
    """For both stages, half of it for ALS. A trial under way ends, and each stage has one trial at least."""


def tune(ratings: Ratings, job: JobContext, bounds: Bounds) -> dict[str, Study]:
    """Runs both studies, or goes on with them, from the defaults of the job's recipe on.

    Of all ratings, the test part is cut off and not looked at.

    Returns:
        By stage: als, ranker.

    Raises:
        StudiesError: the database cannot be used.
        TooFewUsersError: the validation part judges nobody, or nobody gives the ranker a group.
    """
    recipe = job.recipe
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bounds.storage.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + bounds.seconds
    before_test = split(ratings, recipe.protocol).train
    judged = split(before_test, recipe.protocol).sample(_MOST_USERS, recipe.seed)
    if not judged.users.size:  # a trial without a value fails, and there would be another for ever
        raise TooFewUsersError(f"nobody can be judged on the validation part under '{recipe.protocol}'")

    def als_ndcg(parameters: Parameters) -> float:
        chosen = _als_parameters(parameters)
        model = Als.fit(
            judged.train, job.n_movies, chosen, seed=recipe.seed, engine=job.engine, users=judged.users
        )
        found = model.candidates(judged.users, judged.train, recipe.n_candidates)
        return mean_ndcg([candidates.movie_rows for candidates in found], judged)

    with job.progress.step("Trials of ALS", bounds.trials) as advance:
        als = _run(
            replace(bounds, name=f"{bounds.name}-als"),
            recipe.seed,
            defaults=asdict(recipe.als),
            suggest=_als_suggestion,
            quality=als_ndcg,
            end=end - bounds.seconds / 2,
            advance=advance,
        )
    recipe = replace(recipe, als=_als_parameters(als.best.parameters))
    ranker_ndcg = _ranker_quality(judged, replace(job, recipe=recipe))
    defaults = asdict(recipe.ranker)
    with job.progress.step("Trials of the ranker", bounds.trials) as advance:
        ranker = _run(
            replace(bounds, name=f"{bounds.name}-ranker-on-als-{als.best.number}"),
            recipe.seed,
            defaults={name: defaults[name] for name in _RANKER_FIELDS},
            suggest=_ranker_suggestion,
            quality=ranker_ndcg,
            end=end,
            advance=advance,
        )
    return {"als": als, "ranker": ranker}


def _als_parameters(parameters: Parameters) -> AlsParameters:
    # Out of the study's database it is a plain string.
    return AlsParameters(**{**parameters, "confidence": Confidence(parameters["confidence"])})


def _als_suggestion(trial: optuna.Trial) -> Parameters:
    return {
        "factors": trial.suggest_categorical("factors", [32, 64, 128, 192]),
        "iterations": trial.suggest_int("iterations", 5, 30),
        "regularization": trial.suggest_float("regularization", 0.01, 300.0, log=True),
        "alpha": trial.suggest_float("alpha", 0.5, 50.0, log=True),
        "confidence": Confidence(trial.suggest_categorical("confidence", [c.value for c in Confidence])),
    }


def _ranker_suggestion(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "depth": trial.suggest_int("depth", 4, 8),
        "negatives": trial.suggest_categorical("negatives", [25, 75, 150]),
    }


def _ranker_quality(judged: Split, job: JobContext) -> Callable[[Parameters], float]:
    """The function that a trial of the ranker is judged by; all that trials share is computed here, once."""
    recipe = job.recipe
    loss = recipe.ranker.only_loss or Loss.LOGLOSS
    cuts = labelling_cuts(judged.train, recipe)
    stages = [
        FirstStage.fit(cut.train, job, f"inner cut {i + 1} of {len(cuts)}", users=cut.users)
        for i, cut in enumerate(cuts)
    ]
    stage = FirstStage.fit(judged.train, job, "what was before the validation part", users=judged.users)
    found = list(stage.candidates(judged.users))
    features = [stage.features([user], [own]) for user, own in zip(judged.users.tolist(), found, strict=True)]

    def quality(parameters: Parameters) -> float:
        chosen = replace(recipe.ranker, **parameters)
        groups = Groups.stacked(
            [
                labelled_groups(stage, cut, chosen, rng=np.random.default_rng([recipe.seed, i]))
                for i, (stage, cut) in enumerate(zip(stages, cuts, strict=True))
            ]
        )
        require_groups(np.unique(groups.group_ids).size, recipe)
        trees = min(chosen.iterations, _MOST_TREES)
        model = fit_ranker(groups, loss, trees, job.with_recipe(ranker=chosen), seed=recipe.seed)
        lists = []
        for own, matrix in zip(found, features, strict=True):
            scores = model.predict(matrix, "RawFormulaVal") if len(matrix) else np.empty(0)
            lists.append(own.movie_rows[best_first(scores, own.movie_rows)])
        return mean_ndcg(lists, judged)

    return quality


def _run(
    bounds: Bounds,
    seed: int,
    *,
    defaults: Parameters,
    suggest: Callable[[optuna.Trial], Parameters],
    quality: Callable[[Parameters], float],
    end: float,
    advance: Callable[[], None],
) -> Study:
    """Tries parameters until there are enough trials, or `end` on the monotonic clock has come."""
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{bounds.storage}",
            study_name=bounds.name,
            direction="maximize",
            load_if_exists=True,
        )
    except DBAPIError as error:
        raise StudiesError(f"the studies in {bounds.storage} cannot be used: {error.orig}") from error
    # With the seed alone, a run that goes on would try what the first one has tried.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))

    def complete() -> list[optuna.trial.FrozenTrial]:
        return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])

    def objective(trial: optuna.Trial) -> float:
        # Not enqueued: the defaults need not lie within the bounds of the search.
        parameters = dict(suggest(trial) if complete() else defaults)
        trial.set_user_attr("parameters", parameters)
        return quality(parameters)

    for _ in complete():
        advance()
    while not complete() or (len(complete()) < bounds.trials and time.monotonic() < end):
        study.optimize(objective, n_trials=1)
        advance()
    return Study(
        tuple(
            Trial(trial.number, trial.user_attrs["parameters"], float(trial.value or 0.0))
            for trial in complete()
        )
    )
