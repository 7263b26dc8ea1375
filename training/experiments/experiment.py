"""One honest measurement: split, fit every model on the past, judge all on the same future."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.features.sets import FeatureSet
from serving.ids import Rows
from serving.ratings import Ratings
from serving.sources import ALS_ALONE
from training.checkpoints import Arrays
from training.data.movielens.cleaning import ratings_digest
from training.evaluation.judging import Quality, judge
from training.evaluation.profiles import ListProfile, profile_of
from training.evaluation.splits import ENOUGH_USERS, Split, SplitProtocol, judged_split, split
from training.experiments.baselines import baseline_lists, choose_ease_regularization, svd_lists
from training.experiments.feature_selection import FeatureSelection, choose_feature_groups
from training.experiments.regularization import best_regularization, choose_als_regularization
from training.experiments.short_histories import ShortHistories, measure_short_histories
from training.experiments.source_weights import SourceChoice, choose_source_weights
from training.experiments.validation_lists import ValidationLists
from training.models.als import Als
from training.models.job_context import JobContext
from training.models.lists import else_popular
from training.models.ranker_groups import TooFewUsersError, inner_cuts
from training.models.ranker_selection import RankerChoice, choose_ranker
from training.models.recipe import REFERENCE_PARAMETERS, Recipe
from training.models.two_stage import TwoStage, fit_two_stage


@dataclass(frozen=True)
class Measurement:
    """What one seed of a recipe reached."""

    recipe: Recipe
    choice: RankerChoice
    groups: int
    judged: Split
    """What was learned from, and what the lists were judged by."""
    lists: Mapping[str, Sequence[Rows]]
    """By model, of each judged user, best first."""
    qualities: Mapping[str, Quality]
    """On the test part, by model: popularity, svd, item_knn, ease, als, two_stage; where candidates are
    of several sources also `candidates`, in the order of stage one; with `variants` also als_reference and
    two_stage_reference. item_knn and ease only up to 10,000 rated movies."""
    validation: Mapping[str, Quality]
    """The same on the validation part; empty unless asked for, and where that part is too small."""
    validated: Split | None
    """As `judged`, of the validation part; None where `validation` is empty."""
    als_ndcg: Mapping[float, float]
    """nDCG@10 of ALS on a validation part by λ: the recipe has the best; empty where λ was given."""
    ease_ndcg: Mapping[float, float]
    """The same of EASE; the best is in `qualities`."""
    sources: SourceChoice | None
    """How much each source of candidates weighs: the recipe has what was chosen; None where it was given."""
    short_histories: ShortHistories | None
    """How new users are served: the recipe has the least history; None where `sources` is."""
    profiles: Mapping[str, ListProfile]
    """By model, how much its lists of the test part are made for each user."""
    feature_selection: FeatureSelection | None
    """Which groups of features were kept, as the recipe has them; None where they were given."""

    @property
    def judged_users(self) -> int:
        """How many users judged."""
        return self.judged.users.size


def production_protocol(ratings: Ratings) -> SplitProtocol:
    """`time` where that leaves enough users to learn from and to judge by, else `user`.

    Production recommends for the future, so cutting by time is closer to it; with few users in it, it
    says nothing.
    """
    judged = split(ratings, SplitProtocol.TIME)
    groups = sum(cut.users.size for cut in inner_cuts(judged.train, SplitProtocol.TIME, enough=ENOUGH_USERS))
    enough = min(judged.users.size, groups) >= ENOUGH_USERS
    return SplitProtocol.TIME if enough else SplitProtocol.USER


def measure(
    ratings: Ratings,
    job: JobContext,
    *,
    choice: RankerChoice | None = None,
    validate: bool = False,
    variants: bool = False,
) -> Measurement:
    """Fits the models on the past and judges them on the future, by the recipe's protocol.

    Args:
        ratings: all there are.
        job: the two-stage recommender's; λ of ALS, and then groups of features, are chosen first where its
            recipe says so.
        choice: loss and trees; chosen on a validation part of the past when None.
        validate: measure on the validation part too, after a fit of its own on what was before that.
        variants: also measure ALS with the reference's preset, and a ranker that sees the reference's
            features alone; its loss and trees are those chosen for the recipe.

    Raises:
        TooFewUsersError: the past gives the ranker too little to learn from.
    """
    test = judged_split(ratings, job.recipe.protocol)
    if test.users.size < test.eligible:
        job.progress.console.print(
            f"  judged by {test.users.size:,} users, drawn at random from the {test.eligible:,} who can be",
            highlight=False,
        )
    als_ndcg: Mapping[float, float] = {}
    if job.recipe.choose_regularization:
        als_ndcg = choose_als_regularization(test.train, job)
        als = replace(job.recipe.als, regularization=best_regularization(als_ndcg))
        job = job.with_recipe(als=als)
    sources = None
    if job.recipe.choose_sources:
        sources = choose_source_weights(test.train, job)
        job = job.with_recipe(sources=sources.chosen)
    selection, choice = _chosen(test.train, job, choice)
    if selection is not None:
        job = job.with_recipe(feature_groups=selection.groups)
    two_stage = fit_two_stage(test.train, job, choice, users=test.users)
    short_histories = None
    if job.recipe.choose_sources:
        short_histories = measure_short_histories(test.train, two_stage, job)
        job = job.with_recipe(least_history=short_histories.least_history)
    ease_ndcg = _ease_ndcg(test.train, job)
    lists = _lists(test, two_stage, job, ease_ndcg)
    if variants:
        lists |= _variant_lists(test, job.part("reference"), choice, lists["popularity"])
    qualities = _qualities(lists, test, job)
    validated, validation = _validated(test.train, job, choice, ease_ndcg) if validate else (None, {})
    return Measurement(
        recipe=job.recipe,
        choice=choice,
        groups=two_stage.groups,
        judged=test,
        lists=lists,
        qualities=qualities,
        validation=validation,
        validated=validated,
        als_ndcg=als_ndcg,
        ease_ndcg=ease_ndcg,
        sources=sources,
        short_histories=short_histories,
        profiles={model: profile_of(found, test, job.table.movies) for model, found in lists.items()},
        feature_selection=selection,
    )


def _chosen(
    past: Ratings, job: JobContext, choice: RankerChoice | None
) -> tuple[FeatureSelection | None, RankerChoice]:
    """Groups of features, where the recipe leaves them open, and loss and trees, where they are not given."""
    if choice is not None and not job.recipe.choose_features:
        return None, choice
    lists = ValidationLists.of(past, job)
    selection = choose_feature_groups(lists) if job.recipe.choose_features else None
    kept = job.recipe.feature_groups if selection is None else selection.groups
    if choice is None:
        choice = choose_ranker(
            lists.groups_with(kept), lists.lists_with(kept), job.with_recipe(feature_groups=kept)
        )
    return selection, choice


def _ease_ndcg(past: Ratings, job: JobContext) -> dict[float, float]:
    """No seed changes it, and the gate asks for it again when it measures the champion."""
    protocol = job.recipe.protocol

    def searched() -> Arrays:
        with job.progress.step("Regularization of EASE, on a validation part"):
            found = choose_ease_regularization(past, job.n_movies, protocol)
        return {"regularization": np.array(list(found)), "ndcg": np.array(list(found.values()))}

    digest = ratings_digest(past, job.table.movies.ids)
    found = job.checkpoints.whole().step(f"ease-{digest[:16]}-{protocol}", searched)
    return dict(zip(found["regularization"].tolist(), found["ndcg"].tolist(), strict=True))


def _validated(
    past: Ratings, job: JobContext, choice: RankerChoice, ease_ndcg: Mapping[float, float]
) -> tuple[Split | None, dict[str, Quality]]:
    """The validation part, and quality on it by model; none where what is before it is too little."""
    job.progress.enter("validation", "Measuring on the validation part: fitted on what was before it")
    before = judged_split(past, job.recipe.protocol)
    if not before.users.size:
        job.progress.console.print("  left out: nobody can be judged by it")
        return None, {}
    try:
        earlier = fit_two_stage(before.train, job.part("validation"), choice, users=before.users)
    except TooFewUsersError as error:  # two cuts leave little of short histories
        job.progress.console.print(f"  left out: {error}")
        return None, {}
    return before, _qualities(_lists(before, earlier, job, ease_ndcg), before, job)


def _qualities(lists: Mapping[str, Sequence[Rows]], judged: Split, job: JobContext) -> dict[str, Quality]:
    with job.progress.step("Judging", len(lists)) as advance:
        qualities = {}
        for model, found in lists.items():
            qualities[model] = judge(found, judged, candidates=job.recipe.n_candidates)
            advance()
    return qualities


def _lists(
    judged: Split, two_stage: TwoStage, job: JobContext, ease_ndcg: Mapping[float, float]
) -> dict[str, Sequence[Rows]]:
    """Lists of all models, by name, weakest first as a rule."""
    limit = job.recipe.n_candidates
    with job.progress.step("Baselines"):
        baselines = baseline_lists(judged, job.n_movies, ease_ndcg, limit=limit)
        popular = baselines.pop("popularity")
        lists = {"popularity": popular, "svd": svd_lists(judged, job.n_movies, job.recipe.seed, limit=limit)}
        lists |= baselines
        stage = two_stage.stage
        of_als = stage.als.candidates(judged.users, stage.ratings, limit)
        lists["als"] = else_popular([found.movie_rows for found in of_als], popular)
    with job.progress.step("Two-stage recommendations", judged.users.size) as advance:
        rankings = list(two_stage.rankings(judged.users, advance))
    if job.recipe.sources != ALS_ALONE:
        lists["candidates"] = else_popular([merged for merged, _ in rankings], popular)
    lists["two_stage"] = _served([own for _, own in rankings], judged, job, popular)
    return lists


def _served(
    rankings: Sequence[Rows], judged: Split, job: JobContext, popular: Sequence[Rows]
) -> Sequence[Rows]:
    """What users get of a ranker: those with too short a history get what is popular."""
    is_short = judged.train.counts()[judged.users] < job.recipe.least_history
    return else_popular(
        [own[:0] if short else own for own, short in zip(rankings, is_short, strict=True)], popular
    )


def _variant_lists(
    judged: Split, job: JobContext, choice: RankerChoice, popular: Sequence[Rows]
) -> dict[str, Sequence[Rows]]:
    """Lists of ALS with the reference's preset, and of a ranker with the reference's features."""
    with job.progress.step("ALS, reference preset", REFERENCE_PARAMETERS.iterations) as advance:
        als = Als.fit(
            judged.train,
            job.n_movies,
            REFERENCE_PARAMETERS,
            seed=job.recipe.seed,
            engine=job.engine,
            progress=advance,
            users=judged.users,
            checkpoints=job.checkpoints,
        )
    plain_job = job.with_recipe(feature_groups=FeatureSet.REFERENCE.groups)
    plain = fit_two_stage(judged.train, plain_job, choice, users=judged.users)
    found = [
        found.movie_rows for found in als.candidates(judged.users, judged.train, job.recipe.n_candidates)
    ]
    return {
        "als_reference": else_popular(found, popular),
        "two_stage_reference": _served(plain.recommend(judged.users), judged, job, popular),
    }
