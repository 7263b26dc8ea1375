"""What is dropped and what stays, in which order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.data.movielens.files import MOVIES, NOW, RATINGS, RATINGS_HEADER, read, write


@pytest.mark.row(44)
def test_the_last_of_repeated_ratings_wins(tmp_path: Path) -> None:
    rows = "1,10,1.0,200\n1,10,5.0,100\n2,10,2.0,100\n2,10,4.0,100\n2,10,3.0,100\n"
    _, cleaned = read(write(tmp_path, RATINGS_HEADER + rows))
    assert cleaned.ratings.values.tolist() == [1.0, 4.0]
    assert cleaned.ratings.times.tolist() == [200, 100]
    assert (cleaned.counts.read, cleaned.counts.repeated, cleaned.counts.kept) == (5, 3, 2)


@pytest.mark.row(48)
def test_ratings_of_unknown_movies_are_dropped_and_counted(tmp_path: Path) -> None:
    _, cleaned = read(write(tmp_path, RATINGS + "9,99,3.0,1\n"))
    assert (cleaned.counts.unknown_movies, cleaned.counts.kept) == (1, 3)
    assert cleaned.ratings.users.ids.tolist() == [3, 7]


@pytest.mark.row(47)
def test_times_ahead_of_the_clock_are_counted_and_kept(tmp_path: Path) -> None:
    rows = f"1,10,3.0,{NOW + 86_400}\n2,10,3.0,{NOW + 86_401}\n3,10,3.0,{2**32 - 1}\n"
    _, cleaned = read(write(tmp_path, RATINGS_HEADER + rows))
    assert (cleaned.counts.future_times, cleaned.counts.kept) == (2, 3)


def test_another_unrated_movie_does_not_change_the_digest(tmp_path: Path) -> None:
    before = read(write(tmp_path))[1].digest
    assert read(write(tmp_path, movies=MOVIES + "5,New (2020),Drama\n"))[1].digest == before
    assert read(write(tmp_path, RATINGS.replace("0.5", "1.0")))[1].digest != before


def test_ratings_of_one_second_are_not_in_the_order_of_movie_ids(tmp_path: Path) -> None:
    movies = "movieId,title,genres\n" + "".join(f"{one},Film {one},Drama\n" for one in range(1, 101))
    rows = "".join(f"{user},{movie},3.0,5\n" for user in (1, 2) for movie in range(1, 101))
    ratings = read(write(tmp_path, RATINGS_HEADER + rows, movies))[1].ratings
    first, second = ratings.of(0).movie_rows, ratings.of(1).movie_rows
    assert sorted(first) == sorted(second) == list(range(100))
    assert abs(np.corrcoef(first, np.arange(100))[0, 1]) < 0.3
    assert first.tolist() != second.tolist()


ROWS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([10, 20, 30, 99]),
        st.sampled_from([0.5, 3.0, 5.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.row(47)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, data=st.data())
def test_the_order_of_the_file_does_not_matter(
    tmp_path: Path, rows: list[tuple[int, int, float, int]], data: st.DataObject
) -> None:
    rows.append((1, 10, 3.0, 0))  # one that is kept
    first = read(write(tmp_path, as_csv(rows)))[1]
    second = read(write(tmp_path, as_csv(data.draw(st.permutations(rows)))))[1]
    assert (first.digest, first.counts) == (second.digest, second.counts)
    for name in ("indptr", "movie_rows", "values", "times"):
        assert np.array_equal(getattr(first.ratings, name), getattr(second.ratings, name))
    counts = first.counts
    assert counts.read == counts.kept + counts.repeated + counts.out_of_range + counts.unknown_movies
    assert counts.kept == len({row[:2] for row in rows if row[1] != 99})
    users = first.ratings.user_rows()
    assert np.all((np.diff(users) > 0) | (np.diff(first.ratings.times) >= 0))


def as_csv(rows: Sequence[tuple[int, int, float, int]]) -> str:
    return RATINGS_HEADER + "".join(f"{u},{m},{v},{t}\n" for u, m, v, t in rows)
