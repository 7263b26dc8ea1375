"""What a filter lets through, as a table over five movies."""

import numpy as np
import pytest

from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import IdMap
from serving.movies import UNKNOWN_YEAR, Movies, genre_bits

MOVIES = Movies(
    ids=IdMap([10, 20, 30, 40, 50]),
    years=np.array([1990, 1991, 1992, UNKNOWN_YEAR, 1994], dtype=np.int16),
    genre_bits=np.array(
        [
            genre_bits(names)
            for names in (["Drama"], ["Drama", "War"], ["War"], ["Sci-Fi"], ["(no genres listed)"])
        ],
        dtype=np.uint64,
    ),
)


@pytest.mark.parametrize(
    ("movie_filter", "matching"),
    [
        (MovieFilter(), [10, 20, 30, 40, 50]),
        (MovieFilter(genres=("Drama",)), [10, 20]),
        (MovieFilter(genres=("dRAMA", "SCI-FI")), [10, 20, 40]),
        (MovieFilter(genres=("Jazz",)), []),
        (MovieFilter(genres=("Jazz", "War")), [20, 30]),
        (MovieFilter(exclude_genres=("war",)), [10, 40, 50]),
        (MovieFilter(exclude_genres=("Jazz",)), [10, 20, 30, 40, 50]),
        (MovieFilter(genres=("Drama",), exclude_genres=("War",)), [10]),
        (MovieFilter(genres=("Drama",), exclude_genres=("Drama",)), []),
        (MovieFilter(min_year=1991), [20, 30, 50]),
        (MovieFilter(max_year=1991), [10, 20]),
        (MovieFilter(min_year=1991, max_year=1992), [20, 30]),
        (MovieFilter(min_year=1993, max_year=1992), []),
        (MovieFilter(min_year=0), [10, 20, 30, 50]),
        (MovieFilter(max_year=3000), [10, 20, 30, 50]),
        (MovieFilter(genres=("Sci-Fi",), max_year=3000), []),
        (MovieFilter(min_year=-(2**31), max_year=2**31 - 1), [10, 20, 30, 50]),
    ],
    ids=repr,
)
def test_matches(movie_filter: MovieFilter, matching: list[int]) -> None:
    mask = movie_filter.matches(MOVIES)
    assert MOVIES.ids.ids[mask].tolist() == matching
    assert mask.dtype == np.dtype(np.bool_)
    assert bool(movie_filter) == (movie_filter != UNRESTRICTED)
