"""What a movie is, and how it was rated."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.genre import GenreFeatures
from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.movies import NO_GENRE

_STATISTICS: Final = (
    Feature("movie_avg_rating", "rated {value:.1f} stars on average", unknown="rated by nobody"),
    Feature("movie_rating_std", "its ratings differ by {value:.1f} stars", unknown="rated by nobody"),
    Feature("movie_num_ratings", "rated {value:.0f} times", "never rated", one="rated once"),
    Feature("movie_num_users", "rated by {value:.0f} users", "rated by nobody", one="rated by 1 user"),
    Feature(
        "movie_popularity",
        "its mean stars plus the logarithm of how often it was rated are {value:.2f}",
        "rated by nobody",
    ),
    Feature("year", "released in {value:.0f}", unknown="of an unknown year"),
    Feature(
        "movie_age",
        "{value:.0f} years older than the newest rating",
        "not older than the newest rating",
        "of an unknown year",
        "1 year older than the newest rating",
    ),
    Feature("decade", "from the {value:.0f}s", unknown="of an unknown decade"),
    Feature("title_length", "a title of {value:.0f} characters"),
    Feature("num_genres", "{value:.0f} genres", "no genre listed", one="1 genre"),
)


def _genre_flags(genres: Sequence[str]) -> Iterator[Feature]:
    taken = {"genre_", *(feature.name for feature in GenreFeatures.FEATURES)}
    for place, genre in enumerate(genres):
        name = f"genre_{re.sub(r'[^0-9a-z]+', '_', genre.lower()).strip('_')}"
        if name in taken:  # of another genre that differs in signs alone, or there is no Latin letter in it
            name = f"{name.rstrip('_')}__{place}"
        taken.add(name)
        text = genre.replace("{", "{{").replace("}", "}}")
        if genre == NO_GENRE:
            yield Feature(name, "no genre listed", "genres are listed")
        else:
            yield Feature(name, f"of the genre {text}", f"not of the genre {text}")


@dataclass(frozen=True)
class MovieFeatures(FeatureGroup):
    """Statistics of the movie's ratings, its age, and a flag per genre."""

    NAME: ClassVar = "movie"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = _STATISTICS

    values: npt.NDArray[np.float32]
    """Shape (n_movies, len(features)); NaN where unknown."""

    @classmethod
    @override
    def features_for(cls, genres: Sequence[str]) -> tuple[Feature, ...]:
        return (*cls.FEATURES, *_genre_flags(genres))

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        out[:] = self.values.take(call.movie_rows, axis=0).T
