"""What groups of features, loss and trees are chosen by."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.features.sets import FeatureSet, feature_names
from serving.movies import MOVIELENS_GENRES
from serving.ratings import Ratings
from serving.retrieval import Candidates
from tests.training.small import JOB, N_USERS, RECIPE, ratings_of, tastes
from training.evaluation.splits import Split, SplitProtocol, split
from training.experiments import experiment, regularization
from training.experiments.experiment import measure
from training.experiments.validation_lists import ValidationLists
from training.models.job_context import JobContext
from training.models.ranker import Groups
from training.models.ranker_groups import TooFewUsersError
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss

GROUPS = FeatureSet.REFERENCE.groups
NAMES = feature_names(GROUPS, MOVIELENS_GENRES)
JOB_OF_GROUPS = replace(JOB, recipe=replace(RECIPE, feature_groups=GROUPS))


def listed(*movie_rows: int) -> Candidates:
    return Candidates(np.array(movie_rows, np.int32), np.zeros(len(movie_rows), np.float32))


@pytest.fixture
def lists() -> ValidationLists:
    """Three users: one likes the second of two candidates, one none of one, one both of two and a third."""
    rows = np.arange(5)[:, None] + np.arange(len(NAMES)) / 100
    judged = Split(
        train=tastes(),
        users=np.array([4, 5, 9], np.int32),
        relevant=tuple(np.array(liked, np.int32) for liked in ([3], [8], [1, 2, 6])),
        eligible=3,
    )
    groups = Groups(np.asfortranarray(rows[:2], np.float32), np.ones(2, np.float32), np.array([0, 1]))
    return ValidationLists(
        JOB_OF_GROUPS, judged, groups, [listed(7, 3), listed(0), listed(2, 1)], rows.astype(np.float32)
    )


def test_users_who_like_none_of_their_candidates_do_not_choose(lists: ValidationLists) -> None:
    whole = lists.lists_with(GROUPS)
    assert whole.labels.tolist() == [0, 1, 1, 1]
    assert whole.group_ids.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(whole.features, lists.features[[0, 1, 3, 4]])


def test_columns_are_those_of_the_groups(lists: ValidationLists) -> None:
    (retrieval,) = (group for group in GROUPS if group.NAME == "retrieval")
    column = [NAMES.index("als_score")]
    whole, groups = lists.lists_with((retrieval,)), lists.groups_with((retrieval,))
    assert whole.features.tolist() == lists.features[[0, 1, 3, 4]][:, column].tolist()
    assert groups.features.tolist() == lists.learned_from.features[:, column].tolist()


def test_scores_order_each_list_by_itself(lists: ValidationLists) -> None:
    """The first user's like is first or second, the last has two of three likes at the top."""
    of_two_of_three = (1 + 1 / np.log2(3)) / (1 + 1 / np.log2(3) + 1 / 2)
    for scores, of_first in (([0.0, 9, 1, 5, 5], 1), ([9.0, 0, 1, 5, 5], 1 / np.log2(3))):
        np.testing.assert_allclose(lists.ndcg_of(np.array(scores)), [of_first, 0, of_two_of_three])


def test_it_is_cut_and_labelled_by_user_where_time_judges_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = tastes()
    by_time = replace(JOB_OF_GROUPS, recipe=replace(JOB_OF_GROUPS.recipe, protocol=SplitProtocol.TIME))
    few = ValidationLists.of(ratings, by_time)
    assert few.job.recipe.protocol is SplitProtocol.USER
    assert few.judged.users.tolist() == split(ratings, SplitProtocol.USER).users.tolist()
    assert 2 * N_USERS < np.unique(few.learned_from.group_ids).size <= 3 * N_USERS  # of three cuts
    monkeypatch.setattr(regularization, "ENOUGH_USERS", 1)
    assert ValidationLists.of(ratings, by_time).job.recipe.protocol is SplitProtocol.TIME


def short(n_ratings: int) -> Ratings:
    return ratings_of(*([(user % 5 + i, 5.0, i) for i in range(n_ratings)] for user in range(20)))


def likes_apart() -> Ratings:
    """Likes before 51 % and after 80 % of each history: three cuts find some, the validation part none."""
    return ratings_of(
        *([((user + i) % 60, 5.0 if i < 20 or i >= 32 else 1.0, i) for i in range(40)] for user in range(20))
    )


def test_there_is_nothing_where_histories_are_too_short() -> None:
    found = ValidationLists.of(short(2), JOB_OF_GROUPS)
    assert found.features.shape == (0, len(NAMES))
    assert found.lists_with(GROUPS).labels.size == found.judged.users.size == 0
    with pytest.raises(TooFewUsersError):
        ValidationLists.prepared(split(short(2), SplitProtocol.USER), JOB_OF_GROUPS)


def test_there_is_nothing_to_choose_by_where_nobody_is_judged() -> None:
    found = ValidationLists.of(split(likes_apart(), SplitProtocol.USER).train, JOB_OF_GROUPS)
    assert found.lists_with(GROUPS).labels.size == 0
    assert measure(likes_apart(), JOB_OF_GROUPS).choice.validation_ndcg == {}


def test_a_ranker_is_chosen_by_lists_that_it_did_not_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def remembered(groups: Groups, validation: Groups, job: JobContext) -> RankerChoice:
        seen.update(groups=groups, validation=validation, names=job.recipe.feature_groups)
        return RankerChoice(Loss.LOGLOSS, 5, validation_ndcg={})

    monkeypatch.setattr(experiment, "choose_ranker", remembered)
    ratings = tastes()
    measure(ratings, JOB_OF_GROUPS)
    expected = ValidationLists.of(split(ratings, SplitProtocol.USER).train, JOB_OF_GROUPS)
    np.testing.assert_array_equal(seen["groups"].features, expected.groups_with(GROUPS).features)
    np.testing.assert_array_equal(seen["validation"].features, expected.lists_with(GROUPS).features)
    assert seen["names"] == GROUPS
