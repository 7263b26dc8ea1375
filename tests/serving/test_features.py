"""Features on four movies whose numbers can be checked by hand."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from serving.features import (
    CONTEXT_FEATURES,
    FEATURE_NAMES,
    MOVIE_FEATURES,
    RECENT_SECONDS,
    USER_FEATURES,
    FeatureSet,
    FeatureTables,
    MovieLinks,
    ProbeContext,
    feature_hash,
    user_features,
)
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


def movie_features() -> npt.NDArray[np.float32]:
    """Every column tells movie and column apart, but for years and genres: Action, both, none, Comedy."""
    columns = len(MOVIE_FEATURES)
    features = np.arange(4 * columns, dtype=np.float32).reshape(4, columns)
    features[:, MOVIE_FEATURES.index("year")] = [1990, 2000, np.nan, 2010]
    features[:, MOVIE_FEATURES.index("genre_no_genres_listed") :] = 0
    for row, genre in [
        (0, "genre_action"),
        (1, "genre_action"),
        (1, "genre_comedy"),
        (2, "genre_no_genres_listed"),
        (3, "genre_comedy"),
    ]:
        features[row, MOVIE_FEATURES.index(genre)] = 1
    return features


def tables(feature_set: FeatureSet = FeatureSet.EXTENDED) -> FeatureTables:
    return FeatureTables(
        feature_set=feature_set,
        movie_features=movie_features(),
        item_unit_factors=np.array([[1, 0], [0, 1], [0, 0], [0.6, 0.8]], dtype=np.float32),
        # 0 leads to 1 (0.5) and 2 (0.25); 1 to 0 (1); 2 to nothing; 3 to 1 (2) and 2 (4)
        transitions=MovieLinks(
            np.array([0, 2, 3, 3, 5]),
            np.array([1, 2, 0, 1, 2], np.int32),
            np.array([0.5, 0.25, 1, 2, 4], np.float32),
        ),
        # 0 goes with 3 (8), 3 with 0 (8) and 1 (16)
        cooccurrence=MovieLinks(
            np.array([0, 1, 1, 1, 3]), np.array([3, 0, 1], np.int32), np.array([8, 8, 16], np.float32)
        ),
        first_times=np.array([YEAR_2000 - 5 * DAY, YEAR_2000, np.nan, YEAR_2000 + DAY / 2]),
        recent_ratings=np.arange(12, dtype=np.int32).reshape(4, 3),
        oldest_time=YEAR_2000 - RECENT_SECONDS,
        newest_time=YEAR_2000 + RECENT_SECONDS,
    )


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
    model = tables(feature_set)
    out = np.full((len(movie_rows), len(model.names)), -7, dtype=np.float32, order="F")
    model.compute(
        out,
        history=of,
        movie_rows=np.array(movie_rows, np.int32),
        retrieval_scores=np.array(scores, np.float32),
        probe_context=probe_context,
    )
    return {name: out[:, column].tolist() for column, name in enumerate(model.names)}


RATED = history([3, 0], [2, 5], [YEAR_2000 - DAY, YEAR_2000])
"""A bad comedy, then a good action film."""


# Names


def test_the_reference_features_by_name_and_order() -> None:
    assert len(REFERENCE) == 38
    assert list(FEATURE_NAMES[FeatureSet.REFERENCE]) == REFERENCE


def test_extended_features_come_after_those_of_the_reference() -> None:
    extended = FEATURE_NAMES[FeatureSet.EXTENDED]
    assert extended == (*REFERENCE, *CONTEXT_FEATURES)
    assert len(set(extended)) == len(extended) == 53


def test_the_hash_is_of_names_and_order() -> None:
    text = "\n".join(REFERENCE).encode()
    assert feature_hash(tuple(REFERENCE)) == hashlib.sha256(text).hexdigest()[:16]
    hashes = {feature_hash(names) for names in (*FEATURE_NAMES.values(), tuple(sorted(REFERENCE)))}
    assert len(hashes) == 3


def test_published_bundles_stay_readable() -> None:
    """Other hashes refuse every bundle there is: change these when that is what you want."""
    assert {name: feature_hash(names) for name, names in FEATURE_NAMES.items()} == {
        FeatureSet.REFERENCE: "c7d65544f40b448d",
        FeatureSet.EXTENDED: "50eab5da894330db",
    }


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


# The matrix


def test_user_movie_and_score_columns_of_the_reference() -> None:
    columns = computed(RATED, [2, 0], [0.5, -1.5], FeatureSet.REFERENCE)
    assert list(columns) == REFERENCE
    for name, value in zip(USER_FEATURES, user_features(RATED).tolist(), strict=True):
        assert columns[name] == [value, value]
    for column, name in enumerate(MOVIE_FEATURES):
        np.testing.assert_array_equal(columns[name], movie_features()[[2, 0], column])
    assert columns["als_score"] == [0.5, -1.5]


def test_place_in_the_list() -> None:
    columns = computed(RATED, [3, 1, 2, 0], [1, 3, 1, -1])
    assert columns["als_rank"] == [3, 1, 2, 4]  # 2 and 3 tie
    deviation = 2**0.5  # mean 1, squares 0 4 0 4
    np.testing.assert_allclose(columns["als_z"], [0, 2 / deviation, 0, -2 / deviation], rtol=1e-6)


@pytest.mark.parametrize(("movie_rows", "scores"), [([1], [3.0]), ([0, 1], [2.0, 2.0])])
def test_equal_scores_do_not_deviate(movie_rows: list[int], scores: list[float]) -> None:
    assert set(computed(RATED, movie_rows, scores)["als_z"]) == {0}


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


def test_held_against_an_empty_list_nothing_deviates() -> None:
    against = ProbeContext(np.array([7]), np.empty(0, dtype=np.float32))
    assert computed(RATED, [3], [0.5], probe_context=against)["als_z"] == [0]


def test_transitions_from_the_last_movies() -> None:
    """Last 0; before it 3; before that four times 2, then 1, as if rated again and again."""
    older = history([1, 2, 2, 2, 3, 0], [3] * 6, [0, 1, 2, 3, 4, 5])
    columns = computed(older, [0, 1, 2, 3], [0] * 4)
    assert columns["trans_last1"] == [0, 0.5, 0.25, 0]
    assert columns["trans_last5"] == [0, 2.5, 4.25, 0]
    assert columns["trans_last10"] == [1, 2.5, 4.25, 0]


def test_cooccurrence_with_the_last_movies() -> None:
    older = history([0, 2, 2, 2, 2, 3], [3] * 6, [0, 1, 2, 3, 4, 5])
    columns = computed(older, [0, 1, 2, 3], [0] * 4)
    assert columns["knn_last5"] == [8, 16, 0, 0]
    assert columns["knn_last10"] == [8, 16, 0, 8]
    far = history([0] + [2] * 10, [3] * 11, list(range(11)))
    assert computed(far, [3], [0])["knn_last10"] == [0]


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
        "before all",
        "end of the first bin",
        "end of the second",
        "the third",
        "after all",
        "unknown",
        "the last unknown",
        "no ratings",
    ],
)
def test_last_rating_outside_of_training(times: list[int], age: float, bin_: int) -> None:
    columns = computed(history([1] * len(times), [3] * len(times), times), [0, 3], [0, 0])
    np.testing.assert_allclose(columns["movie_age_at_last"], [age, age - 20], atol=1e-3)
    assert columns["movie_recent_ratings"] == [bin_, 9 + bin_]
    days = (age - 10) * 365.2425 + 5
    np.testing.assert_allclose(columns["movie_days_at_last"], [days, days - 5.5], atol=0.1)


def test_genre_taste_and_share() -> None:
    """Action is 1.5 above the mean once, comedy 1.5 below: both shrunk by 5 ratings."""
    columns = computed(RATED, [0, 1, 2, 3], [0] * 4)
    np.testing.assert_allclose(columns["genre_taste"], [0.25, 0, 0, -0.25], rtol=1e-6)
    assert columns["genre_share_last20"] == [0.5, 0.5, 0, 0.5]


def test_genre_share_forgets_after_20_ratings_and_taste_does_not() -> None:
    of = history([3] + [0] * 20, [1] + [4] * 20, list(range(21)))
    columns = computed(of, [0, 3], [0, 0])
    mean = 81 / 21
    assert columns["genre_share_last20"] == [1, 0]
    np.testing.assert_allclose(columns["genre_taste"], [20 * (4 - mean) / 25, (1 - mean) / 6], rtol=1e-5)


def test_nobody_has_no_taste_and_no_last_movies() -> None:
    columns = computed(EMPTY_HISTORY, [0, 1], [1, 2])
    for name in CONTEXT_FEATURES[2:10] + CONTEXT_FEATURES[13:]:
        assert columns[name] == [0, 0], name


def test_an_empty_list_of_candidates() -> None:
    assert computed(RATED, [], [])["als_rank"] == []


def test_a_slice_of_a_larger_matrix_gets_the_same_values() -> None:
    model = tables()
    whole = np.full((6, len(model.names)), -7, dtype=np.float32, order="F")
    model.compute(
        whole[2:4],
        history=RATED,
        movie_rows=np.array([2, 0], np.int32),
        retrieval_scores=np.array([1, 3], np.float32),
    )
    expected = computed(RATED, [2, 0], [1, 3])
    np.testing.assert_array_equal(whole[2:4], np.column_stack(list(expected.values())).astype(np.float32))
    assert np.all(whole[[0, 1, 4, 5]] == -7)


def test_inputs_are_left_alone() -> None:
    model = tables()
    before = [array.copy() for array in (model.movie_features, RATED.values, model.recent_ratings)]
    computed(RATED, [0, 1, 2, 3], [0] * 4)
    for array, copy in zip((model.movie_features, RATED.values, model.recent_ratings), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_links_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        MovieLinks(np.array([0, 2]), np.array([1], np.int32), np.array([1], np.float32))
