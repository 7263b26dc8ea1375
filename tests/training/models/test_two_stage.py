"""The ranker's training: nothing of the future but labels, and the same choice every time."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.features.sets import FeatureSet, feature_names
from serving.ids import Rows
from serving.movies import MOVIELENS_GENRES
from serving.ratings import LIKED, Ratings
from tests.training.small import JOB, N_MOVIES, N_USERS, RECIPE, ratings_of, tastes
from training.evaluation.splits import Split, SplitProtocol, split
from training.models import ranker_selection
from training.models.first_stage import FirstStage
from training.models.ranker import Groups, fit_ranker, mean_ranker
from training.models.ranker_groups import (
    LeakError,
    TooFewUsersError,
    inner_cuts,
    labelled_groups,
    ranker_groups,
)
from training.models.ranker_selection import LOSS_SHARE, RankerChoice, choose_ranker, estimated_seconds
from training.models.recipe import Loss, RankerParameters, Recipe, default_ranker
from training.models.two_stage import TwoStage, fit_two_stage

NAMES = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES)
ALS_SCORE = NAMES.index("als_score")


def stage_on(ratings: Ratings, recipe: Recipe = RECIPE) -> FirstStage:
    return FirstStage.fit(ratings, replace(JOB, recipe=recipe), "a test")


def groups_of(stage: FirstStage, cut: Split, *, seed: int = 0, **parameters: Any) -> Groups:
    ranker = replace(RECIPE.ranker, **parameters)
    return labelled_groups(stage, cut, ranker, rng=np.random.default_rng(seed))


def planted(n_groups: int = 12, *, seed: int = 0) -> Groups:
    """Groups of ten; the second feature says what is liked, nearly always."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(10 * n_groups) < 0.3).astype(np.float32)
    labels[::10] = 1
    features = rng.normal(size=(labels.size, len(NAMES)))
    features[:, 1] += 3 * labels
    ids = np.repeat(np.arange(n_groups), 10)
    return Groups(np.asfortranarray(features, dtype=np.float32), labels, ids)


# Leaks


def fitted(groups: Groups, loss: Loss = Loss.LOGLOSS, *, iterations: int = 5, **options: Any) -> Any:
    defaults: dict[str, Any] = {"job": JOB, "seed": 0}
    return fit_ranker(groups, loss, iterations, **(defaults | options))


def test_a_stage_that_saw_the_labels_is_refused() -> None:
    ratings = tastes()
    cut = split(ratings, SplitProtocol.USER)
    with pytest.raises(LeakError, match="its scores may know the labels"):
        groups_of(stage_on(ratings), cut)


def test_a_stage_of_another_cut_is_refused_though_it_is_as_long() -> None:
    ratings = tastes()
    one, other = split(ratings, SplitProtocol.USER), split(ratings, SplitProtocol.USER)
    with pytest.raises(LeakError):
        groups_of(stage_on(one.train), other)


def test_another_future_changes_labels_and_nothing_else() -> None:
    """The same past; in the other future, everyone likes what they disliked and the reverse."""
    ratings = tastes()
    place = np.arange(len(ratings)) - np.repeat(ratings.indptr[:-1], ratings.counts())
    turned = np.where(place < 20, ratings.values, np.where(ratings.values >= LIKED, 1, 5))
    matrices = []
    for values in (ratings.values, turned.astype(np.float32)):
        cut = split(replace(ratings, values=values), SplitProtocol.USER)
        stage = stage_on(cut.train)
        everyone = np.arange(N_USERS, dtype=np.int32)
        found = list(stage.candidates(everyone))
        matrices.append(
            np.concatenate([stage.features([user], [one]) for user, one in enumerate(found)]).tobytes()
        )
    assert matrices[0] == matrices[1]


def test_labels_are_future_likes_among_unseen_candidates_of_the_past() -> None:
    cut = split(tastes(), SplitProtocol.USER)
    stage = stage_on(cut.train)
    groups = groups_of(stage, cut, negatives=1_000)
    relevant = {int(user): rows for user, rows in zip(cut.users, cut.relevant, strict=True)}
    users = np.unique(groups.group_ids)
    assert users.size > 30
    for user, found in zip(users.tolist(), stage.candidates(users.astype(np.int32)), strict=True):
        own = groups.where(groups.group_ids == user)
        assert not np.isin(found.movie_rows, cut.train.of(user).movie_rows).any()
        assert own.labels.tolist() == np.isin(found.movie_rows, relevant[user]).tolist()
        assert own.labels.any()
        np.testing.assert_array_equal(own.features, stage.features([user], [found]))
        np.testing.assert_array_equal(own.features[:, ALS_SCORE], found.scores)


