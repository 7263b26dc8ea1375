"""How much a linear model of likes expects the candidate, given what the user likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import LIKED, History

_LAST: Final = 10


@dataclass(frozen=True)
class EaseFeatures(FeatureGroup):
    """EASE's weights from the movies that the user likes to the candidate, added up."""

    NAME: ClassVar = "ease"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("ease_likes", "liked by those who like {movie}", "not expected of one with your likes"),
        Feature(
            "ease_last10", "liked by those who like {movie}", "not expected of one with your last 10 likes"
        ),
    )

    sources: Rows
    """Shape (n_movies, n_weights): the movies whose likes say most of each movie, each once."""
    weights: npt.NDArray[np.float32]
    """Shape (n_movies, n_weights): what they say, of either sign; 0 fills the row."""

    def __post_init__(self) -> None:
        if self.sources.shape != self.weights.shape:
            raise ValueError("sources and weights do not belong together")

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        liking = np.zeros(len(self.sources), np.int8)  # 1 for a like, 2 for one of the last
        for query, rows in zip(call.queries, call.slices, strict=True):
            likes, last_likes = _likes(query.history)
            liking[likes], liking[last_likes] = 1, 2
            # What leads to a candidate is looked up, not where each like leads: likes may be thousands.
            found = liking.take(self.sources.take(query.movie_rows, axis=0)).ravel()
            liking[likes] = 0
            cells = np.flatnonzero(found > 0)
            places, columns = np.divmod(cells, self.sources.shape[1])
            weights = self.weights[query.movie_rows[places], columns]
            for column, counted in zip(out, (weights, weights * (found[cells] > 1)), strict=True):
                column[rows] = np.bincount(places, counted, query.movie_rows.size)

    @override
    def movies_behind(self, history: History, movie_rows: Rows) -> Mapping[str, Rows]:
        """The movie with the largest of the weights that were added up."""
        behind = {}
        for feature, likes in zip(self.FEATURES, _likes(history), strict=True):
            sources = self.sources[movie_rows]
            weights = np.where(np.isin(sources, likes), self.weights[movie_rows], 0)
            weights = np.column_stack([weights, np.zeros(movie_rows.size)])  # the largest of none
            largest = weights.argmax(axis=1)
            sources = np.column_stack([sources, np.full(movie_rows.size, -1)])
            is_liked = weights[np.arange(movie_rows.size), largest] > 0
            found = sources[np.arange(movie_rows.size), largest]
            behind[feature.name] = np.where(is_liked, found, -1).astype(np.int32)
        return behind


def _likes(history: History) -> tuple[Rows, Rows]:
    """All that the user likes, and the last of them."""
    liked = history.movie_rows[history.values >= LIKED]
    return liked, liked[-_LAST:]
