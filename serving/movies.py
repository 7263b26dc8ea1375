"""What is known of every movie of the catalogue, as arrays: identifiers, years, genres."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from serving.ids import IdMap

GENRES = (
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
"""The genres of MovieLens in the order of the genre bits and flags; the first means "none"."""

NO_GENRE = GENRES[0]
UNKNOWN_YEAR = 0


@dataclass(frozen=True)
class Movies:
    """The catalogue's movies, one row each, ascending movie_id. Every array of a bundle uses these rows."""

    ids: IdMap
    """movie_id against movie row."""
    years: npt.NDArray[np.int16]
    """Shape (n_movies,); release year, 0 when unknown."""
    genre_bits: npt.NDArray[np.uint32]
    """Shape (n_movies,); bit g is set when the movie has genre `GENRES[g]`."""

    def __post_init__(self) -> None:
        if not self.years.shape == self.genre_bits.shape == (len(self.ids),):
            raise ValueError("ids, years and genre_bits must be of one length")

    @cached_property
    def known_years(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies,): release years; NaN when unknown."""
        return np.where(self.years == UNKNOWN_YEAR, np.nan, self.years).astype(np.float32)

    def genres_of(self, row: int) -> tuple[str, ...]:
        """Genre names of one movie; empty when none is listed."""
        return _names(self.genre_bits.item(row))

    def genre_flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, 20): 1 where the movie has the genre, in the order of `GENRES`."""
        shifts = np.arange(len(GENRES), dtype=np.uint32)
        return (self.genre_bits[:, None] >> shifts & 1).astype(np.float32)


@cache  # of as many values as there are combinations of genres
def _names(bits: int) -> tuple[str, ...]:
    return tuple(name for g, name in enumerate(GENRES) if bits >> g & 1 and name != NO_GENRE)


def genre_bits(names: list[str] | tuple[str, ...]) -> int:
    """Bits of the named genres, compared without case; unknown names have none."""
    wanted = {name.casefold() for name in names}
    return sum(1 << g for g, name in enumerate(GENRES) if name.casefold() in wanted)