def test_all_positives_and_so_many_negatives_are_kept() -> None:
    cut = split(tastes(), SplitProtocol.USER)
    stage = stage_on(cut.train)
    everything, some = groups_of(stage, cut, negatives=1_000), groups_of(stage, cut, negatives=7)
    assert np.unique(some.group_ids).tolist() == np.unique(everything.group_ids).tolist()
    assert some.labels.sum() == everything.labels.sum()
    for user in np.unique(some.group_ids):
        assert np.count_nonzero(some.labels[some.group_ids == user] == 0) == 7
    assert some.features.flags.f_contiguous
    assert groups_of(stage, cut, negatives=7).features.tobytes() == some.features.tobytes()
    assert groups_of(stage, cut, negatives=7, seed=1).features.tobytes() != some.features.tobytes()


def test_no_more_groups_than_asked_for_in_all_cuts_together() -> None:
    recipe = replace(RECIPE, protocol=SplitProtocol.TIME)
    bounded = replace(recipe, ranker=replace(recipe.ranker, max_users=20))
    counts = []
    for one in (recipe, bounded, bounded):
        groups, _ = ranker_groups(tastes(), replace(JOB, recipe=one))
        counts.append(np.unique(groups.group_ids).size)
    assert counts[0] > 60
    assert 10 <= counts[1] <= 20
    assert counts[2] == counts[1]


def test_nobody_with_a_future_gives_no_groups() -> None:
    cut = split(tastes(), SplitProtocol.USER)
    nobody = replace(cut, users=cut.users[:0], relevant=())
    groups = groups_of(stage_on(cut.train), nobody)
    assert groups.features.shape == (0, len(NAMES))


# Cuts and groups


def test_inner_cuts_are_of_the_same_kind() -> None:
    past = tastes()
    by_user = inner_cuts(past, SplitProtocol.USER, enough=1_000)
    assert [cut.train.counts().tolist() for cut in by_user] == [[kept] * N_USERS for kept in (15, 17, 20)]
    untimed = replace(past, times=np.zeros_like(past.times))
    assert [cut.train.counts().tolist() for cut in inner_cuts(untimed, SplitProtocol.USER, enough=1_000)] == [
        [20] * N_USERS
    ]
    shares = [len(cut.train) / len(past) for cut in inner_cuts(past, SplitProtocol.TIME, enough=1_000)]
    np.testing.assert_allclose(shares, [0.5, 0.6, 0.7, 0.8, 0.9], atol=0.01)


@pytest.mark.parametrize(("enough", "expected"), [(10, [0.8]), (60, [0.8, 0.9]), (110, [0.7, 0.8, 0.9])])
def test_there_are_as_many_cuts_by_time_as_give_enough_users(enough: int, expected: list[float]) -> None:
    past = tastes()
    cuts = inner_cuts(past, SplitProtocol.TIME, enough=enough)
    np.testing.assert_allclose([len(cut.train) / len(past) for cut in cuts], expected, atol=0.01)
    assert sum(cut.users.size for cut in cuts) >= enough


def test_stacked_groups_stay_apart() -> None:
    one, other = planted(3), planted(2, seed=1)
    stacked = Groups.stacked([one, Groups.of_lists([], [], [], n_features=one.features.shape[1]), other])
    assert np.unique(stacked.group_ids).size == 5
    assert np.all(np.diff(stacked.group_ids) >= 0)
    np.testing.assert_array_equal(stacked.features, np.concatenate([one.features, other.features]))
    np.testing.assert_array_equal(stacked.labels, np.concatenate([one.labels, other.labels]))


# The choice


def chosen(groups: Groups | None = None, validation: Groups | None = None, **parameters: Any) -> RankerChoice:
    """The choice on planted groups, with these parameters of the ranker."""
    recipe = replace(RECIPE, ranker=replace(RECIPE.ranker, **parameters))
    return choose_ranker(groups or planted(), validation or planted(seed=1), replace(JOB, recipe=recipe))


