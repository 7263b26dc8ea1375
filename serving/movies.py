"""What is known of every movie of the catalogue, as arrays: identifiers, years, genres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import IdMap

MOVIELENS_GENRES: Final = (
    "(no genres listed)",
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "IMAX",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The genres of MovieLens; the first means "none"."""

NO_GENRE: Final = MOVIELENS_GENRES[0]
MAX_GENRES: Final = 64
"""Genres of a catalogue at the most, `NO_GENRE` included: one bit each."""
UNKNOWN_YEAR: Final = 0


@dataclass(frozen=True)
class Movies:
    """The catalogue's movies, one row each, ascending movie_id. Every array of a bundle uses these rows."""

    ids: IdMap
    """movie_id against movie row."""
    years: npt.NDArray[np.int16]
    """Shape (n_movies,); release year, 0 when unknown."""
    genre_bits: npt.NDArray[np.uint64]
    """Shape (n_movies,); bit g is set when the movie has genre `genres[g]`."""
    genres: tuple[str, ...] = MOVIELENS_GENRES
    """The catalogue's own, at most 64, in the order of bits and flags; the first is `NO_GENRE`."""

    def __post_init__(self) -> None:
        if not self.years.shape == self.genre_bits.shape == (len(self.ids),):
            raise ValueError("ids, years and genre_bits must be of one length")
        if len(self.genres) > MAX_GENRES or self.genres[:1] != (NO_GENRE,):
            raise ValueError(f"genres must be at most {MAX_GENRES}, and the first {NO_GENRE!r}")

    @cached_property
    def known_years(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies,): release years; NaN when unknown."""
        return np.where(self.years == UNKNOWN_YEAR, np.nan, self.years).astype(np.float32)

    def genres_of(self, row: int) -> tuple[str, ...]:
        """Genre names of one movie; empty when none is listed."""
        return self.names_by_bits[self.genre_bits.item(row)]

    def genre_flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres): 1 where the movie has the genre, in the order of `genres`."""
        shifts = np.arange(len(self.genres), dtype=np.uint64)
        return (self.genre_bits[:, None] >> shifts & np.uint64(1)).astype(np.float32)

    @cached_property
    def used_genres(self) -> tuple[str, ...]:
        """Genres that at least one movie has, `NO_GENRE` included where one has none."""
        used = np.bitwise_or.reduce(self.genre_bits, initial=np.uint64(0))
        return _names(int(used), self.genres)

    @cached_property
    def names_by_bits(self) -> Mapping[int, tuple[str, ...]]:
        """Genre names by bits: as many as there are combinations of genres."""
        return {
            bits: tuple(name for name in _names(bits, self.genres) if name != NO_GENRE)
            for bits in np.unique(self.genre_bits).tolist()
        }


def _names(bits: int, genres: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for g, name in enumerate(genres) if bits >> g & 1)


def genre_bits(names: Sequence[str], genres: Sequence[str] = MOVIELENS_GENRES) -> np.uint64:
    """Bits of the named ones among `genres`, compared without case; unknown names have none."""
    wanted = {name.casefold() for name in names}
    return np.uint64(sum(1 << g for g, name in enumerate(genres) if name.casefold() in wanted))
