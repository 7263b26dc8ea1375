"""Genres that are not MovieLens's, and separators that are not "|"."""

from pathlib import Path

import pytest

from serving.movies import MAX_GENRES, MOVIELENS_GENRES, NO_GENRE
from tests.training.data.movielens.files import message, read, write
from training.data.movielens.dialect import Dialect

HEADER = "movieId,title,genres\n"


def movies(*genres: str) -> str:
    return HEADER + "".join(f'{10 * row},Film {row},"{one}"\n' for row, one in enumerate(genres, start=1))


def test_foreign_genres_make_the_catalogues_own_list(tmp_path: Path) -> None:
    write(tmp_path, movies=movies("Family|Drama", "History", "Biography | Drama", ""))
    found = read(tmp_path)[0].movies
    assert found.genres == (NO_GENRE, "Biography", "Drama", "Family", "History")
    assert [found.genres_of(row) for row in range(4)] == [
        ("Drama", "Family"),
        ("History",),
        ("Biography", "Drama"),
        (),
    ]
    assert found.genre_bits.tolist() == [0b01100, 0b10000, 0b00110, 0b00001]


def test_genres_of_movielens_keep_its_list_whichever_are_used(tmp_path: Path) -> None:
    write(tmp_path, movies=movies("drama|Children's", "sci-fi"))
    found = read(tmp_path)[0].movies
    assert found.genres == MOVIELENS_GENRES
    assert found.genres_of(0) == ("Children", "Drama")
    assert found.used_genres == ("Children", "Drama", "Sci-Fi")


def test_spellings_that_differ_in_case_are_one_genre_as_most_have_it(tmp_path: Path) -> None:
    write(tmp_path, movies=movies("FAMILY", "Family|DRAMA", "Family"))
    assert read(tmp_path)[0].movies.genres == (NO_GENRE, "Drama", "Family")


@pytest.mark.parametrize("separator", [",", ";", "/", "\t"])
def test_another_separator_is_refused_and_read_when_it_is_named(tmp_path: Path, separator: str) -> None:
    write(tmp_path, movies=movies("Drama", f"Action{separator}Family", f"Drama{separator} Family"))
    refused = message(tmp_path)
    assert f"movies.csv lines 3, 4: genres hold {separator!r}: if it separates them, pass" in refused
    assert f"--genre-separator {separator!r}" in refused
    found = read(tmp_path, Dialect(genre_separator=separator))[0].movies
    assert [found.genres_of(row) for row in range(3)] == [
        ("Drama",),
        ("Action", "Family"),
        ("Drama", "Family"),
    ]


def test_a_sign_may_be_part_of_a_name(tmp_path: Path) -> None:
    write(tmp_path, movies=movies("Anime/Manga|Drama"))
    assert read(tmp_path)[0].movies.genres_of(0) == ("Anime/Manga", "Drama")
    write(tmp_path, movies=movies("Sword, Sorcery|Drama"))
    assert "line 2: genres hold ','" in message(tmp_path)
    named = read(tmp_path, Dialect(genre_separator="|"))[0].movies
    assert named.genres_of(0) == ("Drama", "Sword, Sorcery")


def test_as_many_genres_as_there_are_bits(tmp_path: Path) -> None:
    names = [f"Genre {place:02}" for place in range(MAX_GENRES)]
    write(tmp_path, movies=movies("|".join(names[:-1]), names[0]))
    found = read(tmp_path)[0].movies
    assert len(found.genres) == MAX_GENRES
    assert found.genres_of(0) == tuple(names[:-1])
    assert found.genre_flags()[0].tolist() == [0, *[1] * (MAX_GENRES - 1)]
    write(tmp_path, movies=movies("|".join(names)))
    assert "movies.csv: genres are 64 different ones; at most 63 can be kept" in message(tmp_path)


def test_a_name_that_no_filter_could_give_is_refused(tmp_path: Path) -> None:
    write(tmp_path, movies=movies("Drama", "x" * 41, "Wa\x07r"))
    assert "movies.csv lines 3, 4: each genre must be 1 to 40 characters" in message(tmp_path)
