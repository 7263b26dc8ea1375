"""Popularity, SVD, ALS, stage one and the similarity index, each against a plain recompute."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from serving.features.movie import MovieFeatures
from serving.features.time import RECENT_SECONDS, TimeFeatures
from serving.fold_in import AlsParameters, Confidence, FoldIn
from serving.ids import IdMap
from serving.movies import MOVIELENS_GENRES, Movies, genre_bits
from serving.ratings import Ratings
from tests.training.small import JOB, N_MOVIES, N_USERS, RECIPE, ratings_of, table_of, tastes
from training.data.movielens.movies import MovieTable
from training.data.popularity import MovieStatistics, popularity
from training.engine.local import LocalEngine
from training.features import movie, time
from training.models.als import Als
from training.models.first_stage import FirstStage
from training.models.recipe import DEFAULT_PARAMETERS, REFERENCE_PARAMETERS
from training.models.similarity import build_index
from training.models.svd import Svd

NAN = float("nan")
DAY = 86_400

FEW = ratings_of([(0, 5, 10), (1, 3, 20)], [(1, 2, 30)], [(0, 2, 5), (1, 4, 40)])
"""Movie 0: 5, 2. Movie 1: 3, 2, 4. Movies 2 and 3: nothing."""


# Popularity


def test_statistics() -> None:
    statistics = MovieStatistics.of(ratings_of([(0, 5, 1), (1, 3, 2)], [(0, 2, 1)]), 3)
    assert statistics.counts.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(statistics.means, [3.5, 3, NAN])
    np.testing.assert_allclose(statistics.deviations, [4.5**0.5, 0, NAN])


def test_popularity() -> None:
    statistics = MovieStatistics.of(FEW, 4)
    np.testing.assert_allclose(popularity(statistics), [3.5 + np.log(3), 3 + np.log(4), 0, 0])
    weighted = popularity(statistics, rating_weight=2, count_weight=0.5, min_ratings=3)
    np.testing.assert_allclose(weighted, [0, 6 + 0.5 * np.log(4), 0, 0])
    np.testing.assert_array_equal(popularity(statistics, min_ratings=0), popularity(statistics))


# SVD


def test_svd_equals_numpys_cut_at_the_rank() -> None:
    ratings = tastes()
    centred = np.zeros((N_USERS, N_MOVIES))
    means = np.array([ratings.of(user).values.astype(float).mean() for user in range(N_USERS)])
    rows = ratings.user_rows()
    centred[rows, ratings.movie_rows] = ratings.values - means[rows]
    left, strengths, right = np.linalg.svd(centred, full_matrices=False)
    expected = means[:, None] + (left[:, :5] * strengths[:5]) @ right[:5]
    model = Svd.fit(ratings, N_MOVIES, n_factors=5, seed=0)
    assert model.item_factors.shape == (N_MOVIES, 5)
    np.testing.assert_allclose(model.scores(np.arange(N_USERS, dtype=np.int32)), expected, atol=1e-9)
    np.testing.assert_allclose(model.scores(np.array([7, 3], dtype=np.int32)), expected[[7, 3]], atol=1e-9)


def test_svd_of_fewer_movies_than_factors_and_a_user_without_ratings() -> None:
    ratings = ratings_of([(0, 5, 1), (1, 2, 2)], [], [(1, 1, 1), (2, 4, 2)], [])
    model = Svd.fit(ratings, 3)
    assert model.user_means.tolist() == [3.5, 0, 2.5, 0]
    assert model.item_factors.shape == (3, 2)
    scores = model.scores(np.arange(4, dtype=np.int32))
    np.testing.assert_allclose(scores[[1, 3]], 0, atol=1e-12)
    np.testing.assert_allclose(scores[[0, 2]], [[5, 2, 3.5], [2.5, 1, 4]], atol=1e-9)


@pytest.mark.parametrize(
    "ratings",
    [ratings_of([(0, 5, 1), (1, 5, 2)], [(1, 3, 1), (2, 3, 2)]), ratings_of([(0, 5, 1), (1, 2, 2)])],
    ids=["each user gives the same stars to all", "one user"],
)
def test_svd_with_nothing_to_factorise_expects_the_mean(ratings: Ratings) -> None:
    users = np.arange(len(ratings.users), dtype=np.int32)
    model = Svd.fit(ratings, 3)
    assert model.scores(users).tolist() == [[mean] * 3 for mean in model.user_means]


# ALS


def implicits_own_fit(
    ratings: Ratings, confidences: npt.NDArray[np.float32], n_movies: int = N_MOVIES
) -> npt.NDArray[np.float32]:
    model = AlternatingLeastSquares(
        factors=8, regularization=1.0, alpha=1.0, iterations=5, num_threads=1, random_state=3
    )
    # In the order of the ratings: another order of the sums leads its float32 solver elsewhere.
    matrix = csr_matrix((confidences, ratings.movie_rows, ratings.indptr), shape=(N_USERS, n_movies))
    model.fit(matrix, show_progress=False)
    item_factors: npt.NDArray[np.float32] = model.item_factors
    return item_factors


@pytest.mark.parametrize("confidence", list(Confidence))
def test_als_item_factors_are_implicits_and_user_vectors_exact(confidence: Confidence) -> None:
    ratings, parameters = tastes(), replace(RECIPE.als, confidence=confidence)
    values = ratings.values.astype(np.float64)
    confidences = {
        Confidence.LIKES: np.where(values >= 4, 6.0, 0.2),
        Confidence.LINEAR: 1 + 5 * values,
        Confidence.LOG: 1 + 5 * np.log1p(values),
        Confidence.BINARY: np.full(values.size, 5.0),
    }[confidence]
    als = Als.fit(ratings, N_MOVIES, parameters, seed=3, engine=LocalEngine(1))
    expected = implicits_own_fit(ratings, confidences.astype(np.float32))
    np.testing.assert_array_equal(als.item_factors, expected)
    fold_in = FoldIn(als.item_factors, parameters)
    for user in range(N_USERS):
        vector = fold_in.user_vector(ratings.of(user))
        assert vector is not None
        np.testing.assert_array_equal(als.user_factors[user], vector)


def test_als_movies_without_ratings_and_users_without_likes_are_zero() -> None:
    likes = [(row, 5.0, row) for row in range(10)]
    ratings = ratings_of(likes, [(0, 1, 1)], [], likes[:5])
    als = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(1))
    assert np.flatnonzero(als.item_factors.any(axis=1)).tolist() == list(range(10))
    assert als.user_factors.any(axis=1).tolist() == [True, False, False, True]
    lists = list(als.candidates(np.arange(4, dtype=np.int32), ratings, 300))
    assert [found.movie_rows.size for found in lists] == [0, 0, 0, 5]


def test_als_depends_on_the_seed_and_not_on_the_threads() -> None:
    one, other, two_threads = (
        Als.fit(tastes(), N_MOVIES, RECIPE.als, seed=seed, engine=LocalEngine(threads))
        for seed, threads in ((0, 1), (1, 1), (0, 2))
    )
    assert one.item_factors.tobytes() == two_threads.item_factors.tobytes()
    assert one.user_factors.tobytes() == two_threads.user_factors.tobytes()
    assert one.item_factors.tobytes() != other.item_factors.tobytes()


def test_als_vectors_of_some_users_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tasks of three users and two threads, against one by one."""
    monkeypatch.setattr("training.models.als._USERS_PER_SHARD", 3)
    ratings, some = tastes(), np.array([7, 2, 30, 31, 49], dtype=np.int32)
    everyone = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(2))
    als = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(2), users=some)
    fold_in = FoldIn(als.item_factors, RECIPE.als)
    vectors = [fold_in.user_vector(ratings.of(user)) for user in range(N_USERS)]
    one_by_one = np.stack([vector for vector in vectors if vector is not None])
    np.testing.assert_array_equal(everyone.user_factors, one_by_one)
    np.testing.assert_array_equal(als.user_factors[some], one_by_one[some])
    assert np.isnan(np.delete(als.user_factors, some, axis=0)).all()
    with pytest.raises(ValueError, match="not solved for"):
        list(als.candidates(np.array([2, 3], dtype=np.int32), ratings, 10))


