"""Files with other names, scales and times than those of MovieLens."""

from pathlib import Path

import pytest

from tests.training.data.movielens.files import MOVIES, RATINGS, message, read, write
from training.data.movielens.dialect import Dialect

OTHER_NAMES = {"user_id": "user", "movie_id": "item", "rating": "score", "time": "created_at"}
OTHER_RATINGS = "item,note,user,created_at,score\n20,x,7,100,4.0\n10,x,7,50,3.5\n20,x,3,70,0.5\n"


@pytest.mark.parametrize("movies", [MOVIES, MOVIES.replace("movieId,title", "item,name")])
def test_columns_under_other_names(tmp_path: Path, movies: str) -> None:
    names = OTHER_NAMES | ({"title": "name"} if "name" in movies else {})
    plain = read(write(tmp_path))
    renamed = read(write(tmp_path, OTHER_RATINGS, movies), Dialect(columns=names))
    assert renamed[1].digest == plain[1].digest
    assert renamed[0].titles == plain[0].titles


def test_links_may_name_the_movie_as_the_other_files_do(tmp_path: Path) -> None:
    write(tmp_path, OTHER_RATINGS, links="item,tmdb\n20,603\n")
    table, _ = read(tmp_path, Dialect(columns={**OTHER_NAMES, "tmdb_id": "tmdb"}))
    assert table.tmdb_ids.tolist() == [0, 603, 0]


def test_errors_name_the_fields_of_the_file(tmp_path: Path) -> None:
    movies = MOVIES.replace("movieId,title", "item,name") + "x, ,Drama\n"
    text = message(
        write(tmp_path, OTHER_RATINGS + "x,1,1,1,1\n", movies),
        Dialect(columns={**OTHER_NAMES, "title": "name"}),
    )
    assert "movies.csv line 5: item must be a whole number" in text
    assert "movies.csv line 5: name must not be empty" in text
    assert "ratings.csv line 5: item must be a whole number" in text


def test_a_column_that_is_missing_is_told_with_the_option_that_names_it(tmp_path: Path) -> None:
    text = message(write(tmp_path, OTHER_RATINGS))
    assert "ratings.csv: wrong columns: expected userId, movieId, rating, timestamp; found item, note" in text
    assert "--columns user_id=NAME,movie_id=NAME,rating=NAME,time=NAME" in text
    text = message(tmp_path, Dialect(columns={**OTHER_NAMES, "time": "when"}))
    assert "expected user, item, score, when; found item, note, user, created_at, score" in text


def test_names_for_a_file_without_a_line_of_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("7::20::4::100\n")
    (tmp_path / "movies.dat").write_text("20::Film (1999)::Drama\n")
    assert "ratings.dat: has no line of names" in message(tmp_path, Dialect(columns=OTHER_NAMES))


def test_another_scale_is_mapped_to_stars(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating,timestamp\n7,20,10,1\n7,10,1,2\n7,30,5.5,3\n"
    _, cleaned = read(write(tmp_path, ratings), Dialect(rating_scale=(1, 10)))
    assert cleaned.ratings.values.tolist() == [5.0, 0.5, 2.75]
    rule = "rating must be 0.5 to 5; another scale is told by --rating-scale LOW:HIGH"
    assert f"ratings.csv lines 2, 4: {rule}" in message(tmp_path)
    write(tmp_path, ratings + "3,10,11,4\n")
    assert "ratings.csv line 5: rating must be 1 to 10" in message(tmp_path, Dialect(rating_scale=(1, 10)))


@pytest.mark.parametrize("extra", ["", "\n"])
def test_times_of_iso_8601_are_read(tmp_path: Path, extra: str) -> None:
    """With an empty line the careful reader has them, without it the fast one."""
    times = ["2021-03-04T05:06:07Z", "2021-03-04 05:06:07.9", "2021-03-04T07:06:07+02:00", "2021-03-04", "5"]
    rows = "".join(f"{user},10,3.0,{time}\n" for user, time in enumerate(times, start=1))
    _, cleaned = read(write(tmp_path, "userId,movieId,rating,timestamp\n" + extra + rows))
    assert cleaned.ratings.times.tolist() == [1614834367] * 3 + [1614816000, 5]


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        *((time, "or a time of ISO 8601") for time in ("2021-13-04", "04.03.2021", "noon")),
        ("1969-12-31", "from 0 to"),
    ],
)
def test_what_is_no_time_is_refused(tmp_path: Path, time: str, rule: str) -> None:
    text = message(write(tmp_path, f"{RATINGS}3,10,3.0,{time}\n"))
    assert f"ratings.csv line 5: timestamp must be whole seconds {rule}" in text


def test_ratings_without_times(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating\n7,20,4.0\n7,10,3.5\n3,20,0.5\n"
    text = message(write(tmp_path, ratings))
    assert "found userId, movieId, rating. Other names are told by --columns time=NAME" in text
    assert "ratings without times are read with --no-times" in text
    untimed = read(tmp_path, Dialect(has_times=False))[1]
    assert untimed.ratings.times.tolist() == [0, 0, 0]
    assert not untimed.ratings.is_timed
    timed = write(tmp_path)
    assert read(timed, Dialect(has_times=False))[1].digest == untimed.digest
    assert read(timed)[1].ratings.is_timed
