"""Five movies, two users, and a ranker that turns the order of retrieval around."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ranking_service.ranking import Ranker
from serving.bundle.ranker import RankerContent
from serving.features import MOVIE_FEATURES, USER_FEATURES, FeatureSet, FeatureTables, MovieLinks
from serving.ids import IdMap
from serving.leaf_tables import LeafTables
from serving.movies import Movies
from serving.ratings import Ratings

MOVIES = Movies(
    ids=IdMap([10, 20, 30, 40, 50]),
    years=np.array([1990, 1991, 1992, 0, 1994], dtype=np.int16),
    genre_bits=np.full(5, 2, dtype=np.uint32),
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

ALS_SCORE = len(USER_FEATURES) + len(MOVIE_FEATURES)
"""Column of the retrieval score."""
YEAR = len(USER_FEATURES) + MOVIE_FEATURES.index("year")
"""Column of the year, missing for movie 40."""
USER_MEAN = 0
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
    movie_features = np.zeros((5, len(MOVIE_FEATURES)), dtype=np.float32)
    movie_features[:, MOVIE_FEATURES.index("year")] = [1990, 1991, 1992, np.nan, 1994]
    no_links = MovieLinks(np.zeros(6, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
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
        movies=MOVIES,
        ratings=RATINGS,
        content=RankerContent(
            model=model or ReversingModel(),
            tables=FeatureTables(
                feature_set=FeatureSet.EXTENDED,
                movie_features=movie_features,
                item_unit_factors=DIRECTIONS,
                transitions=no_links,
                cooccurrence=no_links,
                first_times=np.zeros(5),
                recent_ratings=np.zeros((5, 1), dtype=np.int32),
                oldest_time=0,
                newest_time=0,
            ),
            leaf_tables=leaf_tables,
        ),
    )
