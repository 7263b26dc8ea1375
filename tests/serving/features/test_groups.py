"""Features on four movies whose numbers can be checked by hand."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serving.features.ease import EaseFeatures
from serving.features.group import CatalogueArrays, FeatureQuery, ProbeContext
from serving.features.movie import MovieFeatures
from serving.features.pace import PaceFeatures, user_pace
from serving.features.sets import ALL_GROUPS, FeatureSet, feature_hash, feature_names
from serving.features.tables import FeatureTables
from serving.features.time import RECENT_SECONDS
from serving.features.transitions import TransitionFeatures
from serving.features.user import UserFeatures, user_statistics
from serving.ids import IdMap
from serving.movies import MOVIELENS_GENRES, Movies, genre_bits
from serving.ratings import EMPTY_HISTORY, NO_TIME, History

_IN_ORDER = """
    user_avg_rating user_rating_std user_num_ratings user_min_rating user_max_rating user_activity_days
    user_rating_velocity
    movie_avg_rating movie_rating_std movie_num_ratings movie_num_users movie_popularity year movie_age decade
    title_length num_genres
    genre_no_genres_listed genre_action genre_adventure genre_animation genre_children genre_comedy
    genre_crime genre_documentary genre_drama genre_fantasy genre_film_noir genre_horror genre_imax
    genre_musical genre_mystery genre_romance genre_sci_fi genre_thriller genre_war genre_western
    als_score
