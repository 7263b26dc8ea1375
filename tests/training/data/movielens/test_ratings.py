"""Lines of ratings that are read, dropped, or fail with a place and a rule."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.training.data.movielens.files import RATINGS, RATINGS_HEADER, message, read, write
from training.data.movielens.rules import MAX_MOVIE_ID


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


def many(n: int, bad: Mapping[int, str]) -> str:
    """A file of n good ratings, with some lines replaced; line 2 is the first rating."""
    lines = [bad.get(line, f"{line},10,3.0,{line}") for line in range(2, n + 2)]
    return RATINGS_HEADER + "\n".join(lines) + "\n"


@pytest.mark.row(45)
def test_a_few_ratings_out_of_range_are_dropped(tmp_path: Path) -> None:
    bad = {5: "5,10,0.0,5", 9: "9,10,NaN,9", 11: "11,10,,11", 12: "12,10,3.0,-1", 13: "13,10,inf,"}
    _, cleaned = read(write(tmp_path, many(5_000, bad)))
    assert (cleaned.counts.read, cleaned.counts.out_of_range, cleaned.counts.kept) == (5_000, 5, 4_995)


@pytest.mark.row(45)
def test_more_of_them_fail_with_rule_and_lines(tmp_path: Path) -> None:
    bad = {line: f"{line},10,5.5,1" for line in range(100, 112)}
    bad |= {7: "7,10,nan,1", 8: "8,10,3.0,-5", 9: "9,10,3.0,4294967296"}
    text = message(write(tmp_path, many(5_000, bad)))
    assert (
        "ratings.csv lines 7, 100, 101, 102, 103, 104, 105, 106, 107, 108 and 3 more: rating must be" in text
    )
    assert "ratings.csv lines 8, 9: timestamp must be whole seconds from 0 to 4294967295" in text


@pytest.mark.row(48)
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
