"""How much a linear model of likes expects the candidate, given what the user likes."""

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import LIKED, History

_ALL: Final = sys.maxsize
_OF_ALL: Final = Feature(
    "ease_likes", "liked by those who like {movie}", "not expected of one with your likes"
)
_OF_LAST: Final = Feature(
    "ease_last10", "liked by those who like {movie}", "not expected of one with your last 10 likes"
)


@dataclass(frozen=True)
class EaseSums(FeatureGroup):
    """EASE's weights to the candidate, from as many of the last likes as each feature counts."""

    LASTS: ClassVar[tuple[int, ...]]
    """Of each feature: how many of the last likes count, falling."""

    sources: Rows
    """Shape (n_movies, n_weights): the movies whose likes say most of each movie, each once."""
    weights: npt.NDArray[np.float32]
    """Shape (n_movies, n_weights): what they say, of either sign; 0 fills the row."""

    def __post_init__(self) -> None:
        if self.sources.shape != self.weights.shape:
            raise ValueError("sources and weights do not belong together")

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        likes = np.zeros(len(self.sources), np.int8)
        for query, rows in call.parts:
            counted = self._counted(query.history, query.movie_rows, likes)
            weights = self.weights.take(query.movie_rows, axis=0)
            for column, of_feature in zip(out, counted, strict=True):
                column[rows] = np.vecdot(weights, of_feature)

    @override
    def movies_behind(self, history: History, movie_rows: Rows, names: Collection[str]) -> Mapping[str, Rows]:
        """The movie with the largest of the weights that were added up."""
        if not self.weights.size:
            return {}
        counted = self._counted(history, movie_rows, np.zeros(len(self.sources), np.int8))
        sources, weights = (of.take(movie_rows, axis=0) for of in (self.sources, self.weights))
        places = np.arange(movie_rows.size)
        behind = {}
        for feature, of_feature in zip(self.FEATURES, counted, strict=True):
            if feature.name not in names:
                continue
            added = weights * of_feature
            largest = added.argmax(axis=1)
            is_liked = added[places, largest] > 0
            behind[feature.name] = np.where(is_liked, sources[places, largest], np.int32(-1))
        return behind

    def _counted(
        self, history: History, movie_rows: Rows, likes: npt.NDArray[np.int8]
    ) -> Iterator[npt.NDArray[np.float32]]:
        """For each feature, which of the movies' sources count: 1 or 0, shape (n_movies, n_weights).

        Args:
            history: of the user.
            movie_rows: shape (n_movies,).
            likes: shape (n_movies of the catalogue,), zeros, and zeros again afterwards.
        """
        liked = history.movie_rows[history.values >= LIKED]
        for level, last in enumerate(self.LASTS, 1):
            likes[liked[-last:]] = level
        # What leads to a candidate is looked up, not where each like leads: likes may be thousands.
        found = likes.take(self.sources.take(movie_rows, axis=0))
        likes[liked] = 0
        return ((found >= level).astype(np.float32) for level in range(1, len(self.LASTS) + 1))


class EaseFeatures(EaseSums):
    """EASE's weights from the movies that the user likes, and from those that they liked last, added up."""

    NAME: ClassVar = "ease"
    VERSION: ClassVar = 1
    FEATURES: ClassVar[tuple[Feature, ...]] = (_OF_ALL, _OF_LAST)
    LASTS: ClassVar = (_ALL, 10)


class EaseLikesFeatures(EaseSums):
    """EASE's weights from the movies that the user likes to the candidate, added up."""

    NAME: ClassVar = "ease_likes"
    VERSION: ClassVar = 1
    FEATURES: ClassVar[tuple[Feature, ...]] = (_OF_ALL,)
    LASTS: ClassVar = (_ALL,)