def test_the_choice_is_the_same_every_time_and_on_the_grid() -> None:
    one, other = (chosen(iterations=150, depth=2) for _ in range(2))
    assert one == other
    assert one.iterations in {50, 100, 150}
    assert set(one.validation_ndcg) == set(Loss)
    assert all(0.8 < quality <= 1 for quality in one.validation_ndcg.values())


@pytest.mark.parametrize("loss", list(Loss))
def test_a_long_list_counts_no_more_than_a_short_one(loss: Loss) -> None:
    """Twenty lists of ten like what the second feature says, and one of a thousand the opposite."""
    short, long = planted(20), planted(100, seed=1)
    opposite = Groups(long.features, 1 - long.labels, np.zeros_like(long.group_ids))
    ranker = fitted(Groups.stacked([short, opposite]), loss, iterations=20)
    scores = ranker.predict(short.features, "RawFormulaVal")
    assert np.corrcoef(scores, short.labels)[0, 1] > 0.5


@pytest.mark.parametrize(
    ("ends", "trees"), [((0.5, 0.5), 300), ((0.4, 0.6), 300), ((0.4, 0.4), 100), ((0.6, 0.6), 300)]
)
def test_more_trees_are_taken_unless_fewer_are_clearly_better(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[float, float], trees: int
) -> None:
    """All lists reach half with 150 trees; with more, every other list reaches one of two planted ends."""
    planted_qualities(monkeypatch, 4 * [3 * [0.5] + 3 * [end] for end in ends])
    assert chosen(iterations=300, depth=1, only_loss=Loss.LOGLOSS).iterations == trees


