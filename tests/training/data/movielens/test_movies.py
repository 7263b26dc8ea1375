"""Lines of movies and links that fail with a place and a rule."""

from pathlib import Path

import pytest

from tests.training.data.movielens.files import MOVIES, message, read, write
from training.data.movielens.rules import MAX_MOVIE_ID


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
        (
            MOVIES + "40,Film \x1b[31mred (1999),Drama\n",
            "movies.csv line 5: title must not hold control char",
        ),
        (MOVIES + "40,Fi\x00lm (1999),Drama\n", "movies.csv line 5: title must not hold control characters"),
        # As Spark writes 'Se7en "x" (1995)' and 'Vinyl 12"': fields end elsewhere, and the year is lost.
        (MOVIES + '\n40,"Se7en \\"x\\" (1995)",Drama\n', "movies.csv line 6: cannot be read: "),
        (MOVIES + '40,"Vinyl 12\\"",Drama\n50,"A, B",Drama\n', 'must be written twice, ""'),
        (MOVIES + '40,"Vinyl 12\\"",Drama\n', "movies.csv line 5: cannot be read: "),
        (MOVIES + f'40,"{"x" * 200_000}",Drama\n', "movies.csv line 5: cannot be read: field larger"),
        (MOVIES + f"40,{'x' * 1_001},Drama\n", "movies.csv line 5: title must have at most 1000 characters"),
    ],
)
def test_unusable_movies_fail_with_a_place_and_a_rule(tmp_path: Path, movies: str, expected: str) -> None:
    assert expected in message(write(tmp_path, movies=movies))


@pytest.mark.parametrize("damaged", [b"Ren\xe9", b"Ren\xc3", b"\xff\xfe"])
def test_one_byte_that_is_not_utf_8_does_not_garble_the_other_titles(tmp_path: Path, damaged: bytes) -> None:
    write(tmp_path, movies=MOVIES + "40,Am\u00e9lie (2001),Drama\n50,")
    with (tmp_path / "movies.csv").open("ab") as file:
        file.write(damaged + b" (1999),Drama\n60,Am\xc3\xa9lie 2 (2002),Drama\n")
    assert "movies.csv line 6: must be UTF-8, as other lines are" in message(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_a_file_is_read_in_its_one_encoding(tmp_path: Path, encoding: str) -> None:
    title = "Am\u00e9lie\u2019s" if encoding != "latin-1" else "Am\u00e9lie"
    write(tmp_path)
    (tmp_path / "movies.csv").write_text(MOVIES + f"40,{title} (2001),Drama\n", encoding=encoding)
    table, _ = read(tmp_path)
    assert (table.titles[-1], table.movies.years[-1]) == (title, 2001)


def test_quotes_that_are_written_twice_and_blanks_within_titles_are_read(tmp_path: Path) -> None:
    rows = '40,"Se7en ""x"" (1995)",Drama\n50,"Line\nbreak\tand tab (1996)",Drama\n60,Back\\slash,Drama\n'
    table, _ = read(write(tmp_path, movies=MOVIES + rows))
    assert table.titles[-3:] == ('Se7en "x"', "Line break and tab", "Back\\slash")
    assert table.movies.years[-3:].tolist() == [1995, 1996, 0]


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
