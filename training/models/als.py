"""Implicit ALS (Hu, Koren, Volinsky 2008): stage one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from serving.fold_in import AlsParameters, Confidence, FoldIn
from serving.ids import Rows
from serving.ratings import Ratings
from serving.retrieval import Candidates, retrieve

_USERS_PER_PRODUCT = 256
_FEW_USERS = 2_000

REFERENCE_PARAMETERS = AlsParameters(
    factors=128, iterations=20, regularization=0.01, alpha=15.0, confidence=Confidence.LINEAR
)
"""The reference's preset, for comparison: below plain popularity wherever we measured it."""


def default_parameters(n_users: int) -> AlsParameters:
    """What is trained when nothing else is asked for; fewer factors where there are few users."""
    return AlsParameters(
        factors=64 if n_users < _FEW_USERS else 128,
        iterations=15,
        regularization=30.0,
        alpha=5.0,
        confidence=Confidence.LIKES,
    )


@dataclass(frozen=True)
class Als:
    """Fitted factors: the items' from implicit, the users' solved exactly against them."""

    parameters: AlsParameters
    item_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors); a zero row for a movie without ratings."""
    user_factors: npt.NDArray[np.float32]
    """Shape (n_users, n_factors); a zero row for a user whom `FoldIn` has no vector for."""

    @classmethod
    def fit(
        cls,
        ratings: Ratings,
        n_movies: int,
        parameters: AlsParameters,
        *,
        seed: int,
        threads: int,
        progress: Callable[[], None] = lambda: None,
    ) -> "Als":
        """Fits on all ratings given.

        implicit ends on an item step and solves approximately, so that its user vectors are not those
        that folding a history in would give. Every user is solved once more, exactly.

        Args:
            ratings: what may be learned from.
            n_movies: rows of the catalogue.
            parameters: of the model.
            seed: of the random start.
            threads: of the fit; the result does not depend on it.
            progress: called after each iteration.
        """
        model = AlternatingLeastSquares(
            factors=parameters.factors,
            regularization=parameters.regularization,
            alpha=1.0,  # ours is in the confidences
            iterations=parameters.iterations,
            num_threads=threads,
            random_state=seed,
        )
        matrix = csr_matrix(
            (parameters.confidences(ratings.values), ratings.movie_rows, ratings.indptr),
            shape=(len(ratings.users), n_movies),
        )
        model.fit(matrix, show_progress=False, callback=lambda *_: progress())
        item_factors = np.ascontiguousarray(model.item_factors, dtype=np.float32)
        fold_in = FoldIn(item_factors, parameters)
        user_factors = np.zeros((len(ratings.users), parameters.factors), dtype=np.float32)
        for user_row in range(len(ratings.users)):
            vector = fold_in.user_vector(ratings.of(user_row))
            if vector is not None:
                user_factors[user_row] = vector
        return cls(parameters=parameters, item_factors=item_factors, user_factors=user_factors)

    def candidates(self, user_rows: Rows, seen: Ratings, limit: int) -> Iterator[Candidates]:
        """The best unseen movies of each user, in order; none for a user without a vector."""
        cold = ~np.any(self.item_factors, axis=1)
        for start in range(0, len(user_rows), _USERS_PER_PRODUCT):
            rows = user_rows[start : start + _USERS_PER_PRODUCT]
            vectors = self.user_factors[rows]
            blocked = np.tile(cold, (len(rows), 1))
            blocked[~vectors.any(axis=1)] = True
            for mask, user_row in zip(blocked, rows, strict=True):
                mask[seen.of(int(user_row)).movie_rows] = True
            yield from retrieve(self.item_factors, vectors, list(blocked), [limit] * len(rows))