def test_of_many_groups_one_ranker_says_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def counted(*arguments: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return fit_ranker(*arguments, seed=seed, **options)

    monkeypatch.setattr(ranker_selection, "fit_ranker", counted)
    chosen(only_loss=Loss.LOGLOSS)
    assert seeds == [0, 1, 2]
    monkeypatch.setattr(ranker_selection, "_FEW_GROUPS", 12)
    chosen(only_loss=Loss.LOGLOSS)
    assert seeds == [0, 1, 2, 0]


@pytest.mark.parametrize("loss", list(Loss))
def test_a_loss_that_was_asked_for_is_the_only_one_tried(loss: Loss) -> None:
    free = chosen(iterations=100, depth=2)
    only = chosen(iterations=100, depth=2, only_loss=loss)
    assert only.loss is loss
    assert only.validation_ndcg == {loss: free.validation_ndcg[loss]}


@pytest.mark.parametrize("loss", list(Loss))
def test_a_fit_stops_early_where_the_validation_part_gains_nothing(loss: Loss) -> None:
    parameters = RankerParameters(iterations=400, depth=2, early_stopping_rounds=5)
    learned, held_out = planted(12), planted(6, seed=1)
    stopped, whole = (
        fitted(learned, loss, iterations=400, job=JOB.with_recipe(ranker=parameters), held_out=groups)
        for groups in (held_out, None)
    )
    assert whole.tree_count_ == 400
    assert 5 < stopped.tree_count_ < 400
    early, late = (
        chosen(iterations=300, depth=2, only_loss=loss, early_stopping_rounds=rounds) for rounds in (1, None)
    )
    assert late.curves[0].trees[-1] == 300
    assert early.curves[0].trees == (50,)  # no later trees to judge, and none to take
    assert early.iterations == 50


def test_below_the_step_of_the_grid_all_trees_are_used() -> None:
    assert chosen().iterations == RECIPE.ranker.iterations


def test_the_most_trees_are_tried_though_they_are_no_multiple_of_the_step() -> None:
    (curve,) = chosen(iterations=120, depth=1, only_loss=Loss.LOGLOSS).curves
    assert curve.trees == (50, 100, 120)


@pytest.mark.parametrize(
    ("n_ratings", "seconds"), [(100, 30), (300_000, 30), (1_000_000, 100), (20_000_000, 300)]
)
def test_there_are_more_seconds_for_choosing_where_there_are_more_ratings(
    n_ratings: int, seconds: float
) -> None:
    assert default_ranker(n_ratings) == replace(RankerParameters(), selection_seconds=seconds)


def planted_qualities(monkeypatch: pytest.MonkeyPatch, *qualities: list[list[float]]) -> None:
    """Lets fits reach these on the validation part in turn, each shape (n_lists, n_numbers_of_trees)."""
    left = iter(np.array(quality) for quality in qualities)
    fit = SimpleNamespace(tree_count_=RankerParameters().iterations)
    monkeypatch.setattr(ranker_selection, "fit_ranker", lambda *_, **__: fit)
    monkeypatch.setattr(ranker_selection, "ndcg_by_trees", lambda *_: next(left))


def test_logloss_unless_yetirank_is_clearly_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quality of each loss is planted: lists differ by luck, and YetiRank by what is added."""
    luck = np.random.default_rng(0).normal(0.5, 0.1, (12, 1))
    for added, expected in ((-0.2, Loss.LOGLOSS), (0.0, Loss.LOGLOSS), (0.2, Loss.YETI_RANK)):
        planted_qualities(monkeypatch, luck.tolist(), (luck[::-1] + added).tolist())
        assert chosen().loss is expected


def test_losses_are_compared_by_the_means_that_trees_are_chosen_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """YetiRank leads with 300 trees alone: the mean over that and its neighbours is .467, the others' .45."""
    planted_qualities(monkeypatch, 4 * [6 * [0.5]], 4 * [[0.45, 0.45, 0.45, 0.45, 0.2, 0.6]])
    choice = chosen(iterations=300, depth=1)
    assert choice.validation_ndcg == pytest.approx({Loss.LOGLOSS: 0.5, Loss.YETI_RANK: 1.4 / 3})
    assert choice.loss is Loss.LOGLOSS


def test_yetirank_is_tried_where_there_are_seconds_for_it() -> None:
    """As many as are estimated, whatever a clock says: the choice is the same on any machine."""
    groups = planted()
    seconds = 3 * estimated_seconds(Loss.YETI_RANK, groups, RECIPE.ranker.iterations)
    assert estimated_seconds(Loss.LOGLOSS, groups, 20) < seconds / 9
    for share, expected in ((1.01, set(Loss)), (0.99, {Loss.LOGLOSS})):
        choice = chosen(groups, selection_seconds=share * seconds / LOSS_SHARE)
        assert set(choice.validation_ndcg) == expected


@pytest.mark.parametrize(
    ("ends", "tried"),
    [((0.4,), 300), ((0.9, 0.4), 600), ((0.9, 0.95, 0.4), 1_200), ((0.9, 0.95, 1.0), 1_200)],
)
def test_there_are_more_trees_while_the_curve_rises(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[float, ...], tried: int
) -> None:
    """Each fit reaches half in the first half of its trees, and then what is planted."""
    qualities = []
    for fit, end in enumerate(ends):
        n_numbers = 6 * 2**fit
        curve = np.linspace(0.5, end, n_numbers // 2 + 1)
        qualities.append(4 * [[0.5] * (n_numbers - curve.size) + curve.tolist()])
    planted_qualities(monkeypatch, *qualities)
    choice = chosen(iterations=1_200, depth=1, only_loss=Loss.LOGLOSS)
    assert choice.curves[0].trees[-1] == tried
    assert (choice.iterations == tried) == (ends[-1] > 0.5)


def test_the_lists_that_are_chosen_by_are_not_learned_from() -> None:
    """Labels that are pure chance: whoever learned them would find them again."""
    rng = np.random.default_rng(5)
    groups, lists = (
        replace(one, features=np.asfortranarray(rng.normal(size=one.features.shape), np.float32))
        for one in (planted(30), planted(30, seed=1))
    )
    assert max(chosen(groups, lists).validation_ndcg.values()) < 0.75
    assert min(chosen(planted(30)).validation_ndcg.values()) > 0.9


def test_the_sum_of_the_rankers_is_judged() -> None:
    """The other ranker has the opposite order, and twice the trees."""
    groups = planted(30)
    rankers = [
        fitted(replace(groups, labels=labels), iterations=trees)
        for labels, trees in ((groups.labels, 5), (1 - groups.labels, 10))
    ]
    lists = planted(30, seed=1)
    of_one, of_both = (ranker_selection.ndcg_by_trees(r, lists, [5, 10]) for r in (rankers[:1], rankers))
    assert of_one.shape == of_both.shape == (30, 2)
    assert of_one[:, 1].mean() > 0.9
    assert of_both[:, 1].mean() < 0.7


@pytest.mark.parametrize("too_few", ["groups", "validation"])
def test_without_anybody_to_choose_by_there_are_200_trees_of_logloss(too_few: str) -> None:
    choice = chosen(**{too_few: planted(5)}, iterations=1_200)
    assert choice == RankerChoice(Loss.LOGLOSS, 200, validation_ndcg={})
    assert chosen(**{too_few: planted(5)}, only_loss=Loss.YETI_RANK) == RankerChoice(
        Loss.YETI_RANK, RECIPE.ranker.iterations, validation_ndcg={}
    )


@pytest.mark.parametrize("more", [[], [(9, 1.0, 30)]], ids=["one rating each, no past", "no likes to come"])
def test_ratings_that_give_no_group_are_the_same_error(more: list[tuple[int, float, int]]) -> None:
    ratings = ratings_of(*[[(user % 5, 5.0, user), *more] for user in range(20)])
    with pytest.raises(TooFewUsersError, match="only 0 lists of candidates give the ranker something to"):
        ranker_groups(ratings, JOB)


@pytest.mark.parametrize("loss", list(Loss))
def test_the_ranker_puts_likes_first_and_leaves_its_input_alone(loss: Loss) -> None:
    groups = planted(30)
    before = groups.features.copy()
    models = [fitted(groups, loss, iterations=20) for _ in range(2)]
    scores = [model.predict(planted(30, seed=1).features, "RawFormulaVal") for model in models]
    assert scores[0].tolist() == scores[1].tolist()
    liked = planted(30, seed=1).labels > 0
    assert scores[0][liked].mean() > scores[0][~liked].mean() + 0.5
    assert groups.features.flags.writeable
    np.testing.assert_array_equal(groups.features, before)
    assert models[0].feature_names_ == list(NAMES)


def test_the_mean_of_rankers_has_their_mean_scores() -> None:
    rankers = [fitted(planted(30), seed=seed) for seed in (1, 2)]
    features = planted(30, seed=1).features
    first, second, mean = (one.predict(features, "RawFormulaVal") for one in (*rankers, mean_ranker(rankers)))
    assert first.tolist() != second.tolist()
    np.testing.assert_allclose(mean, (first + second) / 2, rtol=0, atol=1e-12)


# The whole


@pytest.fixture(scope="module")
def two_stage() -> TwoStage:
    choice = RankerChoice(loss=Loss.LOGLOSS, iterations=20, validation_ndcg={})
    return fit_two_stage(tastes(), JOB, choice)


def test_the_final_stage_saw_all_of_the_past(two_stage: TwoStage) -> None:
    assert two_stage.stage.ratings.values.size == len(tastes())
    expected = stage_on(tastes())
    np.testing.assert_array_equal(two_stage.stage.als.item_factors, expected.als.item_factors)
    assert two_stage.groups > 30


def test_who_was_not_to_be_recommended_to_is_an_error() -> None:
    choice = RankerChoice(loss=Loss.LOGLOSS, iterations=5, validation_ndcg={})
    some = np.array([3, 7], dtype=np.int32)
    model = fit_two_stage(tastes(), JOB, choice, users=some)
    assert all(ours.size for ours in model.recommend(some))
    with pytest.raises(ValueError, match="vectors were not solved for"):
        model.recommend(np.array([3, 4], dtype=np.int32))


def test_recommendations_are_the_candidates_in_the_rankers_order(two_stage: TwoStage) -> None:
    users = np.arange(N_USERS, dtype=np.int32)
    found = list(two_stage.stage.candidates(users))
    for user, ours, candidates in zip(users, two_stage.recommend(users), found, strict=True):
        features = two_stage.stage.features([int(user)], [candidates])
        scores = two_stage.ranker.predict(features, prediction_type="RawFormulaVal")
        pairs = zip(scores.tolist(), candidates.movie_rows.tolist(), strict=True)
        assert ours.tolist() == [row for _, row in sorted((-score, row) for score, row in pairs)]


def test_a_user_without_a_vector_gets_an_empty_list() -> None:
    users = [
        list(zip(tastes().of(user).movie_rows, [4.5, 2.0] * 13, range(25), strict=False)) for user in (0, 1)
    ]
    ratings = ratings_of(*[[(int(r), v, t) for r, v, t in user] for user in users], [(0, 1.0, 5)])
    stage = stage_on(ratings)
    choice = RankerChoice(Loss.LOGLOSS, 5, {})
    model = TwoStage(stage, fitted(planted()), choice, groups=1, inner_scores=np.empty(0, np.float32))
    lists: list[Rows] = model.recommend(np.array([2, 0], dtype=np.int32))
    assert lists[0].size == 0
    assert lists[1].size > 0
    assert lists[1].max() < N_MOVIES
