"""How a data set's files are written, where that is not as MovieLens writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

COLUMN_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "userId": "user_id",
        "movieId": "movie_id",
        "rating": "rating",
        "timestamp": "time",
        "title": "title",
        "genres": "genres",
        "tmdbId": "tmdb_id",
    }
)
"""By the name of a column in MovieLens's files: what it is called in `Dialect.columns`."""


@dataclass(frozen=True)
class Dialect:
    """What a user says of the files. Everything unsaid is as MovieLens has it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Names in the first lines, by the values of `COLUMN_KEYS`."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest rating; mapped to 0.5 and 5 stars, and what is between in proportion."""
    genre_separator: str | None = None
    """Between two genres of a movie. None: "|", and what looks like another one is refused."""
    has_times: bool = True
    """Without: no column of times is read, and the ratings of a user have no order."""


MOVIELENS: Final = Dialect()
"""As MovieLens writes them."""
