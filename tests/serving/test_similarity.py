"""Directions, shared genres, and the nearest of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ids import IdMap
from serving.movies import Movies, genre_bits
from serving.similarity import genre_jaccard, nearest, unit_factors

GENRES = [
    ["Drama"],
    ["Drama", "War"],
    ["War", "Drama"],
    ["Sci-Fi"],
    ["(no genres listed)"],
    [],
    ["Drama", "War", "IMAX"],
]
MOVIES = Movies(
    ids=IdMap(range(1, 8)),
    years=np.zeros(7, dtype=np.int16),
    genre_bits=np.array([genre_bits(names) for names in GENRES], dtype=np.uint64),
)


def test_unit_factors_have_length_one_or_none() -> None:
    factors = np.array([[3, 4], [0, 0], [0, -2], [np.nan, 1], [np.inf, 1]], dtype=np.float32)
    unit = unit_factors(factors)
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0], [0.0, -1.0], [0.0, 0.0], [0.0, 0.0]], rtol=1e-6)
    assert unit.dtype == np.dtype(np.float32)
    assert factors[0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (0, [1, 1 / 2, 1 / 2, 0, 0, 0, 1 / 3]),
        (1, [1 / 2, 1, 1, 0, 0, 0, 2 / 3]),
        (3, [0, 0, 0, 1, 0, 0, 0]),
        (4, [0] * 7),  # "no genre" is nothing to share
        (5, [0] * 7),
    ],
)
def test_genre_jaccard(row: int, expected: list[float]) -> None:
    jaccard = genre_jaccard(MOVIES, row)
    np.testing.assert_array_equal(jaccard, np.array(expected, dtype=np.float32))
    assert jaccard.dtype == np.dtype(np.float32)


@given(
    similarities=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60),
    limit=st.integers(1, 70),
    data=st.data(),
)
def test_nearest_equals_sorting_everything(
    similarities: list[float], limit: int, data: st.DataObject
) -> None:
    n = len(similarities)
    blocked = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    best = sorted((-value, row) for row, value in enumerate(similarities) if not blocked[row])[:limit]
    found = nearest(np.array(similarities, np.float32), np.array(blocked), limit)
    assert found.tolist() == [row for _, row in best]
    assert found.dtype == np.dtype(np.int32)
