"""Embeddings: what is rated near the same movies is close."""

import numpy as np

from tests.training.small import N_MOVIES, ratings_of, table_of, tastes
from training.features import embeddings


def test_movies_in_the_same_sittings_are_close() -> None:
    """0 to 4 are rated together and so are 5 to 9, by others."""
    rng = np.random.default_rng(0)
    users = [
        [(int(movie) + 5 * (user % 2), 3.0, time) for time, movie in enumerate(rng.permutation(5))]
        for user in range(40)
    ]
    vectors = embeddings.build(ratings_of(*users), table_of(11))["vectors"]
    cosines = vectors @ vectors.T
    assert min(cosines[:5, :5].min(), cosines[5:10, 5:10].min()) > 0.3
    assert np.abs(cosines[:5, 5:10]).max() < 0.2
    assert not vectors[10].any()


def test_vectors_have_length_one_or_none_and_come_out_again() -> None:
    built = [embeddings.build(tastes(), table_of())["vectors"] for _ in range(2)]
    assert built[0].tobytes() == built[1].tobytes()
    assert built[0].dtype == np.dtype(np.float32)
    lengths = np.linalg.norm(built[0], axis=1)
    rated = np.bincount(tastes().movie_rows, minlength=N_MOVIES) > 0
    np.testing.assert_allclose(lengths, rated, atol=1e-5)


def test_pairs_are_counted_both_ways_within_ten_places_of_one_user() -> None:
    ratings = ratings_of([(row, 3.0, row) for row in range(12)], [(0, 3.0, 1), (3, 3.0, 2)])
    counts = embeddings.pair_counts(ratings, np.arange(12), 12)
    assert counts[0].tolist() == [0, 1, 1, 2, *[1] * 7, 0]
    np.testing.assert_array_equal(counts, counts.T)


def test_ratings_without_pairs_have_no_vectors() -> None:
    built = embeddings.build(ratings_of([(0, 5, 1)], [(1, 5, 1)]), table_of(3))
    assert not built["vectors"].any()