"""
REFERENCE = _IN_ORDER.split()
"""The 38 of the reference, in its order."""

DAY = 86_400
YEAR_2000 = 30 * 31_556_952
"""Thirty mean years after 1970."""

NAN = float("nan")

MOVIE_NAMES = [feature.name for feature in MovieFeatures.features_for(MOVIELENS_GENRES)]
USER_NAMES = [feature.name for feature in UserFeatures.FEATURES + PaceFeatures.FEATURES]


def movie_values() -> npt.NDArray[np.float32]:
    """Every column tells movie and column apart."""
    return np.arange(4 * len(MOVIE_NAMES), dtype=np.float32).reshape(4, -1)


def arrays() -> Mapping[str, Mapping[str, npt.NDArray[Any]]]:
    """Of each group that has any."""
    return {
        "movie": {"values": movie_values()},
        # 0 leads to 1 (0.5) and 2 (0.25); 1 to 0 (1); 2 to nothing; 3 to 1 (2) and 2 (4)
        "transitions": {
            "indptr": np.array([0, 2, 3, 3, 5]),
            "movie_rows": np.array([1, 2, 0, 1, 2], np.int32),
            "weights": np.array([0.5, 0.25, 1, 2, 4], np.float32),
        },
        # who likes 0, likes 1 (0.5) and rather not 2 (-0.25); who likes 3, likes 2 (1)
        "ease": {
            "sources": np.array([[0, 0], [0, 0], [0, 3], [0, 0]], np.int32),
            "weights": np.array([[0, 0], [0.5, 0], [-0.25, 1], [0, 0]], np.float32),
        },
        "time": {
            "first_times": np.array([YEAR_2000 - 5 * DAY, YEAR_2000, np.nan, YEAR_2000 + DAY / 2]),
            "recent_ratings": np.arange(12, dtype=np.int32).reshape(4, 3),
            "span": np.array([YEAR_2000 - RECENT_SECONDS, YEAR_2000 + RECENT_SECONDS]),
        },
    }


def tables(feature_set: FeatureSet = FeatureSet.EXTENDED) -> FeatureTables:
    """Action, both, none listed, Comedy; of 1990, 2000, an unknown year, 2010."""
    genres = (["Action"], ["Action", "Comedy"], ["(no genres listed)"], ["Comedy"])
    catalogue = CatalogueArrays(
        Movies(
            ids=IdMap([10, 20, 30, 40]),
            years=np.array([1990, 2000, 0, 2010], np.int16),
            genre_bits=np.array([genre_bits(names) for names in genres], np.uint64),
        ),
        np.array([[1, 0], [0, 1], [0, 0], [0.6, 0.8]], dtype=np.float32),
    )
    groups = (
        group(catalogue, **arrays().get(group.__module__.rpartition(".")[2], {}))
        for group in feature_set.groups
    )
    return FeatureTables(catalogue, tuple(groups))


def history(movie_rows: Sequence[int], values: Sequence[float], times: Sequence[int]) -> History:
    return History(np.array(movie_rows, np.int32), np.array(values, np.float32), np.array(times, np.int64))


def computed(
    of: History,
    movie_rows: list[int],
    scores: list[float],
    feature_set: FeatureSet = FeatureSet.EXTENDED,
    probe_context: ProbeContext | None = None,
) -> Mapping[str, list[float]]:
    """Columns by name."""
    query = asked(of, movie_rows, scores, probe_context)
    matrix = tables(feature_set).compute([query])
    return dict(zip(feature_names(feature_set.groups, MOVIELENS_GENRES), matrix.T.tolist(), strict=True))


def asked(
    of: History, movie_rows: list[int], scores: list[float], probe_context: ProbeContext | None = None
) -> FeatureQuery:
    return FeatureQuery(of, np.array(movie_rows, np.int32), np.array(scores, np.float32), probe_context)


RATED = history([3, 0], [2, 5], [YEAR_2000 - DAY, YEAR_2000])
"""A bad comedy, then a good action film."""

SCORES = np.array([3, 2, 1], dtype=np.float32)


# Names


def test_extended_features_come_after_those_of_the_reference() -> None:
    assert len(REFERENCE) == 38
    assert list(feature_names(FeatureSet.REFERENCE.groups, MOVIELENS_GENRES)) == REFERENCE
    extended = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES)
    assert list(extended[:38]) == REFERENCE
    assert len(set(extended)) == len(extended)


def test_published_bundles_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other hashes refuse every bundle there is: change these when that is what you want."""
    assert {name: feature_hash(name.groups, MOVIELENS_GENRES) for name in FeatureSet} == {
        FeatureSet.REFERENCE: "4c0cda65fbb394bc",
        FeatureSet.COMPACT: "2419a9bbb71e87b8",
        FeatureSet.EXTENDED: "2c84f8b990df9420",
        FeatureSet.UNTIMED: "12ed26080d58584e",
    }
    monkeypatch.setattr(TransitionFeatures, "VERSION", 99)
    assert feature_hash(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES) != "2c84f8b990df9420"
    others = feature_hash(FeatureSet.EXTENDED.groups, ("(no genres listed)", "Family"))
    assert others != feature_hash(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES)


def test_features_of_the_genres_follow_the_catalogue() -> None:
    genres = ("(no genres listed)", "Sci-Fi & Fantasy", "Драма", "Taste", "sci fi, {fantasy}")
    features = MovieFeatures.features_for(genres)[len(MovieFeatures.FEATURES) :]
    flags = "genre_no_genres_listed genre_sci_fi_fantasy genre__2 genre_taste__3 genre_sci_fi_fantasy__4"
    assert [feature.name for feature in features] == flags.split()
    assert features[4].phrase.format(value=1, movie="") == "of the genre sci fi, {fantasy}"
    for feature_set in FeatureSet:
        names = feature_names(feature_set.groups, genres)
        assert len(set(names)) == len(names)


def test_untimed_features_say_nothing_of_order_or_time() -> None:
    columns = computed(RATED, [2, 0], [0.5, -1.5], FeatureSet.UNTIMED)
    of_all = computed(RATED, [2, 0], [0.5, -1.5])
    without = [name for name in REFERENCE if name not in {"user_activity_days", "user_rating_velocity"}]
    of_sources = ["transitions_reciprocal_rank", "popularity_reciprocal_rank"]
    assert list(columns) == [*without, "als_rank", "als_z", *of_sources, "ease_likes", "genre_taste"]
    for name, values in columns.items():
        np.testing.assert_array_equal(values, of_all[name])


