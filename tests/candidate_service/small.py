"""Five movies and three users in two dimensions: every score can be read off."""

import numpy as np

from candidate_service.retrieval import Retriever
from serving.fold_in import AlsParameters, Confidence
from serving.ids import IdMap
from serving.movies import Movies, genre_bits
from serving.ratings import Ratings
from serving.retrieval import finite_factors
from serving.sources import CandidateSources

MOVIES = Movies(
    ids=IdMap([10, 20, 30, 40, 50]),
    years=np.array([1990, 1991, 1992, 0, 1994], dtype=np.int16),
    genre_bits=np.array(
        [genre_bits(names) for names in (["Drama"], ["Drama"], ["War"], ["War"], ["Drama", "War"])],
        dtype=np.uint64,
    ),
)
ITEM_FACTORS = np.array([[1, 0], [2, 0], [0, 1], [0, 0], [1, 1]], dtype=np.float32)
"""Movie 40 is cold."""

PARAMETERS = AlsParameters(
    factors=2, iterations=1, regularization=0.1, alpha=5.0, confidence=Confidence.LIKES
)

RATINGS = Ratings(
    users=IdMap([1, 2, 3]),
    indptr=np.array([0, 1, 2, 4]),
    movie_rows=np.array([1, 2, 0, 2], dtype=np.int32),
    values=np.array([5, 1, 5, 5], dtype=np.float32),
    times=np.array([100, 100, 100, 200]),
)
"""User 1 likes 20, user 2 dislikes 30 and has no vector, user 3 likes 10 and 30."""

USER_FACTORS = np.array([[1, 0], [0, 0], [1, 1]], dtype=np.float32)


def retriever(
    item_factors: np.ndarray[tuple[int, int], np.dtype[np.float32]] = ITEM_FACTORS,
    user_factors: np.ndarray[tuple[int, int], np.dtype[np.float32]] = USER_FACTORS,
    *,
    least_history: int = 0,
    ratings: Ratings = RATINGS,
) -> Retriever:
    """A retriever over all this."""
    return Retriever(
        n_candidates=2,
        least_history=least_history,
        bundle_id="b",
        movies=MOVIES,
        ratings=ratings,
        sources=CandidateSources(finite_factors(item_factors)),
        user_factors=user_factors,
        parameters=PARAMETERS,
    )