def test_als_candidates_are_the_best_unseen_and_suit_the_taste() -> None:
    ratings = tastes()
    als = Als.fit(ratings, N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(1))
    users = np.arange(N_USERS, dtype=np.int32)[::-1]
    suiting = []
    for user, found in zip(users, als.candidates(users, ratings, 10), strict=True):
        scores = als.item_factors @ als.user_factors[user]
        scores[ratings.of(int(user)).movie_rows] = -np.inf
        scores[~als.item_factors.any(axis=1)] = -np.inf
        assert found.movie_rows.tolist() == np.argsort(-scores)[:10].tolist()
        np.testing.assert_allclose(found.scores, scores[found.movie_rows], rtol=1e-4, atol=1e-6)
        suiting.append(np.mean(found.movie_rows[:5] % 2 == user % 2))
    assert np.mean(suiting) > 0.8


def test_als_reports_each_iteration() -> None:
    calls: list[None] = []
    Als.fit(
        tastes(), N_MOVIES, RECIPE.als, seed=0, engine=LocalEngine(1), progress=lambda: calls.append(None)
    )
    assert len(calls) == RECIPE.als.iterations


def test_als_presets() -> None:
    assert (DEFAULT_PARAMETERS.factors, DEFAULT_PARAMETERS.confidence) == (128, Confidence.LIKES)
    assert AlsParameters(128, 20, 0.01, 15, Confidence.LINEAR) == REFERENCE_PARAMETERS