# User features


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (EMPTY_HISTORY, [NAN, NAN, 0, NAN, NAN, 0, 0]),
        (history([0], [3.5], [100]), [3.5, 0, 1, 3.5, 3.5, 0, 1]),
        (history([0, 1], [2, 5], [0, 4 * DAY]), [3.5, 4.5**0.5, 2, 2, 5, 4, 0.5]),
        (history([0, 1, 2], [1, 3, 5], [0, 10, DAY // 2]), [3, 2, 3, 1, 5, 0.5, 3]),
        (history([0, 1, 2], [1, 3, 5], [0, 2 * DAY, NO_TIME]), [3, 2, 3, 1, 5, 2, 1.5]),
        (history([0, 1], [1, 1], [NO_TIME, NO_TIME]), [1, 0, 2, 1, 1, 0, 2]),
    ],
    ids=["no ratings", "one", "two", "within a day", "one of unknown time", "unknown times"],
)
def test_user_features(of: History, expected: list[float]) -> None:
    features = user_features(of)
    assert features.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(features, np.array(expected, dtype=np.float32))


def user_features(of: History) -> npt.NDArray[np.float32]:
    """Statistics and pace."""
    return np.concatenate([user_statistics(of), user_pace(of)])


# The matrix


def test_user_movie_and_score_columns_of_the_reference() -> None:
    columns = computed(RATED, [2, 0], [0.5, -1.5], FeatureSet.REFERENCE)
    assert list(columns) == REFERENCE
    for name, value in zip(USER_NAMES, user_features(RATED).tolist(), strict=True):
        assert columns[name] == [value, value]
    for column, name in enumerate(MOVIE_NAMES):
        np.testing.assert_array_equal(columns[name], movie_values()[[2, 0], column])
    assert columns["als_score"] == [0.5, -1.5]


def test_place_in_the_list() -> None:
    columns = computed(RATED, [3, 1, 2, 0], [1, 3, 1, -1])
    assert columns["als_rank"] == [3, 1, 2, 4]  # 2 and 3 tie
    deviation = 2**0.5  # mean 1, squares 0 4 0 4
    np.testing.assert_allclose(columns["als_z"], [0, 2 / deviation, 0, -2 / deviation], rtol=1e-6)


def test_equal_scores_and_empty_lists_do_not_deviate() -> None:
    for movie_rows, scores in (([1], [3.0]), ([0, 1], [2.0, 2.0])):
        assert set(computed(RATED, movie_rows, scores)["als_z"]) == {0}
    against = ProbeContext(np.array([7]), np.empty(0, dtype=np.float32))
    assert computed(RATED, [3], [0.5], probe_context=against)["als_z"] == [0]


def test_a_movie_that_is_held_against_a_list() -> None:
    against = ProbeContext(np.array([301]), np.array([3, 2, 1], dtype=np.float32))
    columns = computed(RATED, [3], [0.5], probe_context=against)
    assert (columns["als_score"], columns["als_rank"]) == ([0.5], [301])
    np.testing.assert_allclose(columns["als_z"], -1.5 / np.std([3, 2, 1]), rtol=1e-6)


def test_a_movie_of_the_list_held_against_it_has_its_own_features() -> None:
    scores = [0.25, 4, 2, 1]
    listed = computed(RATED, [0, 1, 2, 3], scores)
    for row, rank in enumerate([4, 1, 2, 3]):
        against = ProbeContext(np.array([rank]), np.array(scores, dtype=np.float32))
        alone = computed(RATED, [row], [scores[row]], probe_context=against)
        for name, values in listed.items():
            np.testing.assert_array_equal(alone[name], values[row : row + 1], err_msg=name)


def test_transitions_from_the_last_movies() -> None:
    """Last 0; before it 3; before that four times 2, then 1, as if rated again and again."""
    older = history([1, 2, 2, 2, 3, 0], [3] * 6, [0, 1, 2, 3, 4, 5])
    columns = computed(older, [0, 1, 2, 3], [0] * 4)
    assert columns["trans_last1"] == [0, 0.5, 0.25, 0]
    assert columns["trans_last5"] == [0, 2.5, 4.25, 0]
    assert columns["trans_last10"] == [1, 2.5, 4.25, 0]
    np.testing.assert_allclose(columns["trans_decayed"], [0.9**5, 0.5 + 1.8, 0.25 + 3.6, 0], rtol=1e-6)


def test_a_decayed_sum_ends_after_30_movies() -> None:
    of = history([3] + [2] * 29, [3] * 30, list(range(30)))
    np.testing.assert_allclose(computed(of, [1], [0])["trans_decayed"], 2 * 0.9**29, rtol=1e-6)
    assert computed(history([3] + [2] * 30, [3] * 31, list(range(31))), [1], [0])["trans_decayed"] == [0]


def test_ease_adds_up_what_likes_say_and_nothing_else() -> None:
    assert computed(RATED, [0, 1, 2, 3], [0] * 4)["ease_likes"] == [0, 0.5, -0.25, 0]
    both = history([3, 0], [4, 5], [1, 2])
    assert computed(both, [0, 1, 2, 3], [0] * 4)["ease_likes"] == [0, 0.5, 0.75, 0]
    # ten later likes, between which a movie that is not liked does not count
    long = history([3, *[2] * 5, 1, *[2] * 5], [4, *[5] * 5, 3, *[5] * 5], list(range(12)))
    columns = computed(long, [2, 1], [0, 0])
    assert (columns["ease_likes"], columns["ease_last10"]) == ([1, 0], [0, 0])


def test_cosines_with_the_last_movies() -> None:
    columns = computed(RATED, [0, 1, 2, 3], [0] * 4)
    np.testing.assert_allclose(columns["cos_last1"], [1, 0, 0, 0.6], rtol=1e-6)
    # the sum of both unit vectors is (1.6, 0.8), divided by k, however short the history
    np.testing.assert_allclose(columns["cos_last5"], np.array([1.6, 0.8, 0, 1.6]) / 5, rtol=1e-6)
    np.testing.assert_allclose(columns["cos_last20"], np.array([1.6, 0.8, 0, 1.6]) / 20, rtol=1e-6)


def test_no_more_than_the_last_20_count_in_cosines() -> None:
    of = history([1] + [0] * 20, [3] * 21, list(range(21)))
    np.testing.assert_allclose(computed(of, [0, 1], [0, 0])["cos_last20"], [1, 0], rtol=1e-6)


def test_what_the_movies_were_at_the_last_rating() -> None:
    columns = computed(RATED, [0, 1, 2, 3], [0] * 4)
    np.testing.assert_allclose(columns["movie_age_at_last"], [10, 0, NAN, -10], atol=1e-4)
    np.testing.assert_array_equal(columns["movie_days_at_last"], [5, 0, NAN, -0.5])
    assert columns["movie_recent_ratings"] == [1, 4, 7, 10]  # the bin in the middle


@pytest.mark.parametrize(
    ("times", "age", "bin_"),
    [
        ([YEAR_2000 - RECENT_SECONDS - 1], 10 - 0.2464, 0),
        ([YEAR_2000 - 1], 10, 0),
        ([YEAR_2000 + RECENT_SECONDS - 1], 10 + 0.2464, 1),
        ([YEAR_2000 + RECENT_SECONDS], 10 + 0.2464, 2),
        ([YEAR_2000 + 99 * RECENT_SECONDS], 10 + 99 * 0.246412, 2),
        ([NO_TIME], 10 + 0.2464, 2),
        ([YEAR_2000, NO_TIME], 10 + 0.2464, 2),
        ([], 10 + 0.2464, 2),
    ],
    ids=[
        *("before all", "end of first", "end of second", "third"),
        *("after all", "unknown", "last unknown", "none"),
    ],
)
def test_last_rating_outside_of_training(times: list[int], age: float, bin_: int) -> None:
    columns = computed(history([1] * len(times), [3] * len(times), times), [0, 3], [0, 0])
    np.testing.assert_allclose(columns["movie_age_at_last"], [age, age - 20], atol=1e-3)
    assert columns["movie_recent_ratings"] == [bin_, 9 + bin_]
    days = (age - 10) * 365.2425 + 5
    np.testing.assert_allclose(columns["movie_days_at_last"], [days, days - 5.5], atol=0.1)


def test_genre_taste() -> None:
    """Action is 1.5 above the mean once, comedy 1.5 below: both shrunk by 5 ratings."""
    columns = computed(RATED, [0, 1, 2, 3], [0] * 4)
    np.testing.assert_allclose(columns["genre_taste"], [0.25, 0, 0, -0.25], rtol=1e-6)


def test_genre_taste_does_not_forget() -> None:
    of = history([3] + [0] * 20, [1] + [4] * 20, list(range(21)))
    columns = computed(of, [0, 3], [0, 0])
    mean = 81 / 21
    np.testing.assert_allclose(columns["genre_taste"], [20 * (4 - mean) / 25, (1 - mean) / 6], rtol=1e-5)


def test_nobody_has_no_taste_and_no_last_movies() -> None:
    columns = computed(EMPTY_HISTORY, [0, 1], [1, 2])
    for name in [name for name in columns if name.startswith(("trans_", "cos_", "ease_", "genre_taste"))]:
        assert columns[name] == [0, 0], name


def test_each_query_of_a_call_has_its_own_rows() -> None:
    """Bit for bit, whatever else is in the call; a probe follows its list."""
    list_, probe = asked(RATED, [2, 0], [1, 3]), asked(RATED, [3], [2], ProbeContext(np.array([7]), SCORES))
    others = asked(history([1], [3], [NO_TIME]), [3, 0, 1, 2], [4, 4, 1, 2]), asked(EMPTY_HISTORY, [], [])
    model = tables()
    together = model.compute([others[0], list_, probe, others[1]])
    assert together.flags.f_contiguous
    assert together.dtype == np.dtype(np.float32)
    assert together[4:6].tobytes() == model.compute([list_]).tobytes()
    assert together[6:].tobytes() == model.compute([probe]).tobytes()


def test_a_call_without_queries_or_candidates() -> None:
    assert tables().compute([]).shape == (0, len(tables().names))
    assert computed(RATED, [], [])["als_rank"] == []


def test_inputs_are_left_alone() -> None:
    model = tables()
    before = {
        group.NAME: {name: array.copy() for name, array in group.arrays.items()} for group in model.groups
    }
    values = RATED.values.copy()
    model.compute([asked(RATED, [0, 1, 2, 3], [0] * 4)])
    for group in model.groups:
        for name, array in group.arrays.items():
            np.testing.assert_array_equal(array, before[group.NAME][name])
    np.testing.assert_array_equal(RATED.values, values)


def test_arrays_that_do_not_fit_are_refused() -> None:
    catalogue, one = tables().catalogue, np.array([1], np.int32)
    with pytest.raises(ValueError, match="do not belong together"):
        TransitionFeatures(catalogue, np.array([0, 2]), one, one.astype(np.float32))
    with pytest.raises(ValueError, match="do not belong together"):
        EaseFeatures(catalogue, np.zeros((4, 2), np.int32), np.zeros((4, 3), np.float32))


# Phrases


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("als_rank", 12, "12th of 300 by ALS"),
        ("als_rank", 1, "1st of 300 by ALS"),
        ("als_rank", 22, "22nd of 300 by ALS"),
        ("als_rank", 113, "113th of 300 by ALS"),
        ("als_rank", 3421, "3421st by ALS, behind the 300 candidates"),
        ("als_z", 0.84, "an ALS score 0.8 standard deviations above the candidates' mean"),
        ("als_z", -0.84, "an ALS score 0.8 standard deviations below the candidates' mean"),
        ("als_score", 0.617, "0.62 by ALS, where 1 would be a sure like"),
        ("als_score", -0.25, "not to your taste, by ALS"),
        ("movie_popularity", 9.387, "its mean stars plus the logarithm of how often it was rated are 9.39"),
        ("trans_last1", 0.5, "often rated soon after {movie}, your last movie"),
        ("trans_last1", 0, "seldom rated soon after your last movie"),
        ("cos_last1", -0.5, "not liked by the same people as {movie}"),
        ("cos_last1", 0, "not liked by the same people as {movie}"),  # as of a movie that nobody rated
        ("user_num_ratings", 1, "you rated 1 movie"),
        ("num_genres", 1, "1 genre"),
        ("num_genres", 2, "2 genres"),
        ("movie_num_ratings", 1, "rated once"),
        ("movie_age", 1, "1 year older than the newest rating"),
        ("movie_age", -3, "not older than the newest rating"),
        ("movie_age_at_last", 0.75, "1 year old when you last rated"),
        ("movie_days_at_last", 1.25, "first rated 1 day before your last rating"),
        ("movie_days_at_last", 1.5, "first rated 2 days before your last rating"),
        ("year", 1994, "released in 1994"),
        ("year", None, "of an unknown year"),
        ("genre_film_noir", 1, "of the genre Film-Noir"),
        ("genre_film_noir", 0, "not of the genre Film-Noir"),
    ],
)
def test_what_a_value_says(name: str, value: float | None, expected: str) -> None:
    group, feature = next(pair for pair in tables().features if pair[1].name == name)
    assert group.phrase(feature, value, 300) == expected


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0, None])
def test_every_feature_says_something(value: float | None) -> None:
    for group, feature in tables().features:
        said = group.phrase(feature, value, 300)
        assert said, feature.name
        assert "{" not in said.replace("{movie}", ""), feature.name


