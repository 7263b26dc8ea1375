"""Each layout of MovieLens, read from a file of a few lines."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.data.movielens.files import RATINGS, read, write
from training.data.movielens.cleaning import CleaningCounts
from training.data.movielens.layouts import layout_of
from training.data.movielens.problems import DataError


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


@pytest.mark.row(46)
def test_a_line_that_is_no_line_fails(tmp_path: Path) -> None:
    """Of the layouts that the csv module, which has a limit of its own, does not read."""
    (tmp_path / "ratings.dat").write_text("7::20::4::100\n")
    (tmp_path / "movies.dat").write_text(f"20::Matrix, The (1999)::Action\n30::{'x' * 200_000}::Drama\n")
    with pytest.raises(DataError, match=r"movies\.dat line 2: must have at most 131072 characters"):
        read(tmp_path)


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