# Stage one


def first_stage(ratings: Ratings, table: MovieTable) -> FirstStage:
    return FirstStage.fit(ratings, replace(JOB, table=table), "a test")


def test_movie_features_by_hand() -> None:
    newest = int(datetime(2010, 6, 1, tzinfo=UTC).timestamp())
    ratings = ratings_of([(0, 5, 10), (1, 3, newest)], [(0, 2, 30)])
    table = MovieTable(
        movies=Movies(
            ids=IdMap([1, 2, 3]),
            years=np.array([1999, 0, 2004], dtype=np.int16),
            genre_bits=np.array(
                [genre_bits(["Action", "War"]), genre_bits(["(no genres listed)"]), 0], dtype=np.uint64
            ),
        ),
        titles=("a", "b", "c"),
        title_lengths=np.array([11, 12, 13], dtype=np.int32),
        tmdb_ids=np.zeros(3, dtype=np.int32),
    )
    stage = first_stage(ratings, table)
    found = stage.tables.group(MovieFeatures).values
    names = [feature.name for feature in MovieFeatures.features_for(MOVIELENS_GENRES)]
    columns = dict(zip(names, found.T.tolist(), strict=True))
    expected = {
        "movie_avg_rating": [3.5, 3, NAN],
        "movie_rating_std": [4.5**0.5, 0, NAN],
        "movie_num_ratings": [2, 1, 0],
        "movie_num_users": [2, 1, 0],
        "movie_popularity": [3.5 + np.log(3), 3 + np.log(2), 0],
        "year": [1999, NAN, 2004],
        "movie_age": [11, NAN, 6],
        "decade": [1990, NAN, 2000],
        "title_length": [11, 12, 13],
        "num_genres": [2, 0, 0],
        "genre_no_genres_listed": [0, 1, 0],
        "genre_action": [1, 0, 0],
        "genre_war": [1, 0, 0],
        "genre_western": [0, 0, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-6, err_msg=name)
    assert found.dtype == np.dtype(np.float32)


def test_a_movie_has_no_age_where_ratings_have_no_times() -> None:
    """1970, in which an unknown time would be, is not when anybody rated."""
    values = movie.build(ratings_of([(0, 5, 0), (1, 3, 0)]), table_of(2), LocalEngine(2))["values"]
    names = [feature.name for feature in MovieFeatures.features_for(MOVIELENS_GENRES)]
    assert np.isnan(values[:, names.index("movie_age")]).all()
    assert values[1, names.index("year")] == 1951


def test_times_and_recent_ratings_by_hand() -> None:
    """Bins of 90 days from the oldest rating; each counts with the one before it."""
    start, bin_ = 1_000, RECENT_SECONDS
    ratings = ratings_of(
        [(0, 5, start), (1, 5, start + bin_)],
        [(0, 5, start + bin_ - 1), (1, 5, start + 3 * bin_)],
        [(0, 5, start + 2 * bin_)],
    )
    found = first_stage(ratings, table_of(3)).tables.group(TimeFeatures)
    np.testing.assert_array_equal(found.first_times, [start, start + bin_, NAN])
    assert found.recent_ratings.tolist() == [[2, 2, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert found.span.tolist() == [start, start + 3 * bin_]


def test_one_wrong_clock_does_not_say_what_time_it_is() -> None:
    """Movies are as old as they are then, and a request without times is as late."""
    ratings = ratings_of(*[[(0, 5, 0), (1, 3, 1_000_000_000)]] * 1_000, [(1, 5, 2**32 - 1)])
    assert time.build(ratings, table_of(2), LocalEngine(2))["span"].tolist() == [0, 1_000_000_000]
    names = [feature.name for feature in MovieFeatures.features_for(MOVIELENS_GENRES)]
    values = movie.build(ratings, table_of(2), LocalEngine(2))["values"]
    assert values[1, names.index("movie_age")] == 2001 - 1951


def test_served_are_those_with_a_taste_and_a_movie_left() -> None:
    """Movies 0 to 4 are rated. User 0 has seen all, user 1 likes nothing, users 2 and 3 are served."""
    ratings = ratings_of(
        [(row, 5.0, row) for row in range(5)],
        [(0, 1.0, 1)],
        [(row, 5.0, row) for row in range(4)],
        [(4, 5.0, 1)],
    )
    stage = first_stage(ratings, table_of(9))
    assert stage.served_users().tolist() == [2, 3]
    sizes = [found.movie_rows.size for found in stage.candidates(np.arange(4, dtype=np.int32))]
    assert sizes == [0, 0, 1, 4]
    assert stage.sample_features().shape == (5, len(stage.tables.names))


# Similarity


def test_the_index_equals_sorting_all_cosines() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(150, 6)).astype(np.float32)
    factors[5] = factors[9]
    index = build_index(factors, table_of(150).movies, np.zeros(150))
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    cosines = (unit @ unit.T).astype(np.float64)
    np.fill_diagonal(cosines, -9)
    for row in range(150):
        np.testing.assert_allclose(index.scores[row], np.sort(cosines[row])[::-1][:100], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(cosines[row, index.movie_rows[row]], index.scores[row], atol=1e-6)
        assert np.unique(index.movie_rows[row]).size == 100
        assert np.all(np.diff(index.scores[row]) <= 0)
    assert (index.movie_rows[5, 0], index.movie_rows[9, 0]) == (9, 5)
    assert np.abs(index.scores).max() <= 1


def test_cold_movies_are_near_by_genre_and_nobodys_neighbour() -> None:
    """0 and 1 have factors; of the cold ones, 2 and 3 are dramas, 4 also a war film, 5 has no genre."""
    names = [["War"], ["Drama"], ["Drama"], ["Drama"], ["Drama", "War"], []]
    movies = Movies(
        ids=IdMap(range(1, 7)),
        years=np.zeros(6, dtype=np.int16),
        genre_bits=np.array([genre_bits(some) for some in names], dtype=np.uint64),
    )
    factors = np.zeros((6, 2), dtype=np.float32)
    factors[:2] = [[1, 0], [3, 4]]
    index = build_index(factors, movies, np.array([9, 1, 0, 2, 5, 0], dtype=np.float64))
    assert index.movie_rows[0].tolist() == [1, -1, -1, -1, -1]
    np.testing.assert_allclose(index.scores[0], [0.6, 0, 0, 0, 0], rtol=1e-6)
    assert index.movie_rows[2].tolist() == [3, 1, 4, -1, -1]  # of equals, the more popular first
    np.testing.assert_allclose(index.scores[2], [1, 1, 0.5, 0, 0])
    assert index.movie_rows[4].tolist() == [0, 3, 1, 2, -1]
    assert index.movie_rows[5].tolist() == [-1] * 5