def test_the_one_movie_behind_a_value() -> None:
    """After 40 and then 10: the strongest link to 20 and 30 is from 40, of the last movie alone from 10."""
    names, rows = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES), np.arange(4, dtype=np.int32)
    assert tables().movies_behind(RATED, rows, names) == {
        "trans_last1": [None, 10, 10, None],
        **{name: [None, 40, 40, None] for name in ("trans_last5", "trans_last10", "trans_decayed")},
        "cos_last1": [10, 10, 10, 10],
        **{name: [None, 10, None, None] for name in ("ease_likes", "ease_last10")},
    }
    assert tables().movies_behind(RATED, rows[1:2], {"trans_last5", "year"}) == {"trans_last5": [40]}
    of_nobody = tables().movies_behind(EMPTY_HISTORY, rows[:2], names)
    assert list(of_nobody.values()) == [[None, None]] * len(of_nobody)


def test_a_phrase_speaks_of_a_movie_where_one_is_behind_the_value() -> None:
    """Where a value is 0, no link leads to the movie, and the phrase names none."""
    model, rows = tables(), np.array([0, 1, 2, 3], np.int32)
    columns = computed(RATED, rows.tolist(), [0] * 4)
    behind = model.movies_behind(RATED, rows, feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES))
    for group, feature in model.features:
        for place, value in enumerate(columns[feature.name]):
            said = group.phrase(feature, None if np.isnan(value) else value, 4)
            has_movie = feature.name in behind and behind[feature.name][place] is not None
            assert ("{movie}" in said) == has_movie, feature.name


def test_arrays_of_a_group_are_built_by_a_module_of_the_same_name() -> None:
    for group in ALL_GROUPS:
        module = group.__module__.removeprefix("serving.features.")
        built = find_spec(f"training.features.{module}") is not None
        assert built == bool(group.array_names())
