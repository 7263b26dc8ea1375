"""What a movie is, and how it was rated."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.movies import GENRES, NO_GENRE

_STATISTICS: Final = (
    Feature("movie_avg_rating", "rated {value:.1f} stars on average", unknown="rated by nobody"),
    Feature("movie_rating_std", "its ratings differ by {value:.1f} stars", unknown="rated by nobody"),
    Feature("movie_num_ratings", "rated {value:.0f} times", "never rated"),
    Feature("movie_num_users", "rated by {value:.0f} users", "rated by nobody"),
    Feature("movie_popularity", "popularity of {value:.2f}", "rated by nobody"),
    Feature("year", "released in {value:.0f}", unknown="of an unknown year"),
    Feature("movie_age", "{value:.0f} years old", "of the newest year", unknown="of an unknown year"),
    Feature("decade", "from the {value:.0f}s", unknown="of an unknown decade"),
    Feature("title_length", "a title of {value:.0f} characters"),
    Feature("num_genres", "{value:.0f} genres", "no genre listed"),
)


def _genre_flag(genre: str) -> Feature:
    name = genre.strip("()").lower().replace(" ", "_").replace("-", "_")
    if genre == NO_GENRE:
        return Feature(f"genre_{name}", "no genre listed", "genres are listed")
    return Feature(f"genre_{name}", f"of the genre {genre}", f"not of the genre {genre}")


@dataclass(frozen=True)
class MovieFeatures(FeatureGroup):
    """Statistics of the movie's ratings, its age, and a flag per genre."""

    NAME: ClassVar = "movie"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (*_STATISTICS, *map(_genre_flag, GENRES))

    values: npt.NDArray[np.float32]
    """Shape (n_movies, len(FEATURES)); NaN where unknown."""

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        self._columns.take(call.movie_rows, axis=1, out=out, mode="clip")  # other modes copy `out`

    @cached_property
    def _columns(self) -> Columns:
        """Shape (len(FEATURES), n_movies)."""
        return np.ascontiguousarray(self.values.T)
