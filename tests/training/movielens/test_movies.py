"""Lines of movies and links that fail with a place and a rule."""

from pathlib import Path

import pytest

from tests.training.movielens.files import MOVIES, message, write
from training.movielens.rules import MAX_MOVIE_ID


@pytest.mark.parametrize(
    ("movies", "expected"),
    [
        ("", "movies.csv: wrong columns: expected movieId, title, genres; found none"),
        ("id,title,genres\n", "movies.csv: wrong columns: expected movieId, title, genres; found id, title"),
        ("movieId,title,genres\n", "movies.csv: there are no movies in it"),
        (MOVIES + "x,Title,Drama\n", "movies.csv line 5: movieId must be a whole number from 1"),
        (MOVIES + f"{MAX_MOVIE_ID + 1},Title,Drama\n", "movies.csv line 5: movieId must be"),
        (MOVIES + "10,Again (1995),Drama\n", "movies.csv lines 3, 5: movieId must be there only once"),
        (MOVIES + "40, ,Drama\n", "movies.csv line 5: title must not be empty"),
        (MOVIES + "\n40,Title, with a comma,Drama\n", "movies.csv line 6: wrong number of fields"),
        (MOVIES + f'40,"{"x" * 200_000}",Drama\n', "movies.csv: cannot be read: field larger"),
    ],
)
def test_unusable_movies_fail_with_a_place_and_a_rule(tmp_path: Path, movies: str, expected: str) -> None:
    assert expected in message(write(tmp_path, movies=movies))


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ("movieId,imdbId\n", "links.csv: wrong columns: expected movieId, tmdbId; found movieId, imdbId"),
        ("movieId,imdbId,tmdbId\n10,1,x\n", "links.csv line 2: tmdbId must be a whole number or empty"),
        ("movieId,imdbId,tmdbId\n10,1,1\n10,1,2\n", "links.csv lines 2, 3: movieId must be there only once"),
    ],
)
def test_unusable_links_fail(tmp_path: Path, links: str, expected: str) -> None:
    assert expected in message(write(tmp_path, links=links))
