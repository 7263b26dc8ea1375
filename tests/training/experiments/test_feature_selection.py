"""Groups of features that pay are kept, and noise is not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.features.sets import FeatureGroups, FeatureSet, groups_of_names, names_of_groups
from serving.ratings import Ratings
from tests.training.small import HERE, JOB, N_USERS, PROGRESS, RECIPE, tastes
from training.checkpoints import Arrays, Checkpoints
from training.data.movielens.data_set import read_data_set
from training.experiments import feature_selection
from training.experiments.feature_selection import FeatureSelection, affordable, choose_feature_groups
from training.experiments.validation_lists import ValidationLists
from training.models.job_context import JobContext
from training.models.recipe import RankerParameters

OF_ORDER = ("transitions", "time")
"""Groups that look at order. Where it is chance, transitions still tell what is rated by the same users."""


@pytest.fixture(scope="module")
def job(generated: Path) -> JobContext:
    table, _ = read_data_set(generated)
    groups = (*FeatureSet.REFERENCE.groups, *groups_of_names(["place", *OF_ORDER]))
    ranker = RankerParameters(learning_rate=0.1, depth=4)
    recipe = replace(RECIPE, ranker=ranker, feature_groups=groups, choose_features=True, threads=2)
    return JobContext(table, recipe, PROGRESS, HERE)


def chosen(ratings: Ratings, job: JobContext) -> FeatureSelection:
    return choose_feature_groups(ValidationLists.of(ratings, job))


def ratings_of_sample(generated: Path) -> Ratings:
    return read_data_set(generated)[1].ratings


def without_order(ratings: Ratings) -> Ratings:
    """The same ratings of each user, in an order that chance made, and so are the times."""
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(ratings)), ratings.user_rows()))
    times = rng.integers(ratings.times.min(), ratings.times.max(), len(ratings))
    return replace(
        ratings,
        movie_rows=ratings.movie_rows[order],
        values=ratings.values[order],
        times=times[np.lexsort((times, ratings.user_rows()))],
    )


@pytest.mark.long
def test_what_pays_is_kept_and_noise_is_not(
    generated: Path, job: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One movie leads to the next in the sample, and the times say nothing when it was shuffled."""
    monkeypatch.setattr(feature_selection, "_TREES", 50)
    ratings = ratings_of_sample(generated)
    ordered, shuffled = (chosen(one, job) for one in (ratings, without_order(ratings)))
    assert "transitions" in names_of_groups(ordered.groups)
    assert "time" not in names_of_groups(shuffled.groups)
    for found in (ordered, shuffled):
        assert found.users > 300
        assert {one.name for one in found.gains} == set(OF_ORDER)
        kept = {one.name for one in found.gains if one.kept}
        assert names_of_groups(found.groups) == tuple(
            name for name in names_of_groups(job.recipe.feature_groups) if name not in set(OF_ORDER) - kept
        )


def planted(
    monkeypatch: pytest.MonkeyPatch, ndcg: Mapping[tuple[str, ...], Sequence[float]], order: Sequence[str]
) -> FeatureSelection:
    """The choice where each set of groups besides those that always stay reaches what is given for it."""
    always = FeatureSet.COMPACT.groups[:5]

    def tried(lists: ValidationLists, groups: FeatureGroups) -> Arrays:
        assert groups[:5] == always
        importance = [order.index(group.NAME) if group.NAME in order else 0 for group in groups]
        columns = [lists.columns((group,)).sum() for group in groups]
        return {
            "ndcg": np.array(ndcg[names_of_groups(groups[5:])]),
            "importance": np.repeat(np.array(importance, np.float64) / columns, columns),
        }

    monkeypatch.setattr(feature_selection, "ENOUGH_USERS", 0)
    monkeypatch.setattr(feature_selection, "affordable", lambda lists: lists)
    monkeypatch.setattr(feature_selection, "tried", tried)
    groups = (*always, *groups_of_names(sorted(order)))
    return chosen(tastes(), replace(JOB, recipe=replace(RECIPE, feature_groups=groups)))


def test_a_group_goes_if_lists_are_as_good_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first, half of four users lose 0.2: 0.1 in the mean, and half of that is the error."""
    reached = {
        ("ease", "genre", "time"): [0.5] * 4,
        ("genre", "time"): [0.5, 0.3] * 2,
        ("ease", "genre"): [0.54, 0.5, 0.5, 0.46],
        ("ease",): [0.5, 0.5, 0.5, 0.46],
    }
    found = planted(monkeypatch, reached, ["ease", "time", "genre"])
    assert names_of_groups(found.groups[5:]) == ("ease", "genre")
    ease, time, genre = found.gains
    assert (ease.name, ease.kept, time.name, time.kept) == ("ease", True, "time", False)
    assert ease.gain == pytest.approx(0.1)
    assert ease.standard_error == pytest.approx(0.05)
    assert time.gain == pytest.approx(0)
    assert genre.kept
    assert genre.gain == pytest.approx(0.01)  # of the set without time


def test_with_few_users_nothing_is_tried() -> None:
    recipe = replace(RECIPE, feature_groups=FeatureSet.EXTENDED.groups)
    found = chosen(tastes(), replace(JOB, recipe=recipe))
    assert found.groups == FeatureSet.COMPACT.groups
    assert found.gains == ()
    assert found.users == N_USERS


def test_seconds_are_estimated_and_bound_what_rankers_learn_from(
    few_generated: Path, job: JobContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished steps are not done again, and the choice is the same."""
    monkeypatch.setattr(feature_selection, "ENOUGH_USERS", 0)
    recipe = replace(job.recipe, ranker=replace(job.recipe.ranker, selection_seconds=0.03))
    kept = replace(job, recipe=recipe, checkpoints=Checkpoints.of(tmp_path, "test", "key"))
    ratings = ratings_of_sample(few_generated)
    monkeypatch.setattr(feature_selection, "ranker_seeds", lambda seed: range(seed, seed + 1))
    lists = affordable(ValidationLists.of(ratings, replace(job, recipe=recipe)))
    assert 6 <= np.unique(lists.learned_from.group_ids).size < 50
    once = chosen(ratings, kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.experiments.feature_selection.fit_ranker", None)
        again = chosen(ratings, kept)
    assert once == again
