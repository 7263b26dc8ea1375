"""A data set, read, checked and cleaned: ratings, and the catalogue that they refer to."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import structlog

from training.data.movielens.cleaning import CleanRatings, clean
from training.data.movielens.dialect import MOVIELENS, Dialect
from training.data.movielens.headers import check_columns, spoken
from training.data.movielens.layouts import LINKS, layout_of
from training.data.movielens.movies import MovieTable, movie_table, read_links, read_movies
from training.data.movielens.problems import DataError, Problems
from training.data.movielens.ratings import read_ratings

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


def read_data_set(
    folder: Path, dialect: Dialect = MOVIELENS, *, now: float | None = None
) -> tuple[MovieTable, CleanRatings]:
    """Reads the catalogue and the ratings, checks both, and cleans the ratings.

    The present is `now`, in Unix seconds, or what the clock says.

    Raises:
        DataError: all that is wrong, in all files at once; wrong columns before all else.
    """
    layout = spoken(layout_of(folder), dialect)
    problems = Problems(folder)
    try:
        check_columns(folder, layout, dialect, problems)
        problems.raise_any()
        movies = read_movies(folder / layout.movies, dialect, problems)
        links = read_links(folder / LINKS, dialect, problems)
        ratings, out_of_range = read_ratings(folder / layout.ratings, layout, dialect.rating_scale, problems)
    except OSError as error:  # gone, or not ours to read
        raise DataError(f"{error.filename}: {error.strerror}") from error
    problems.raise_any()
    table = movie_table(movies, links)
    moment = time.time() if now is None else now
    cleaned = clean(ratings, out_of_range, table.movies.ids, now=int(moment))
    if not cleaned.counts.kept:
        problems.add(layout.ratings, f"none of the {cleaned.counts.read:,} ratings is left after cleaning")
        problems.raise_any()
    _logger.info("ratings cleaned", **asdict(cleaned.counts), digest=cleaned.digest)
    return table, cleaned
