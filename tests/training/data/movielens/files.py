"""Data sets small enough to check by hand."""

from pathlib import Path

import pytest

from training.data.movielens.cleaning import CleanRatings
from training.data.movielens.data_set import read_data_set
from training.data.movielens.dialect import MOVIELENS, Dialect
from training.data.movielens.movies import MovieTable
from training.data.movielens.problems import DataError

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


def read(folder: Path, dialect: Dialect = MOVIELENS) -> tuple[MovieTable, CleanRatings]:
    return read_data_set(folder, dialect, now=NOW)


def message(folder: Path, dialect: Dialect = MOVIELENS) -> str:
    with pytest.raises(DataError) as error:
        read(folder, dialect)
    return str(error.value)
