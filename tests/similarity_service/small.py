"""Six movies; two neighbours each are stored."""

import numpy as np

from serving.bundle.neighbours import NeighboursContent
from serving.ids import IdMap
from serving.movies import Movies, genre_bits
from similarity_service.neighbours import SimilarityIndex

MOVIES = Movies(
    ids=IdMap([10, 20, 30, 40, 50, 60]),
    years=np.array([1990, 1991, 1992, 1993, 1994, 0], dtype=np.int16),
    genre_bits=np.array(
        [
            genre_bits(names)
            for names in (["Drama"], ["Drama"], ["War"], ["Drama", "War"], ["War"], ["(no genres listed)"])
        ],
        dtype=np.uint64,
    ),
)
ITEM_FACTORS = np.array([[2, 0], [1, 0], [3, 4], [0, 0], [0, -1], [0, 0]], dtype=np.float32)
"""40 and 60 are cold. Cosines to 10: 20 1, 30 0.6, 50 0."""

NEIGHBOURS = NeighboursContent(
    movie_rows=np.array([[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [-1, -1]], dtype=np.int32),
    scores=np.array([[1, 0.6], [1, 0.6], [0.6, 0.6], [0.5, 0.5], [0, 0], [0, 0]], dtype=np.float32),
)


def index() -> SimilarityIndex:
    """An index over all this."""
    return SimilarityIndex(bundle_id="b", movies=MOVIES, item_factors=ITEM_FACTORS, neighbours=NEIGHBOURS)
