"""Which movies a request lets through: one meaning of a filter for every process."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Ids
from serving.movies import UNKNOWN_YEAR, Movies, genre_bits


@dataclass(frozen=True)
class MovieFilter:
    """Restricts a list to matching movies; what is unset does not restrict."""

    genres: tuple[str, ...] = ()
    """Keeps movies with at least one of these genres, compared without case."""
    exclude_genres: tuple[str, ...] = ()
    """Drops movies with any of these genres, compared without case."""
    min_year: int | None = None
    """First release year; a movie of unknown year does not match."""
    max_year: int | None = None
    """Last release year; a movie of unknown year does not match."""

    def __bool__(self) -> bool:
        return self != UNRESTRICTED

    def matches(self, movies: Movies) -> npt.NDArray[np.bool_]:
        """Shape (n_movies,): whether each movie of the catalogue matches."""
        mask = np.ones(len(movies.ids), dtype=np.bool_)
        if self.genres:
            mask &= (movies.genre_bits & genre_bits(self.genres, movies.genres)) != 0
        if self.exclude_genres:
            mask &= (movies.genre_bits & genre_bits(self.exclude_genres, movies.genres)) == 0
        if self.min_year is not None or self.max_year is not None:
            mask &= movies.years != UNKNOWN_YEAR
        if self.min_year is not None:
            mask &= movies.years >= self.min_year
        if self.max_year is not None:
            mask &= movies.years <= self.max_year
        return mask


UNRESTRICTED: Final = MovieFilter()


def left_out(movies: Movies, movie_filter: MovieFilter, exclude_movie_ids: Ids) -> npt.NDArray[np.bool_]:
    """Shape (n_movies,), fresh: the movies that do not match, and those that are excluded.

    Args:
        movies: the catalogue.
        movie_filter: what must match.
        exclude_movie_ids: shape (n,), in any order; unknown ids are ignored.
    """
    out = ~movie_filter.matches(movies) if movie_filter else np.zeros(len(movies.ids), np.bool_)
    if exclude_movie_ids.size:
        rows = movies.ids.rows(exclude_movie_ids)
        out[rows[rows >= 0]] = True
    return out
