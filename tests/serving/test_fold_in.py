"""Folding in, against the paper's normal equations over all movies, written out densely."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fold_in import MAX_RATINGS, AlsParameters, Confidence, FoldIn
from serving.ratings import EMPTY_HISTORY, History

N_MOVIES, N_FACTORS = 30, 5
ITEM_FACTORS = np.random.default_rng(0).normal(size=(N_MOVIES, N_FACTORS)).astype(np.float32)
ITEM_FACTORS[7] = 0
"""Movie 7 is cold."""
STARS = (0.5, 1.0, 2.5, 3.5, 4.0, 4.5, 5.0)


def parameters(confidence: Confidence) -> AlsParameters:
    return AlsParameters(
        factors=N_FACTORS, iterations=1, regularization=0.7, alpha=3.0, confidence=confidence
    )


def history(movie_rows: list[int], values: list[float]) -> History:
    return History(
        np.array(movie_rows, np.int32), np.array(values, np.float32), np.arange(len(values), dtype=np.int64)
    )


def dense_solution(of: History, confidences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`(Yᵀ C Y + λ I)⁻¹ Yᵀ C p` with one confidence per movie, 1 where nothing is rated."""
    items = ITEM_FACTORS.astype(np.float64)
    confidence, preference = np.ones(N_MOVIES), np.zeros(N_MOVIES)
    confidence[of.movie_rows], preference[of.movie_rows] = confidences, 1
    weighted = np.diag(confidence)
    inverse = np.linalg.inv(items.T @ weighted @ items + 0.7 * np.eye(N_FACTORS))
    solution: npt.NDArray[np.float64] = inverse @ items.T @ weighted @ preference
    return solution


@pytest.mark.parametrize(
    ("confidence", "confidences"),
    [
        (Confidence.LIKES, [0.2, 4, 4, 0.2]),
        (Confidence.LINEAR, [1 + 3 * 3.5, 1 + 3 * 4, 1 + 3 * 5, 1 + 3 * 0.5]),
        (Confidence.LOG, [1 + 3 * np.log(4.5), 1 + 3 * np.log(5), 1 + 3 * np.log(6), 1 + 3 * np.log(1.5)]),
        (Confidence.BINARY, [3, 3, 3, 3]),
    ],
)
def test_the_exact_solution(confidence: Confidence, confidences: list[float]) -> None:
    rated = history([3, 29, 7, 0], [3.5, 4.0, 5.0, 0.5])
    np.testing.assert_allclose(parameters(confidence).confidences(rated.values), confidences, rtol=1e-6)
    vector = FoldIn(ITEM_FACTORS, parameters(confidence)).user_vector(rated)
    assert vector is not None
    assert (vector.dtype, vector.shape) == (np.dtype(np.float32), (N_FACTORS,))
    np.testing.assert_allclose(vector, dense_solution(rated, np.array(confidences)), rtol=1e-5, atol=1e-6)


@given(data=st.data(), confidence=st.sampled_from(list(Confidence)))
def test_order_does_not_matter_to_the_last_bit(data: st.DataObject, confidence: Confidence) -> None:
    ratings = st.tuples(st.integers(0, N_MOVIES - 1), st.sampled_from(STARS))
    rated = data.draw(st.lists(ratings, min_size=1, max_size=20, unique_by=lambda one: one[0]))
    shuffled = data.draw(st.permutations(rated))
    fold_in = FoldIn(ITEM_FACTORS, parameters(confidence))
    one, other = (
        fold_in.user_vector(history([row for row, _ in some], [stars for _, stars in some]))
        for some in (rated, shuffled)
    )
    if one is None or other is None:
        assert one is other is None
    else:
        assert one.tobytes() == other.tobytes()


