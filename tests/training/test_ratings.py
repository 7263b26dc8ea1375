"""Reading, checking and cleaning, on files small enough to check by hand."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.ratings import (
    MAX_MOVIE_ID,
    CleaningCounts,
    CleanRatings,
    DataError,
    MovieTable,
    layout_of,
    read_data_set,
)

NOW = 2_000_000_000
RATINGS_HEADER = "userId,movieId,rating,timestamp\n"
RATINGS = RATINGS_HEADER + "7,20,4.0,100\n7,10,3.5,50\n3,20,0.5,70\n"
MOVIES = (
    "movieId,title,genres\n"
    '20,"Matrix, The (1999)",Action|Sci-Fi\n'
    "10,Toy Story (1995),Animation|Children\n"
    "30,Babylon 5,(no genres listed)\n"
)


def write(folder: Path, ratings: str = RATINGS, movies: str = MOVIES, **others: str) -> Path:
    files = {"ratings.csv": ratings, "movies.csv": movies, **{f"{k}.csv": v for k, v in others.items()}}
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def read(folder: Path) -> tuple[MovieTable, CleanRatings]:
    return read_data_set(folder, now=NOW)


def message(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        read(folder)
    return str(error.value)


def many(n: int, bad: Mapping[int, str]) -> str:
    """A file of n good ratings, with some lines replaced; line 2 is the first rating."""
    lines = [bad.get(line, f"{line},10,3.0,{line}") for line in range(2, n + 2)]
    return RATINGS_HEADER + "\n".join(lines) + "\n"


# Layouts


def test_reads_csv(tmp_path: Path) -> None:
    links = "movieId,imdbId,tmdbId\n20,0133093,603\n30,0105946,\n"
    table, cleaned = read(write(tmp_path, links=links))
    assert table.movies.ids.ids.tolist() == [10, 20, 30]
    assert table.titles == ("Toy Story", "The Matrix", "Babylon 5")
    assert table.title_lengths.tolist() == [len("Toy Story (1995)"), len("Matrix, The (1999)"), 9]
    assert table.movies.years.tolist() == [1995, 1999, 0]
    assert table.movies.genres_of(0) == ("Animation", "Children")
    assert table.movies.genre_bits[2] == 1
    assert table.tmdb_ids.tolist() == [0, 603, 0]
    ratings = cleaned.ratings
    assert ratings.users.ids.tolist() == [3, 7]
    assert ratings.indptr.tolist() == [0, 1, 3]
    assert ratings.movie_rows.tolist() == [1, 0, 1]
    assert ratings.values.tolist() == [0.5, 3.5, 4.0]
    assert ratings.times.tolist() == [70, 50, 100]
    assert ratings.movie_rows.dtype == np.dtype(np.int32)
    assert ratings.values.dtype == np.dtype(np.float32)
    assert cleaned.counts == CleaningCounts(
        read=3, repeated=0, out_of_range=0, unknown_movies=0, future_times=0, kept=3
    )
    assert cleaned.tag("small") == f"small-{cleaned.digest[:8]}"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_reads_the_old_layout_with_double_colons(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "ratings.dat").write_text("7::20::4::100\n7::10::3.5::50\n3::20::0.5::70\n")
    movies = "10::Misérables, Les (1995)::Drama|Children's\n20::Matrix, The (1999)::Action\n"
    (tmp_path / "movies.dat").write_text(movies, encoding=encoding)
    table, cleaned = read(tmp_path)
    assert table.titles == ("Les Misérables", "The Matrix")
    assert table.movies.genres_of(0) == ("Children", "Drama")
    (tmp_path / "csv").mkdir()
    assert cleaned.digest == read(write(tmp_path / "csv"))[1].digest


def test_reads_the_layout_of_100k(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("7\t20\t4\t100\n")
    flags = {10: "1" + "|0" * 18, 20: "0|0|0|0|1" + "|0" * 13 + "|1"}
    items = [f"{one}|Été, L' (1995)|01-Jan-1995||http://|{flags[one]}" for one in flags]
    (tmp_path / "u.item").write_text("\n".join(items), encoding="latin-1")
    table, cleaned = read(tmp_path)
    assert table.titles == ("L'Été", "L'Été")
    assert [table.movies.genres_of(row) for row in (0, 1)] == [(), ("Children", "Western")]
    assert table.movies.genre_bits[0] == 1
    assert cleaned.counts.kept == 1


def test_a_folder_without_files_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    with pytest.raises(DataError, match=r"is not a data set: expected ratings\.csv and movies\.csv, or"):
        layout_of(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        layout_of(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mark", lambda text: "\ufeff" + text),
        ("crlf", lambda text: text.replace("\n", "\r\n")),
        ("both", lambda text: "\ufeff" + text.replace("\n", "\r\n")),
        ("empty lines", lambda text: text + "\n\n"),
        ("no end of line", lambda text: text.rstrip("\n")),
    ],
)
def test_accepts_what_editors_do_to_files(tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    plain = read(write(tmp_path))
    changed = read(write(tmp_path, ratings=change(RATINGS), movies=change(MOVIES)))
    assert changed[1].digest == plain[1].digest
    assert changed[1].counts == plain[1].counts
    assert changed[0].titles == plain[0].titles


@pytest.mark.parametrize(
    "ratings",
    [
        "timestamp,movieId,extra,userId,rating\n100,20,x,7,4.0\n50,10,x,7,3.5\n70,20,x,3,0.5\n",
        'userId,movieId,rating,timestamp\n"7","20","4.0","100"\n7,10,3.5,50\n3,20,0.5,70\n',
        RATINGS_HEADER + "7,20,4.0,100.0\n 7 ,10.0, 3.5 ,50.9\n+3,20,5e-1,70\n",
        RATINGS_HEADER + "\n7,20,4.0,100\n\n7,10,+3.5,50\n3,20,.5,70\n",
    ],
    ids=["other order", "quoted", "other ways to write numbers", "empty lines between"],
)
def test_accepts_other_ways_to_write_the_same(tmp_path: Path, ratings: str) -> None:
    plain = read(write(tmp_path))[1]
    other = read(write(tmp_path, ratings=ratings))[1]
    assert (other.digest, other.counts) == (plain.digest, plain.counts)


# Cleaning


def test_the_last_of_repeated_ratings_wins(tmp_path: Path) -> None:
    rows = "1,10,1.0,200\n1,10,5.0,100\n2,10,2.0,100\n2,10,4.0,100\n2,10,3.0,100\n"
    _, cleaned = read(write(tmp_path, RATINGS_HEADER + rows))
    assert cleaned.ratings.values.tolist() == [1.0, 4.0]
    assert cleaned.ratings.times.tolist() == [200, 100]
    assert (cleaned.counts.read, cleaned.counts.repeated, cleaned.counts.kept) == (5, 3, 2)


def test_ratings_of_unknown_movies_are_dropped_and_counted(tmp_path: Path) -> None:
    _, cleaned = read(write(tmp_path, RATINGS + "9,99,3.0,1\n"))
    assert (cleaned.counts.unknown_movies, cleaned.counts.kept) == (1, 3)
    assert cleaned.ratings.users.ids.tolist() == [3, 7]


def test_times_ahead_of_the_clock_are_counted_and_kept(tmp_path: Path) -> None:
    rows = f"1,10,3.0,{NOW + 86_400}\n2,10,3.0,{NOW + 86_401}\n3,10,3.0,{2**32 - 1}\n"
    _, cleaned = read(write(tmp_path, RATINGS_HEADER + rows))
    assert (cleaned.counts.future_times, cleaned.counts.kept) == (2, 3)


def test_a_few_ratings_out_of_range_are_dropped(tmp_path: Path) -> None:
    bad = {5: "5,10,0.0,5", 9: "9,10,NaN,9", 11: "11,10,,11", 12: "12,10,3.0,-1", 13: "13,10,inf,"}
    _, cleaned = read(write(tmp_path, many(5_000, bad)))
    assert (cleaned.counts.read, cleaned.counts.out_of_range, cleaned.counts.kept) == (5_000, 5, 4_995)


def test_more_of_them_fail_with_rule_and_lines(tmp_path: Path) -> None:
    bad = {line: f"{line},10,5.5,1" for line in range(100, 112)}
    bad |= {7: "7,10,nan,1", 8: "8,10,3.0,-5", 9: "9,10,3.0,4294967296"}
    text = message(write(tmp_path, many(5_000, bad)))
    assert (
        "ratings.csv lines 7, 100, 101, 102, 103, 104, 105, 106, 107, 108 and 3 more: rating must be" in text
    )
    assert "ratings.csv lines 8, 9: timestamp must be whole seconds from 0 to 4294967295" in text


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    assert "none of the 1 ratings is left" in message(write(tmp_path, RATINGS_HEADER + "9,99,3.0,1\n"))


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


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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


# What fails


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ("", "ratings.csv: wrong columns: expected userId, movieId, rating, timestamp; found none"),
        ("\n7,20,4.0,100\n", "found none: the first line is empty"),
        ("user,movie,rating,timestamp\n1,10,3,1\n", "found user, movie, rating, timestamp"),
        ("userId;movieId;rating;timestamp\n1;10;3;1\n", "found userId;movieId;rating;timestamp"),
        ("userId,movieId,rating\n1,10,3\n", "found userId, movieId, rating"),
        ("userId,userId,movieId,rating,timestamp\n1,1,10,3,1\n", "found userId, userId,"),
        ("1,10,3.0,100\n", "found 1, 10, 3.0, 100"),
        (RATINGS_HEADER, "ratings.csv: there are no ratings in it"),
        (RATINGS_HEADER.rstrip(), "ratings.csv: there are no ratings in it"),
        (RATINGS_HEADER + "\n\n", "ratings.csv: there are no ratings in it"),
        (RATINGS + "x,10,3.0,1\n", "ratings.csv line 5: userId must be a whole number from 1"),
        (RATINGS + "\n1.5,10,3.0,1\n", "ratings.csv line 6: userId must be"),
        (RATINGS + ",10,3.0,1\n", "ratings.csv line 5: userId must be"),
        (RATINGS + "0,10,3.0,1\n-3,10,3.0,1\n", "ratings.csv lines 5, 6: userId must be"),
        (RATINGS + "9223372036854775808,10,3.0,1\n", "ratings.csv line 5: userId must be"),
        (
            RATINGS + f"1,{MAX_MOVIE_ID + 1},3.0,1\n",
            "line 5: movieId must be a whole number from 1 to 2147483647",
        ),
        (RATINGS + "1,0,3.0,1\n", "ratings.csv line 5: movieId must be"),
        (RATINGS + "1,10,good,1\n", "ratings.csv line 5: rating must be a number"),
        (RATINGS + "1,10,3.0,today\n", "ratings.csv line 5: timestamp must be whole seconds"),
        (RATINGS + "1,10,3.0\n1,10,3.0,1,1\n", "ratings.csv lines 5, 6: must have 4 fields"),
        (RATINGS + "\n1,10,3,5,1\n", "ratings.csv line 6: must have 4 fields"),
        (RATINGS + "1,10,6.0,1\n", "ratings.csv line 5: rating must be 0.5 to 5"),
        (RATINGS.replace("100\n", "964982703000\n"), "line 2: timestamp must be whole seconds from 0 to"),
    ],
)
def test_unusable_ratings_fail_with_a_place_and_a_rule(tmp_path: Path, ratings: str, expected: str) -> None:
    assert expected in message(write(tmp_path, ratings))


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


def test_columns_of_the_old_layout_are_checked_first(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1,10,3,5\n")
    (tmp_path / "movies.dat").write_text("10::Film (1999)\n")
    text = message(tmp_path)
    assert "wrong columns: expected 'UserID::MovieID::Rating::Timestamp', found '1,10,3,5'" in text
    assert "movies.dat" not in text


def test_lines_of_the_old_layout_count_from_one(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::10::3::5\n1:2::10::3::5\n1::10::3\n")
    (tmp_path / "movies.dat").write_text("10::Film (1999)\n11::Film (1999)::Drama\n")
    text = message(tmp_path)
    assert "ratings.dat line 2: UserID must be a whole number" in text
    assert "ratings.dat line 3: must have 4 fields" in text
    assert "movies.dat line 1: wrong number of fields" in text


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    rows = "x,10,3.0,1\n1,10,3.0,today\n1,10,9.0,1\n1,10\n1,0,3.0,1\n"
    text = message(
        write(tmp_path, RATINGS_HEADER + rows, MOVIES + "0,Title,Drama\n", links="movieId,tmdbId\n1,x\n")
    )
    assert text.splitlines()[0] == f"The data set in {tmp_path} cannot be used:"
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "movies.csv line 5: movieId must be a whole number from 1 to 2147483647",
        "links.csv line 2: tmdbId must be a whole number or empty",
        "ratings.csv line 5: must have 4 fields",
        "ratings.csv line 3: timestamp must be whole seconds",
        "ratings.csv line 2: userId must be a whole number from 1",
        "ratings.csv line 6: movieId must be a whole number from 1 to 2147483647",
        "ratings.csv line 4: rating must be 0.5 to 5",
    ]


# Real data


def test_reads_ml_latest_small() -> None:
    folder = os.environ.get("MOVIEREC_DATA_DIR")
    if not folder or Path(folder).name != "ml-latest-small":
        pytest.skip("MOVIEREC_DATA_DIR does not name ml-latest-small")
    table, cleaned = read(Path(folder))
    assert len(cleaned.ratings.users) == 610
    assert len(cleaned.ratings) == cleaned.counts.read == cleaned.counts.kept == 100_836
    assert len(table.movies.ids) == 9_742
    assert np.count_nonzero(table.tmdb_ids) == 9_734
    titles = dict(zip(table.movies.ids.ids.tolist(), table.titles, strict=True))
    assert titles[2571] == "The Matrix"
    assert not any(", The" in title and title.endswith(", The") for title in table.titles)
    assert np.count_nonzero(table.movies.years == 0) == 12
    assert cleaned.tag("ml-latest-small") == "ml-latest-small-47400542"
