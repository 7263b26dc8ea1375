"""Five movies, two users, and a ranker that turns the order of retrieval around."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ranking_service.ranking import Ranker
from serving.bundle.ranker import RankerContent
from serving.features.group import CatalogueArrays
from serving.features.movie import MovieFeatures
from serving.features.sets import FeatureSet, feature_names
from serving.features.tables import FeatureTables
from serving.ids import IdMap
from serving.leaf_tables import LeafTables
from serving.movies import MOVIELENS_GENRES, Movies
from serving.ratings import Ratings

MOVIES = Movies(
    ids=IdMap([10, 20, 30, 40, 50]),
    years=np.array([1990, 1991, 1992, 0, 1994], dtype=np.int16),
    genre_bits=np.full(5, 2, dtype=np.uint64),
)
DIRECTIONS = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0.6, 0.8]], dtype=np.float32)
"""10 and 20 are alike, 30 is at a right angle, 40 is cold, 50 lies between."""

RATINGS = Ratings(
    users=IdMap([1, 2]),
    indptr=np.array([0, 1, 1]),
    movie_rows=np.array([1], dtype=np.int32),
    values=np.array([5], dtype=np.float32),
    times=np.array([100]),
)
"""User 1 likes 20; user 2 has rated nothing."""

ALS_SCORE = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES).index("als_score")
"""Column of the retrieval score."""
YEAR = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES).index("year")
"""Column of the year, missing for movie 40."""
USER_MEAN = feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES).index("user_avg_rating")
"""Column of the user's mean rating."""


class ReversingModel:
    """Scores a movie the higher, the lower retrieval put it; stands in for CatBoost."""

    def __init__(self) -> None:
        self.seen: list[npt.NDArray[np.float32]] = []

    def predict(self, features: npt.NDArray[np.float32], **_options: Any) -> npt.NDArray[np.float64]:
        """CatBoost's method."""
        assert features.flags.f_contiguous
        assert features.dtype == np.float32
        self.seen.append(features)
        return -features[:, ALS_SCORE].astype(np.float64)


def ranker(model: Any = None) -> Ranker:
    """A ranker over all this."""
    movie_values = np.zeros((5, len(MovieFeatures.features_for(MOVIELENS_GENRES))), dtype=np.float32)
    year = [feature.name for feature in MovieFeatures.features_for(MOVIELENS_GENRES)].index("year")
    movie_values[:, year] = [1990, 1991, 1992, np.nan, 1994]
    # 20 leads to 30, and nothing else to anything
    links = {
        "indptr": np.array([0, 0, 1, 1, 1, 1]),
        "movie_rows": np.array([2], np.int32),
        "weights": np.array([0.5], np.float32),
    }
    arrays: dict[str, dict[str, npt.NDArray[Any]]] = {
        "movie": {"values": movie_values},
        "transitions": links,
        "ease": {"sources": np.zeros((5, 1), np.int32), "weights": np.zeros((5, 1), np.float32)},
        "time": {
            "first_times": np.zeros(5),
            "recent_ratings": np.zeros((5, 1), dtype=np.int32),
            "span": np.zeros(2, np.int64),
        },
    }
    catalogue = CatalogueArrays(MOVIES, DIRECTIONS)
    groups = (group(catalogue, **arrays.get(group.NAME, {})) for group in FeatureSet.EXTENDED.groups)
    # Three trees of one split each. A leaf's contribution is that of its one feature.
    leaf_tables = LeafTables(
        split_features=np.array([[ALS_SCORE], [YEAR], [USER_MEAN]], dtype=np.int32),
        split_borders=np.array([[0.5], [1991.5], [3.0]], dtype=np.float32),
        leaf_features=np.array([[ALS_SCORE], [YEAR], [USER_MEAN]], dtype=np.int32),
        leaf_contributions=np.array([[[0.5], [-2.0]], [[-1.0], [1.0]], [[0.0], [1.0]]]),
        base_value=0.25,
    )
    return Ranker(
        bundle_id="b",
        ratings=RATINGS,
        content=RankerContent(
            model=model or ReversingModel(),
            tables=FeatureTables(catalogue, tuple(groups)),
            leaf_tables=leaf_tables,
        ),
    )