def test_order_does_not_matter_where_rounding_is_amplified() -> None:
    """Factors nearly on a line and hardly any regularisation: another order of a sum would show."""
    rng = np.random.default_rng(1)
    line = rng.normal(size=(N_MOVIES, 1)) * rng.normal(size=(1, N_FACTORS))
    item_factors = (line + 1e-6 * rng.normal(size=line.shape)).astype(np.float32)
    fold_in = FoldIn(item_factors, replace(parameters(Confidence.LINEAR), regularization=1e-12))
    rows, values = rng.permutation(N_MOVIES), rng.choice(STARS, N_MOVIES)
    vectors = set()
    for _ in range(20):
        order = rng.permutation(N_MOVIES)
        vector = fold_in.user_vector(history(rows[order].tolist(), values[order].tolist()))
        assert vector is not None
        vectors.add(vector.tobytes())
    assert len(vectors) == 1


@pytest.mark.row(19)
def test_of_very_many_ratings_the_newest_count() -> None:
    """They were solved for without a bound, while the event loop stood still: 127 ms for 32,202."""
    n_movies = 2 * MAX_RATINGS
    rng = np.random.default_rng(1)
    fold_in = FoldIn(rng.normal(size=(n_movies, N_FACTORS)).astype(np.float32), parameters(Confidence.LIKES))
    rows = rng.permutation(n_movies)
    long = history(rows.tolist(), rng.choice(STARS, n_movies).tolist())
    newest = history(rows[-MAX_RATINGS:].tolist(), long.values[-MAX_RATINGS:].tolist())
    vector, expected = fold_in.user_vector(long), fold_in.user_vector(newest)
    assert vector is not None
    assert expected is not None
    assert vector.tolist() == expected.tolist()
    older = long.newest(MAX_RATINGS + 1)
    assert older.movie_rows.tolist() == rows[-MAX_RATINGS - 1 :].tolist()


@pytest.mark.parametrize("confidence", list(Confidence))
def test_who_says_nothing_has_no_vector(confidence: Confidence) -> None:
    fold_in = FoldIn(ITEM_FACTORS, parameters(confidence))
    assert fold_in.user_vector(EMPTY_HISTORY) is None
    assert fold_in.user_vector(history([7], [5.0])) is None
    disliked = fold_in.user_vector(history([3, 4], [3.5, 0.5]))
    assert (disliked is None) == (confidence is Confidence.LIKES)


@given(data=st.data(), confidence=st.sampled_from(list(Confidence)))
def test_the_terms_of_all_ratings_add_up_to_the_score(data: st.DataObject, confidence: Confidence) -> None:
    ratings = st.tuples(st.integers(0, N_MOVIES - 1), st.sampled_from(STARS))
    rated = data.draw(st.lists(ratings, min_size=1, max_size=20, unique_by=lambda one: one[0]))
    movie_rows = np.array(data.draw(st.lists(st.integers(0, N_MOVIES - 1), max_size=30)), dtype=np.int32)
    of = history([row for row, _ in rated], [stars for _, stars in rated])
    fold_in = FoldIn(ITEM_FACTORS, parameters(confidence))
    vector = fold_in.user_vector(of)
    if vector is None:
        return
    terms = fold_in.score_terms(of, np.arange(len(of)), movie_rows)
    assert terms.shape == (movie_rows.size, len(of))
    np.testing.assert_allclose(terms.sum(axis=1), ITEM_FACTORS[movie_rows] @ vector, rtol=1e-4, atol=1e-5)


def test_terms_of_some_ratings_are_columns_of_those_of_all() -> None:
    fold_in = FoldIn(ITEM_FACTORS, parameters(Confidence.LIKES))
    of = history([3, 29, 7, 0], [3.5, 4.0, 5.0, 0.5])
    every, some = (
        fold_in.score_terms(of, places, np.arange(30, dtype=np.int32))
        for places in (np.arange(4), np.array([3, 1]))
    )
    np.testing.assert_allclose(some, every[:, [3, 1]], rtol=1e-4, atol=1e-6)
    assert not every[:, 2].any()  # movie 7 is cold
